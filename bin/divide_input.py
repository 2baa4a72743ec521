#!/usr/bin/env python3
"""DIVIDE_INPUT: write the structures of an input in parts that JUDGE takes one by one."""

import argparse
from pathlib import Path

from xtalfill.core.errors import run_command


def main() -> None:
    """Write parts/*.jsonl and the list of their names in the order of the input."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--input", type=Path, required=True, help="an input of the pipeline")
    parser.add_argument("--fetched", action="store_true", help="the input is one of FETCH_INPUT")
    parser.add_argument("--settings", type=Path, required=True, help="stage parameters (JSON)")
    parser.add_argument("--outdir", type=Path, required=True, help="where the files go")
    args = parser.parse_args()

    from xtalfill.core.io import write_json
    from xtalfill.core.settings import read_settings
    from xtalfill.inputs.scan_parts import DivideSettings, divide
    from xtalfill.inputs.structures import Streamed, list_structures
    from xtalfill.inputs.structures.servers import read_download

    settings = read_settings(args.settings, DivideSettings)
    structures = (
        map(Streamed, read_download(args.input)) if args.fetched else list_structures(args.input)
    )
    names = divide(structures, args.outdir / "parts", most=settings.scan_batch)
    write_json(args.outdir / "parts.json", names)
    print(f"DIVIDE_INPUT: {len(names)} parts", flush=True)


if __name__ == "__main__":
    run_command(main)
