#!/usr/bin/env python3
"""PLAN_DFT: choose what goes to pw.x, check the pseudopotentials, say what it will cost."""

import argparse
import time
from dataclasses import asdict
from pathlib import Path

from xtalfill.errors import run_command


def parser() -> argparse.ArgumentParser:
    """Return the command's parser."""
    top = argparse.ArgumentParser(description=__doc__)
    top.add_argument("--batches", type=Path, nargs="+", required=True, help="after SELECT")
    top.add_argument("--protocol", type=Path, required=True, help="YAML of assets/protocols")
    top.add_argument("--table", type=Path, required=True, help="SSSP table (JSON)")
    top.add_argument("--cost", type=Path, required=True, help="cost model (JSON)")
    top.add_argument("--pseudo_dir", type=Path, required=True, help="files of the table")
    top.add_argument("--spin", action="store_true", help="spin-polarised")
    top.add_argument("--window", type=float, required=True, help="eV/atom not told apart")
    top.add_argument("--candidates", type=int, required=True, help="most of a structure and method")
    top.add_argument("--max_structures", type=int, help="most structures; all where not given")
    top.add_argument("--max_electrons", type=int, required=True, help="most valence electrons")
    top.add_argument("--seed", type=int, required=True, help="draws structures")
    top.add_argument("--outdir", type=Path, required=True, help="gets jobs/ and plan.json")
    top.add_argument("--record", type=Path, required=True, help="JSON record to write")
    return top


def main() -> None:
    """Read the batches, write the jobs, the plan and the record."""
    args = parser().parse_args()
    begin = time.monotonic()

    from xtalfill.batch import read_batch
    from xtalfill.collect import write_json
    from xtalfill.dft.estimate import read_cost_model, summary
    from xtalfill.dft.job import write_job
    from xtalfill.dft.plan import (
        Choice,
        Level,
        chosen_systems,
        describe,
        drawn,
        elements_of,
        plan_batch,
    )
    from xtalfill.dft.protocols import read_protocol
    from xtalfill.dft.pseudos import check_files, read_table
    from xtalfill.record import write_record

    choice = Choice(
        args.window, args.candidates, args.max_structures, args.max_electrons, args.seed
    )
    protocol, table = read_protocol(args.protocol), read_table(args.table)
    model = read_cost_model(args.cost)
    batches = {path.stem: read_batch(path) for path in sorted(args.batches)}
    structures = drawn([name for batch in batches.values() for name in batch.groups()], choice)
    symbols = {
        symbol
        for batch in batches.values()
        for name in structures & set(batch.groups())
        for symbol in elements_of(batch, [i for i, _ in chosen_systems(batch, name, choice)])
    }
    level = Level(protocol, table, check_files(table, args.pseudo_dir, symbols), args.spin)
    (args.outdir / "jobs").mkdir(parents=True, exist_ok=True)
    sent, jobs = [], []
    for name, batch in batches.items():
        more_sent, more_jobs = plan_batch(batch, name, structures, choice, level)
        sent += more_sent
        jobs += more_jobs
    for job in jobs:
        write_job(job, args.outdir / "jobs" / f"{job.key}.json")
    parameters = {
        "protocol": asdict(protocol),
        "pseudopotentials": {name: asdict(table[name]) for name in sorted(level.valence)},
        "table": args.table.name,
        "spin": args.spin,
        **asdict(choice),
    }
    estimate = summary(model, jobs)
    systems = describe(sent, jobs, model.core_hours)
    write_json(
        args.outdir / "plan.json",
        {"parameters": parameters, "estimate": estimate, "systems": systems},
    )
    write_record(
        args.record,
        stage="plan_dft",
        batch="all",
        seconds=time.monotonic() - begin,
        parameters={**parameters, "estimate": estimate},
        counts={"jobs": len(jobs), "refused": sum(bool(one.refused) for one in sent)},
        weights={
            pseudo.filename: f"md5:{pseudo.md5}" for job in jobs for pseudo in job.pseudos.values()
        },
    )


if __name__ == "__main__":
    run_command(main)
