#!/usr/bin/env python3
"""GATHER_DFT: put the results of a batch's jobs into the batch."""

import argparse
import time
from pathlib import Path

from xtalfill.errors import run_command


def main() -> None:
    """Read batch, plan and results; write the batch and the record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch", type=Path, required=True, help="batch after SELECT")
    parser.add_argument("--plan", type=Path, required=True, help="plan.json of PLAN_DFT")
    parser.add_argument("--results", type=Path, nargs="*", default=[], help="of its jobs")
    parser.add_argument("--output", type=Path, required=True, help="batch to write")
    parser.add_argument("--record", type=Path, required=True, help="JSON record to write")
    args = parser.parse_args()
    begin = time.monotonic()

    from xtalfill.batch import read_batch, write_batch
    from xtalfill.dft.gather import gather_dft
    from xtalfill.dft.result import read_result
    from xtalfill.record import write_record
    from xtalfill.tables import read_json

    batch = read_batch(args.batch)
    results = [read_result(path) for path in sorted(args.results)]
    gather_dft(batch, args.batch.stem, read_json(args.plan), results)
    write_batch(batch, args.output)
    statuses = [status for status in batch.stages["dft"].arrays["status"] if status]
    write_record(
        args.record,
        stage="gather_dft",
        batch=args.batch.name,
        seconds=time.monotonic() - begin,
        parameters={},
        counts={status: statuses.count(status) for status in sorted(set(statuses))},
        weights={},
    )


if __name__ == "__main__":
    run_command(main)
