#!/usr/bin/env python3
"""JUDGE: judge whether the structures of one part of a database are complete."""

import argparse
from pathlib import Path

from xtalfill.core.errors import run_command


def main() -> None:
    """Read a part, judge its structures, write a line for each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--part", type=Path, required=True, help="part of DIVIDE_INPUT")
    parser.add_argument("--files", type=Path, required=True, help="the k-th file is in FILES/k")
    parser.add_argument("--output", type=Path, required=True, help="JSON lines to write")
    args = parser.parse_args()

    import itertools

    from xtalfill.inputs.scan_parts import judge_part

    places = (next((args.files / str(number)).iterdir()) for number in itertools.count(1))
    count = judge_part(args.part, args.output, files=places)
    print(f"JUDGE: {count} structures", flush=True)


if __name__ == "__main__":
    run_command(main)
