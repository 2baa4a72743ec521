"""`xtalfill compare`: the success rates of several runs side by side."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from xtalfill.core.errors import ConfigError

if TYPE_CHECKING:
    from xtalfill.cli.parser import Commands


def add_parser(commands: Commands) -> None:
    """Add the command `compare`."""
    compare = commands.add_parser(
        "compare", help="set the success rates of several runs side by side"
    )
    compare.add_argument(
        "runs", nargs="+", metavar="LABEL=OUTDIR", help="a name and the --outdir of a finished run"
    )
    compare.add_argument("--output", type=Path, help="JSON file with everything that is printed")


def run(args: argparse.Namespace) -> None:
    """Compare the runs and print a Markdown table."""
    from xtalfill.core.io import write_json
    from xtalfill.results.compare import compare_runs, markdown

    runs: dict[str, Path] = {}
    for text in args.runs:
        label, equals, outdir = text.partition("=")
        if not (label and equals and outdir) or label in runs:
            raise ConfigError(f"{text}: give each run as LABEL=OUTDIR, each label once")
        runs[label] = Path(outdir)
    comparison = compare_runs(runs)
    if args.output is not None:
        write_json(args.output, comparison)
    print(markdown(comparison), end="")
