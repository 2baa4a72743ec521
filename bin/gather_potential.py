#!/usr/bin/env python3
"""GATHER_POTENTIAL: put what was found for the hosts of a batch into the batch."""

import argparse
import time
from pathlib import Path

from xtalfill.errors import run_command


def main() -> None:
    """Read batch and results; write the batch and the record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch", type=Path, required=True, help="batch after INPAINT")
    parser.add_argument("--results", type=Path, nargs="*", default=[], help="of its jobs")
    parser.add_argument("--output", type=Path, required=True, help="batch to write")
    parser.add_argument("--record", type=Path, required=True, help="JSON record to write")
    args = parser.parse_args()
    begin = time.monotonic()

    from xtalfill.baseline.gather import gather_potential
    from xtalfill.baseline.job import read_result
    from xtalfill.batch import read_batch, write_batch
    from xtalfill.record import count_statuses, write_record

    batch = read_batch(args.batch)
    results = [read_result(path) for path in sorted(args.results)]
    gather_potential(batch, args.batch.stem, results)
    write_batch(batch, args.output)
    write_record(
        args.record,
        stage="gather_potential",
        batch=args.batch.name,
        seconds=time.monotonic() - begin,
        parameters={},
        counts=count_statuses(batch.status),
        weights={},
    )


if __name__ == "__main__":
    run_command(main)
