#!/usr/bin/env python3
"""PLAN_DFT: choose systems for pw.x, check the pseudopotentials, estimate the cost."""

import argparse
import time
from pathlib import Path

from xtalfill.core.errors import run_command
from xtalfill.dft.arguments import add_plan_arguments


def parser() -> argparse.ArgumentParser:
    """Return the command's parser."""
    top = argparse.ArgumentParser(description=__doc__)
    top.add_argument("--batches", type=Path, nargs="+", required=True, help="after SELECT")
    add_plan_arguments(top)
    return top


def main() -> None:
    """Read the batches, write the jobs, the plan and the record."""
    args = parser().parse_args()
    begin = time.monotonic()

    from xtalfill.core.batch import read_batch
    from xtalfill.core.io import write_json
    from xtalfill.core.record import write_record
    from xtalfill.core.settings import read_settings
    from xtalfill.dft.estimate import read_cost_model
    from xtalfill.dft.job import write_job
    from xtalfill.dft.plan_run import PlanDftSettings, plan_run
    from xtalfill.dft.protocols import read_protocol
    from xtalfill.dft.pseudos import read_table

    settings = read_settings(args.settings, PlanDftSettings)
    model = read_cost_model(args.cost, "relaxation")
    plan = plan_run(
        {path.stem: read_batch(path) for path in args.batches},
        settings.choice,
        protocol=read_protocol(args.protocol),
        table=read_table(args.table),
        pseudo_dir=args.pseudo_dir,
        spin=settings.spin,
    )
    plan.parameters["table"] = args.table.name
    (args.outdir / "jobs").mkdir(parents=True, exist_ok=True)
    for job in plan.jobs:
        write_job(job, args.outdir / "jobs" / f"{job.system.key}.json")
    content = plan.content(model)
    write_json(args.outdir / "plan.json", content)
    write_record(
        args.record,
        stage="plan_dft",
        batch="all",
        seconds=time.monotonic() - begin,
        parameters={**plan.parameters, "estimate": content["estimate"]},
        counts={"jobs": len(plan.jobs), "refused": sum(bool(one.refused) for one in plan.planned)},
        weights=plan.pseudos(),
    )


if __name__ == "__main__":
    run_command(main)
