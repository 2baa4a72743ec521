#!/usr/bin/env python3
"""INPAINT: propose the missing sites of every candidate in a batch."""

import argparse
import os
import time
from pathlib import Path

from xtalfill.core.arguments import add_restart_arguments
from xtalfill.core.errors import run_command


def parser() -> argparse.ArgumentParser:
    """Return the command's parser."""
    top = argparse.ArgumentParser(description=__doc__)
    top.add_argument("--batch", type=Path, required=True, help="batch that CHECK wrote")
    top.add_argument("--settings", type=Path, required=True, help="stage parameters (JSON)")
    top.add_argument("--bundled", type=Path, nargs="*", default=[], help="weights, KIND.pt")
    top.add_argument("--model", type=Path, nargs="*", default=[], help="weights to use instead")
    add_restart_arguments(top)
    top.add_argument("--output", type=Path, required=True, help="batch to write")
    top.add_argument("--record", type=Path, required=True, help="JSON record to write")
    return top


def main() -> None:
    """Read a batch, fill its candidates, write it."""
    args = parser().parse_args()
    begin = time.monotonic()
    # one thread: the order of sums, and so every bit, does not depend on the machine's load
    os.environ["OMP_NUM_THREADS"] = "1"

    import torch

    from xtalfill.core.batch import read_batch, write_batch
    from xtalfill.core.checkpoint import Checkpoint
    from xtalfill.core.record import count_statuses, write_record
    from xtalfill.core.settings import read_settings
    from xtalfill.proposals.score_models import load_models
    from xtalfill.proposals.stage import STAGE, InpaintSettings, inpaint_batch, known_methods

    torch.set_num_threads(1)
    settings = read_settings(args.settings, InpaintSettings)
    batch = read_batch(args.batch)
    methods = known_methods(batch.method.tolist())
    models = load_models(methods, given=args.model, bundled=args.bundled)
    checkpoint = Checkpoint(
        args.checkpoint,
        key=args.batch.name,
        previous=args.previous,
        seconds=args.max_seconds,
        begin=begin,
    )
    checkpoint.handle_sigterm()
    inpaint_batch(
        batch,
        models,
        settings.sampler,
        numbers=settings.numbers,
        device=settings.device,
        max_atoms=settings.max_atoms_per_batch,
        checkpoint=checkpoint,
    )
    write_batch(batch, args.output)
    checkpoint.remove()
    write_record(
        args.record,
        stage=STAGE,
        batch=args.batch.name,
        seconds=time.monotonic() - begin,
        parameters={**settings.recorded(), "model": [path.name for path in args.model]},
        counts=count_statuses(batch.status),
        weights=models.checksums,
    )


if __name__ == "__main__":
    run_command(main)
