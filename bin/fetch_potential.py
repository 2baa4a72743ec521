#!/usr/bin/env python3
"""FETCH_POTENTIAL: download a published potential."""

import argparse
import time
from pathlib import Path

from xtalfill.core.errors import run_command


def main() -> None:
    """Write the model file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--name", required=True, help="a name of the registry, or nequip.net:group/model:version"
    )
    parser.add_argument("--output", type=Path, required=True, help=".nequip.zip or .nqx to write")
    parser.add_argument("--record", type=Path, required=True, help="JSON record to write")
    args = parser.parse_args()
    begin = time.monotonic()

    from xtalfill.core.record import file_sha256, write_record
    from xtalfill.relax.download import fetch

    fetch(args.name, args.output)
    write_record(
        args.record,
        stage="fetch_potential",
        batch=args.output.name,
        seconds=time.monotonic() - begin,
        parameters={"name": args.name},
        counts={},
        weights={args.output.name: file_sha256(args.output)},
    )


if __name__ == "__main__":
    run_command(main)
