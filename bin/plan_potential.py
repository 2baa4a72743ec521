#!/usr/bin/env python3
"""PLAN_POTENTIAL: a job for each host of the method potential; checks the pseudopotentials."""

import argparse
import time
from pathlib import Path

from xtalfill.errors import run_command


def main() -> None:
    """Read the batch, write its jobs and the record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch", type=Path, required=True, help="batch after INPAINT")
    parser.add_argument("--table", type=Path, required=True, help="pseudopotentials (JSON)")
    parser.add_argument("--pseudo_dir", type=Path, required=True, help="files of the table")
    parser.add_argument("--outdir", type=Path, required=True, help="folder for the jobs")
    parser.add_argument("--record", type=Path, required=True, help="JSON record to write")
    args = parser.parse_args()
    begin = time.monotonic()

    from xtalfill.baseline.job import jobs_of, write_job
    from xtalfill.batch import read_batch
    from xtalfill.dft.pseudos import check_files, read_table
    from xtalfill.record import write_record

    table = read_table(args.table)
    jobs = jobs_of(read_batch(args.batch), args.batch.stem)
    valence = check_files(table, args.pseudo_dir, {name for job in jobs for name in job.symbols})
    args.outdir.mkdir(parents=True, exist_ok=True)
    for job in jobs:
        write_job(job, args.outdir / f"{job.key}.json")
    write_record(
        args.record,
        stage="plan_potential",
        batch=args.batch.name,
        seconds=time.monotonic() - begin,
        parameters={"table": args.table.name},
        counts={"jobs": len(jobs)},
        weights={table[name].filename: f"md5:{table[name].md5}" for name in sorted(valence)},
    )


if __name__ == "__main__":
    run_command(main)
