#!/usr/bin/env python3
"""PW_RELAX: relax one crystal with pw.x in a fixed cell, with automatic repair of failures."""

import argparse
import time
from dataclasses import asdict
from pathlib import Path

from xtalfill.core.errors import run_command
from xtalfill.dft.arguments import add_pw_arguments


def parser() -> argparse.ArgumentParser:
    """Return the command's parser."""
    top = argparse.ArgumentParser(description=__doc__)
    top.add_argument("--job", type=Path, required=True, help="file that PLAN_DFT wrote")
    top.add_argument("--pseudo_dir", type=Path, required=True, help="pseudopotentials")
    add_pw_arguments(top)
    return top


def main() -> None:
    """Read the job, run it, write the result and the record."""
    args = parser().parse_args()
    begin = time.monotonic()

    from xtalfill.core.record import write_record
    from xtalfill.core.settings import read_settings
    from xtalfill.dft.job import read_job
    from xtalfill.dft.launch import LaunchSettings, scratch_folder
    from xtalfill.dft.pw_runner import Folders, Limits
    from xtalfill.dft.relax import relax_job
    from xtalfill.dft.result import STATUSES, write_result

    settings = read_settings(args.settings, LaunchSettings)
    job, machine = read_job(args.job), settings.machine(args.cores)
    limits = Limits(args.max_seconds, args.last_chance, begin)
    with scratch_folder(settings.dft_scratch, "pw") as scratch:
        folders = Folders(args.pseudo_dir, scratch, args.kept, args.checkpoint, args.previous)
        result = relax_job(job, machine, folders, limits)
    write_result(result, args.output)
    seconds = time.monotonic() - begin
    write_record(
        args.record,
        stage="pw_relax",
        batch=job.system.key,
        seconds=seconds,
        parameters={
            "cores": args.cores,
            "core_hours": round(sum(one.seconds for one in result.attempts) * args.cores / 3600, 5),
            "launcher": settings.dft_launcher,
            "pw": result.version,
            "attempts": [asdict(one) for one in result.attempts],
        },
        counts={name: int(result.status == name) for name in STATUSES},
        weights={},
    )


if __name__ == "__main__":
    run_command(main)
