#!/usr/bin/env python3
"""SELECT: rank the candidates of each structure by energy and number their distinct minima."""

import argparse
from typing import TYPE_CHECKING

from xtalfill.core.batch_command import change_batch
from xtalfill.core.errors import run_command

if TYPE_CHECKING:
    from xtalfill.core.batch import Batch


def rank(batch: "Batch", _args: argparse.Namespace) -> dict[str, int]:
    """Add the stage select and count the statuses."""
    from xtalfill.core.record import count_statuses
    from xtalfill.relax.select import select_candidates

    select_candidates(batch)
    return count_statuses(batch.status)


def main() -> None:
    """Read a batch, rank its candidates, write it."""
    change_batch("select", argparse.ArgumentParser(description=__doc__), rank)


if __name__ == "__main__":
    run_command(main)
