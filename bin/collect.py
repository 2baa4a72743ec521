#!/usr/bin/env python3
"""Write the tables, structure files and success rates of a run (COLLECT)."""

import argparse
from pathlib import Path

from xtalfill.core.errors import run_command


def main() -> None:
    """Gather the batches into the files that a user takes away."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", type=Path, required=True, help="check.json of CHECK")
    parser.add_argument(
        "--batches", type=Path, nargs="*", help="batches after EVALUATE; if the option is left "
        "out, CHECK refused every structure"
    )  # fmt: skip
    parser.add_argument("--outdir", type=Path, required=True, help="where the files go")
    args = parser.parse_args()

    from xtalfill.results.collect import collect, write_refusals

    if args.batches is not None:
        collect(args.check, args.batches, args.outdir)
    else:
        write_refusals(args.check, args.outdir)


run_command(main)
