#!/usr/bin/env python3
"""Check the minima of a batch and compare them with their references (EVALUATE)."""

import argparse
from typing import TYPE_CHECKING

from xtalfill.core.batch_command import change_batch
from xtalfill.core.errors import run_command

if TYPE_CHECKING:
    from xtalfill.core.batch import Batch


def judge(batch: "Batch", _args: argparse.Namespace) -> dict[str, int]:
    """Add the stages checks and evaluate, and count the statuses."""
    from xtalfill.checks.stage import STAGE as CHECKS
    from xtalfill.checks.stage import check_batch
    from xtalfill.core.record import count_statuses
    from xtalfill.dft.gather import STAGE
    from xtalfill.evaluate.dft import evaluate_dft
    from xtalfill.evaluate.match import evaluate_batch

    batch.stages[CHECKS] = check_batch(batch)
    batch.stages["evaluate"] = evaluate_batch(batch)
    if STAGE in batch.stages:
        batch.stages["evaluate"].arrays |= evaluate_dft(batch)
    return count_statuses(batch.status)


def main() -> None:
    """Read a batch, judge its candidates, write the batch and the record."""
    parser = argparse.ArgumentParser(description=__doc__)
    change_batch("evaluate", parser, judge, parameters=lambda batch: batch.stages["evaluate"].attrs)


if __name__ == "__main__":
    run_command(main)
