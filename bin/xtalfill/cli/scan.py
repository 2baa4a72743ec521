"""`xtalfill scan`: list the structures of a database whose hydrogen is missing or suspect."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from xtalfill.cli.parser import Commands


def add_parser(commands: Commands) -> None:
    """Add the command `scan`."""
    scan = commands.add_parser(
        "scan",
        help="list the structures of a database that lack hydrogen or another element",
        description="Judge every structure; write scan.csv, and hosts.csv as input of a fill.",
    )
    scan.add_argument("input", help="an input of the pipeline: file, folder or URL")
    scan.add_argument("-o", "--outdir", type=Path, default=Path("scan"), help="folder to write")


def run(args: argparse.Namespace) -> None:
    """Scan the input and print the number of structures of each status."""
    from xtalfill.results.scan import MISSING, SHEET, TABLE, scan

    findings = scan(args.input, args.outdir)
    counts = findings.counts
    found = ", ".join(f"{number} {status}" for status, number in sorted(counts.items()))
    print(f"{counts.total()} structures: {found}")
    print(f"{args.outdir / TABLE}: every structure; {args.outdir / SHEET}: those to fill")
    if findings.n_uncounted:
        print(
            f"rows without n_missing: {findings.n_uncounted} of {counts[MISSING]}, where the "
            f"evidence does not decide it; write the numbers into {args.outdir / SHEET} before "
            "you fill it, else these rows are skipped"
        )
