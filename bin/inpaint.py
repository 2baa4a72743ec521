#!/usr/bin/env python3
"""INPAINT: propose the missing sites of every candidate in a batch."""

import argparse
import os
import time
from pathlib import Path

from xtalfill.errors import run_command


def main() -> None:
    """Read a batch, fill its candidates, write it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch", type=Path, required=True, help="batch that CHECK wrote")
    parser.add_argument("--model", type=Path, required=True, help="weights of the score model")
    parser.add_argument("--steps", type=int, required=True, help="noise levels")
    parser.add_argument("--output", type=Path, required=True, help="batch to write")
    parser.add_argument("--record", type=Path, required=True, help="JSON record to write")
    args = parser.parse_args()
    begin = time.monotonic()
    # one thread: the order of sums, and so every bit, does not depend on the machine's load
    os.environ["OMP_NUM_THREADS"] = "1"

    import torch

    from xtalfill.batch import read_batch, write_batch
    from xtalfill.inpaint.stage import STAGE, inpaint_batch
    from xtalfill.model.weights import load_weights
    from xtalfill.record import count_statuses, file_sha256, write_record

    torch.set_num_threads(1)
    batch = read_batch(args.batch)
    weights = {args.model.name: file_sha256(args.model)}
    inpaint_batch(batch, load_weights(args.model), steps=args.steps, weights=weights)
    write_batch(batch, args.output)
    write_record(
        args.record,
        stage=STAGE,
        batch=args.batch.name,
        seconds=time.monotonic() - begin,
        parameters={"steps": args.steps, "model": args.model.name},
        counts=count_statuses(batch.status),
        weights=weights,
    )


if __name__ == "__main__":
    run_command(main)
