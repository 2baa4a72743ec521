#!/usr/bin/env python3
"""PLAN_POTENTIAL: plan a job for each host of the method potential, estimate the cost."""

import argparse
import time
from pathlib import Path

from xtalfill.core.errors import run_command
from xtalfill.dft.arguments import add_plan_arguments


def main() -> None:
    """Read the batches, write the jobs, the plan and the record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batches", type=Path, nargs="+", required=True, help="after CHECK")
    add_plan_arguments(parser)
    args = parser.parse_args()
    begin = time.monotonic()

    from xtalfill.core.batch import read_batch
    from xtalfill.core.io import write_json
    from xtalfill.core.record import write_record
    from xtalfill.core.settings import read_settings
    from xtalfill.dft.estimate import read_cost_model
    from xtalfill.dft.protocols import read_protocol
    from xtalfill.dft.pseudos import read_table
    from xtalfill.proposals.dft_potential.job import write_job
    from xtalfill.proposals.dft_potential.plan import PlanPotentialSettings, plan_hosts

    settings = read_settings(args.settings, PlanPotentialSettings)
    plan = plan_hosts(
        {path.stem: read_batch(path) for path in args.batches},
        protocol=read_protocol(args.protocol),
        table=read_table(args.table),
        pseudo_dir=args.pseudo_dir,
        degauss=settings.baseline_degauss,
        max_electrons=settings.max_electrons,
    )
    (args.outdir / "jobs").mkdir(parents=True, exist_ok=True)
    for job in plan.jobs:
        if job.key not in plan.refused:
            write_job(job, args.outdir / "jobs" / f"{job.key}.json")
    content = plan.content(read_cost_model(args.cost, "host"))
    write_json(args.outdir / "plan.json", content)
    write_record(
        args.record,
        stage="plan_potential",
        batch="all",
        seconds=time.monotonic() - begin,
        parameters={"table": args.table.name, "estimate": content["estimate"]},
        counts={"jobs": len(plan.systems), "refused": len(plan.refused)},
        weights=plan.pseudos(),
    )


if __name__ == "__main__":
    run_command(main)
