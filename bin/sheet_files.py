#!/usr/bin/env python3
"""SHEET_FILES: list the structure files that a sample sheet names, one a line."""

import argparse
from pathlib import Path

from xtalfill.core.errors import InputError, run_command


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sheet", type=Path, required=True, help="CSV sample sheet")
    parser.add_argument("--output", type=Path, required=True, help="text file to write")
    args = parser.parse_args()

    from xtalfill.core.io import atomic_writer
    from xtalfill.inputs.sheet import named_files, parse_sheet

    try:
        names = named_files(parse_sheet(args.sheet))
    except InputError:
        names = []  # CHECK reports what is wrong with the sheet
    with atomic_writer(args.output) as file:
        file.writelines(f"{name}\n" for name in names)


run_command(main)
