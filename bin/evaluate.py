#!/usr/bin/env python3
"""Check the minima of a batch and compare them with their references (EVALUATE)."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from xtalfill.core.batch_command import change_batch
from xtalfill.core.errors import run_command

if TYPE_CHECKING:
    from xtalfill.core.batch import Batch


def judge(batch: "Batch", args: argparse.Namespace) -> dict[str, int]:
    """Add the stages checks, evaluate and competing_phases, and count the statuses."""
    from xtalfill.checks.phases import STAGE as PHASES
    from xtalfill.checks.phases import phases_stage
    from xtalfill.checks.stage import STAGE as CHECKS
    from xtalfill.checks.stage import check_batch
    from xtalfill.core.record import count_statuses
    from xtalfill.dft.gather import STAGE
    from xtalfill.evaluate.dft import evaluate_dft
    from xtalfill.evaluate.match import evaluate_batch

    batch.stages[CHECKS] = check_batch(batch)
    batch.stages["evaluate"] = evaluate_batch(batch)
    if args.phases is not None and (stage := phases_stage(batch, args.phases)) is not None:
        batch.stages[PHASES] = stage
    if STAGE in batch.stages:
        batch.stages["evaluate"].arrays |= evaluate_dft(batch)
    return count_statuses(batch.status)


def main() -> None:
    """Read a batch, judge its candidates, write the batch and the record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--phases", type=Path, help="table of competing phases (CSV)")
    change_batch("evaluate", parser, judge, parameters=lambda batch: batch.stages["evaluate"].attrs)


if __name__ == "__main__":
    run_command(main)
