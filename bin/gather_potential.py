#!/usr/bin/env python3
"""GATHER_POTENTIAL: add the sites found for the hosts of a batch to the batch."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from xtalfill.core.batch_command import change_batch
from xtalfill.core.errors import run_command

if TYPE_CHECKING:
    from xtalfill.core.batch import Batch


def gather(batch: "Batch", args: argparse.Namespace) -> dict[str, int]:
    """Fill the candidates of the method potential and count the statuses."""
    from xtalfill.core.io import read_json
    from xtalfill.core.record import count_statuses
    from xtalfill.proposals.dft_potential.gather import gather_potential
    from xtalfill.proposals.dft_potential.job import read_result

    results = [read_result(path) for path in sorted(args.results)]
    gather_potential(batch, args.batch.stem, read_json(args.plan), results)
    return count_statuses(batch.status)


def main() -> None:
    """Read batch, plan and results; write the batch and the record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--plan", type=Path, required=True, help="plan.json of PLAN_POTENTIAL")
    parser.add_argument("--results", type=Path, nargs="*", default=[], help="of its jobs")
    change_batch("gather_potential", parser, gather)


if __name__ == "__main__":
    run_command(main)
