#!/usr/bin/env python3
"""Compare the candidates of a batch with their references (EVALUATE)."""

import argparse
import time
from pathlib import Path

from xtalfill.errors import run_command


def main() -> None:
    """Read the batch, judge its candidates, write the batch and the record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch", type=Path, required=True, help="batch after SELECT")
    parser.add_argument("--output", type=Path, required=True, help="batch with the evaluation")
    parser.add_argument("--record", type=Path, required=True, help="record of this task (JSON)")
    args = parser.parse_args()

    from xtalfill.batch import read_batch, write_batch
    from xtalfill.dft.gather import STAGE
    from xtalfill.evaluate.dft import judge_dft
    from xtalfill.evaluate.match import evaluate_batch
    from xtalfill.record import count_statuses, write_record

    start = time.perf_counter()
    batch = read_batch(args.batch)
    batch.stages["evaluate"] = evaluate_batch(batch)
    if STAGE in batch.stages:
        batch.stages["evaluate"].arrays |= judge_dft(batch)
    write_batch(batch, args.output)
    write_record(
        args.record,
        stage="evaluate",
        batch=args.batch.name,
        seconds=time.perf_counter() - start,
        parameters=batch.stages["evaluate"].attrs,
        counts=count_statuses(batch.status),
        weights={},
    )


run_command(main)
