#!/usr/bin/env python3
"""GATHER_DFT: add the results of its jobs to a batch."""

import argparse
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from xtalfill.core.batch_command import change_batch
from xtalfill.core.errors import run_command

if TYPE_CHECKING:
    from xtalfill.core.batch import Batch


def gather(batch: "Batch", args: argparse.Namespace) -> dict[str, int]:
    """Add the stage dft and count its statuses."""
    from xtalfill.core.io import read_json
    from xtalfill.dft.gather import STAGE, gather_dft
    from xtalfill.dft.result import read_result

    results = [read_result(path) for path in sorted(args.results)]
    gather_dft(batch, args.batch.stem, read_json(args.plan), results)
    return dict(Counter(status for status in batch.stages[STAGE].arrays["status"] if status))


def main() -> None:
    """Read batch, plan and results; write the batch and the record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--plan", type=Path, required=True, help="plan.json of PLAN_DFT")
    parser.add_argument("--results", type=Path, nargs="*", default=[], help="of its jobs")
    change_batch("gather_dft", parser, gather)


if __name__ == "__main__":
    run_command(main)
