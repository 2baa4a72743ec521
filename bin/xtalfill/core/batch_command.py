"""Common frame of the commands that process one batch: read, process, write, record."""

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
    """Run a command with the options --batch, --output and --record and its own options.

    Args:
        stage: Name of the stage in the record.
        parser: Argument parser with the command's own options.
        work: Changes the batch in place, given the arguments; returns counts by status.
        parameters: Returns the parameters for the record from the changed batch; None if none.
    """
    parser.add_argument("--batch", type=Path, required=True, help="batch of the previous stage")
    parser.add_argument("--output", type=Path, required=True, help="output batch")
    parser.add_argument("--record", type=Path, required=True, help="output JSON record")
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
