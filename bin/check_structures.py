#!/usr/bin/env python3
"""CHECK: read the structures, refuse what cannot be used, write batches/*.h5 and check.json."""

import argparse
from functools import partial
from pathlib import Path

from xtalfill.core.errors import run_command


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--input", required=True, help="sheet, folder or file of structures")
    parser.add_argument("--references", help="true structures, matched by id")
    parser.add_argument("--settings", type=Path, required=True, help="stage parameters (JSON)")
    parser.add_argument("--database", type=Path, help="results database, recipe and --redo (JSON)")
    parser.add_argument("--phases", type=Path, help="table for EVALUATE, refused here if it is bad")
    parser.add_argument("--outdir", default=".", help="where batches/ and check.json go")
    args = parser.parse_args()

    from xtalfill.core.settings import read_settings
    from xtalfill.inputs.check import CheckSettings, run_check

    settings = read_settings(args.settings, CheckSettings)
    if args.phases is not None:
        from xtalfill.checks.phases import read_phases

        read_phases(args.phases, potential=settings.potentials[-1])
    stored = None
    if args.database is not None:
        from xtalfill.core.io import read_json
        from xtalfill.database.known import divide, read_request

        request = read_request(read_json(args.database))
        stored = partial(divide, request=request)
    run_check(
        args.input,
        references=args.references,
        settings=settings,
        outdir=args.outdir,
        divide=stored,
    )


if __name__ == "__main__":
    run_command(main)
