#!/usr/bin/env python3
"""CHECK: read the structures, refuse what cannot be used, write batches/*.h5 and check.json."""

import argparse
from pathlib import Path

from xtalfill.core.errors import run_command


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--input", required=True, help="sheet, folder or file of structures")
    parser.add_argument("--references", help="true structures, matched by id")
    parser.add_argument("--settings", type=Path, required=True, help="stage parameters (JSON)")
    parser.add_argument("--outdir", default=".", help="where batches/ and check.json go")
    args = parser.parse_args()

    from xtalfill.core.settings import read_settings
    from xtalfill.inputs.check import CheckSettings, run_check

    settings = read_settings(args.settings, CheckSettings)
    run_check(args.input, references=args.references, settings=settings, outdir=args.outdir)


if __name__ == "__main__":
    run_command(main)
