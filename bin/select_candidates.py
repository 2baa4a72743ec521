#!/usr/bin/env python3
"""SELECT: rank the candidates of each structure by energy and number their distinct minima."""

import argparse
import time
from pathlib import Path

from xtalfill.errors import run_command


def main() -> None:
    """Read a batch, rank its candidates, write it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch", type=Path, required=True, help="batch that RELAX wrote")
    parser.add_argument("--output", type=Path, required=True, help="batch to write")
    parser.add_argument("--record", type=Path, required=True, help="JSON record to write")
    args = parser.parse_args()
    begin = time.monotonic()

    from xtalfill.batch import read_batch, write_batch
    from xtalfill.record import count_statuses, write_record
    from xtalfill.select import select_candidates

    batch = read_batch(args.batch)
    select_candidates(batch)
    write_batch(batch, args.output)
    write_record(
        args.record,
        stage="select",
        batch=args.batch.name,
        seconds=time.monotonic() - begin,
        parameters={},
        counts=count_statuses(batch.status),
        weights={},
    )


if __name__ == "__main__":
    run_command(main)
