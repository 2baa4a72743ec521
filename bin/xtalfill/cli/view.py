"""`xtalfill view`: open the report of a finished run in the browser."""

from __future__ import annotations

import argparse
import webbrowser
from pathlib import Path
from typing import TYPE_CHECKING

from xtalfill.core.errors import InputError

if TYPE_CHECKING:
    from xtalfill.cli.parser import Commands


def add_parser(commands: Commands) -> None:
    """Add the command `view`."""
    view = commands.add_parser("view", help="open the report of a run in the browser")
    view.add_argument("results", type=Path, help="--outdir of a finished run, or its report.html")


def run(args: argparse.Namespace) -> None:
    """Open the report, or print its path where there is no browser.

    Raises:
        InputError: There is no report.
    """
    report = args.results / "report.html" if args.results.is_dir() else args.results
    if report.suffix != ".html" or not report.is_file():
        raise InputError(
            f"{args.results}: no report.html here; give the --outdir of a finished run"
        )
    if not webbrowser.open(report.resolve().as_uri()):
        print(report.resolve())
