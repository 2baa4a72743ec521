"""The frame of a command that adds to one batch: read it, change it, write it and the record."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from xtalfill.core.batch import Batch

Work = Callable[["Batch", argparse.Namespace], Mapping[str, int]]
Parameters = Callable[["Batch"], Mapping[str, Any]]


def change_batch(
    stage: str,
    parser: argparse.ArgumentParser,
    work: Work,
    *,
    parameters: Parameters | None = None,
) -> None:
    """Run a command with --batch, --output and --record, and what its parser knows beside.

    Args:
        stage: Its name in the record.
        parser: Of the command.
        work: Changes the batch and returns counts by status for the record; gets the arguments.
        parameters: Returns those of the record from the changed batch; None where it has none.
    """
    parser.add_argument("--batch", type=Path, required=True, help="batch of the stage before")
    parser.add_argument("--output", type=Path, required=True, help="batch to write")
    parser.add_argument("--record", type=Path, required=True, help="JSON record to write")
    args = parser.parse_args()
    begin = time.monotonic()

    from xtalfill.core.batch import read_batch, write_batch
    from xtalfill.core.record import write_record

    batch = read_batch(args.batch)
    counts = work(batch, args)
    write_batch(batch, args.output)
    write_record(
        args.record,
        stage=stage,
        batch=args.batch.name,
        seconds=time.monotonic() - begin,
        parameters={} if parameters is None else parameters(batch),
        counts=counts,
        weights={},
    )
