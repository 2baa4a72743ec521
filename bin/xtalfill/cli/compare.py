"""`xtalfill compare`: compare the success rates of several runs."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from xtalfill.core.errors import ConfigError

if TYPE_CHECKING:
    from xtalfill.cli.parser import Commands


def add_parser(commands: Commands) -> None:
    """Add the command `compare`."""
    compare = commands.add_parser("compare", help="compare the success rates of several runs")
    compare.add_argument(
        "runs", nargs="+", metavar="LABEL=OUTDIR", help="a label and the --outdir of a finished run"
    )
    compare.add_argument("--output", type=Path, help="JSON file for the same results")


def run(args: argparse.Namespace) -> None:
    """Compare the runs and print a Markdown table."""
    from xtalfill.core.io import write_json
    from xtalfill.results.compare import compare_runs, markdown

    runs: dict[str, Path] = {}
    for text in args.runs:
        label, equals, outdir = text.partition("=")
        if not (label and equals and outdir) or label in runs:
            raise ConfigError(f"{text}: give each run as LABEL=OUTDIR, with distinct labels")
        runs[label] = Path(outdir)
    comparison = compare_runs(runs)
    if args.output is not None:
        write_json(args.output, comparison)
    print(markdown(comparison), end="")
