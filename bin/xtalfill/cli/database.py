"""`xtalfill database`: import finished runs into a results database, count what it has."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from xtalfill.cli.parser import Commands


def add_parser(commands: Commands) -> None:
    """Add the command `database`."""
    database = commands.add_parser("database", help="import runs into a results database")
    actions = database.add_subparsers(dest="action", required=True)
    add = actions.add_parser("add", help="store every structure of finished runs")
    add.add_argument("outdirs", type=Path, nargs="+", metavar="OUTDIR", help="--outdir of a run")
    status = actions.add_parser("status", help="print what a database has")
    for action in (add, status):
        add_database(action)


def add_database(parser: argparse.ArgumentParser) -> None:
    """Add the option --database, which is required."""
    parser.add_argument(
        "--database", required=True, metavar="URL",
        help="file of SQLite, or postgresql://USER@HOST/NAME",
    )  # fmt: skip


def run(args: argparse.Namespace) -> None:
    """Do what the action says."""
    if args.action == "add":
        from xtalfill.database.finished import import_run

        for outdir in args.outdirs:
            number = import_run(outdir, args.database)
            print(f"{outdir}: {number} structures stored in {args.database}")
        return
    from xtalfill.database.connect import open_database
    from xtalfill.database.query import count

    with open_database(args.database) as database:
        found = count(database)
    for name, value in found.items():
        counts = sorted(value.items()) if isinstance(value, dict) else []
        text = ", ".join(f"{number} {key}" for key, number in counts)
        print(f"{name.replace('_', ' '):<12} {text or value or 'none'}")
