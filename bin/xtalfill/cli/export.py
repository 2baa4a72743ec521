"""`xtalfill export`: restored crystals for other programs."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xtalfill.cli.query import add_filters, filter_of
from xtalfill.core.errors import ConfigError

if TYPE_CHECKING:
    from xtalfill.cli.parser import Commands

FORMATS = {
    "cif": "folder of CIF files with the symmetry of the result",
    "optimade": "OPTIMADE JSON lines",
    "ase": "database of ASE",
    "csv": "results.csv of all structures",
}


def add_parser(commands: Commands) -> None:
    """Add the command `export`."""
    export = commands.add_parser("export", help="write restored crystals for other programs")
    export.add_argument("source", help="results database (file or URL), or --outdir of a run")
    what = "; ".join(f"{name}: {meaning}" for name, meaning in FORMATS.items())
    export.add_argument("--format", choices=FORMATS, required=True, help=what)
    export.add_argument("-o", "--output", type=Path, required=True, help="file or folder to write")
    export.add_argument("--dft", action="store_true", help="the crystals that pw.x relaxed")
    add_filters(export)


def run(args: argparse.Namespace) -> None:
    """Write the file and print how much it has.

    Raises:
        ConfigError: A folder of results is to be filtered, or the output cannot be written.
    """
    from xtalfill.database.export import (
        restored,
        write_ase,
        write_cifs,
        write_optimade,
        write_table,
    )

    writers = {"cif": write_cifs, "optimade": write_optimade, "ase": write_ase}
    if not args.output.absolute().parent.is_dir():
        raise ConfigError(f"{args.output}: there is no folder {args.output.absolute().parent}")
    with _rows(args) as rows:
        if args.format == "csv":
            number = write_table(rows, args.output)
        else:
            number = writers[args.format](restored(rows, dft=args.dft), args.output)
    print(f"{args.output}: {number} {'rows' if args.format == 'csv' else 'structures'}")


@contextmanager
def _rows(args: argparse.Namespace) -> Iterator[Iterable[Mapping[str, Any]]]:
    """Yield the structures of the source."""
    from xtalfill.database.connect import open_database
    from xtalfill.database.export import finished_columns
    from xtalfill.database.query import Filter, read

    wanted, folder = filter_of(args), Path(args.source)
    if "://" not in args.source and folder.is_dir():
        if wanted != Filter():
            raise ConfigError(
                f"{folder}: only a results database can be filtered; import the run first "
                "(xtalfill database add)"
            )
        yield finished_columns(folder)
        return
    with open_database(args.source) as database:
        yield read(database, wanted)
