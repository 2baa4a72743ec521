"""`xtalfill query`: find structures in a results database."""

from __future__ import annotations

import argparse
import csv
import json
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from xtalfill.cli.database import add_database
from xtalfill.core.errors import ConfigError

if TYPE_CHECKING:
    from xtalfill.cli.parser import Commands
    from xtalfill.database.query import Filter

COLUMNS = (
    "name", "formula", "status", "energy", "energy_gap", "dft_status", "dft_energy", "stored",
)  # fmt: skip
ODDS = ("confidence", "confidence_match")  # of the best row of results.csv


def add_parser(commands: Commands) -> None:
    """Add the command `query`."""
    query = commands.add_parser("query", help="find structures in a results database")
    add_database(query)
    add_filters(query)
    query.add_argument("--all", action="store_true", help="earlier results of a structure, too")
    query.add_argument("--format", choices=("table", "csv", "json"), default="table")


def add_filters(parser: argparse.ArgumentParser) -> None:
    """Add the options that choose structures."""
    parser.add_argument("--formula", help="in any order and multiple, as 'Mg(OH)2'")
    parser.add_argument("--element", action="append", default=[], help="repeat for several")
    parser.add_argument("--id", action="append", default=[], help="repeat for several")
    parser.add_argument("--status", choices=("ok", "unconverged", "failed", "refused"))
    parser.add_argument("--dft_status", choices=("ok", "unconverged", "failed", "refused"))
    for name, column in (("confidence", "confidence"), ("match", "confidence_match")):
        for end, words in (("min", "at least"), ("max", "at most")):
            parser.add_argument(
                f"--{end}_{name}", type=float, help=f"`{column}` of results.csv, {words} (0 to 1)"
            )
    parser.add_argument("--min_gap", type=float, help="eV per cell to the next minimum, at least")
    parser.add_argument("--max_gap", type=float, help="eV per cell to the next minimum, at most")
    parser.add_argument("--limit", type=int, help="the most structures")


def filter_of(args: argparse.Namespace) -> Filter:
    """Return what the options choose.

    Raises:
        ConfigError: --limit is below 1.
    """
    from xtalfill.database.query import Filter

    if args.limit is not None and args.limit < 1:
        raise ConfigError(f"--limit is {args.limit}; it is at least 1")
    return Filter(
        formula=args.formula,
        elements=tuple(args.element),
        ids=tuple(args.id),
        status=args.status,
        dft_status=args.dft_status,
        min_confidence=args.min_confidence,
        max_confidence=args.max_confidence,
        min_match=args.min_match,
        max_match=args.max_match,
        min_gap=args.min_gap,
        max_gap=args.max_gap,
        all_versions=getattr(args, "all", False),
        limit=args.limit,
    )


def run(args: argparse.Namespace) -> None:
    """Print the structures that the options choose."""
    from xtalfill.database.connect import open_database
    from xtalfill.database.query import read

    wanted = filter_of(args)
    with open_database(args.database) as database:
        found = (_shown(row) for row in read(database, wanted))
        if args.format == "json":
            for row in found:
                print(json.dumps(row))
        elif args.format == "csv":
            writer = csv.writer(sys.stdout, lineterminator="\n")
            writer.writerows(_lines(found))
        else:
            _print_table(found)


def _shown(row: dict[str, Any]) -> dict[str, Any]:
    best: dict[str, Any] = next(iter(row["results"]), {})
    return {name: row[name] for name in COLUMNS} | {name: best.get(name) for name in ODDS}


def _lines(rows: Iterable[dict[str, Any]]) -> Iterable[Sequence[str]]:
    names = (*COLUMNS, *ODDS)
    yield names
    for row in rows:
        yield ["" if row[name] is None else str(row[name]) for name in names]


def _print_table(rows: Iterable[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table

    shown = [name for name in (*COLUMNS, *ODDS) if name != "stored"]
    table = Table(*(name.replace("_", " ") for name in shown))
    for row in rows:
        cells = (row[name] for name in shown)
        table.add_row(
            *(f"{cell:.3f}" if isinstance(cell, float) else str(cell or "") for cell in cells)
        )
    Console().print(table)
    print(f"{table.row_count} structures")
