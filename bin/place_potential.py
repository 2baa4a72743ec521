#!/usr/bin/env python3
"""PLACE_POTENTIAL: fill one host at the maxima of its electrostatic potential (pw.x, pp.x)."""

import argparse
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from xtalfill.core.errors import run_command
from xtalfill.dft.arguments import add_pw_arguments

if TYPE_CHECKING:
    from xtalfill.proposals.dft_potential.job import PlacementResult


def parser() -> argparse.ArgumentParser:
    """Return the command's parser."""
    top = argparse.ArgumentParser(description=__doc__)
    top.add_argument("--job", type=Path, required=True, help="file that PLAN_POTENTIAL wrote")
    top.add_argument("--mlip_file", type=Path, help="model file to use as the parameter mlip")
    top.add_argument("--protocol", type=Path, required=True, help="YAML of assets/protocols")
    top.add_argument("--table", type=Path, required=True, help="pseudopotentials (JSON)")
    top.add_argument("--pseudo_dir", type=Path, required=True, help="files of the table")
    add_pw_arguments(top)
    return top


def main() -> None:
    """Read the job, fill its host, write the result and the record."""
    args = parser().parse_args()
    begin = time.monotonic()

    from xtalfill.core.settings import read_settings
    from xtalfill.dft.launch import scratch_folder
    from xtalfill.dft.protocols import read_protocol
    from xtalfill.dft.pseudos import check_files, read_table
    from xtalfill.dft.pw_runner import Folders, Limits
    from xtalfill.dft.theory import LevelOfTheory
    from xtalfill.proposals.dft_potential.calculation import SMEARING, PotentialCalculator
    from xtalfill.proposals.dft_potential.job import PlacementResult, read_job, write_result
    from xtalfill.proposals.dft_potential.place import PlacePotentialSettings, place, provenance

    settings = read_settings(args.settings, PlacePotentialSettings).with_model(args.mlip_file)
    job, table = read_job(args.job), read_table(args.table)
    headers = check_files(table, args.pseudo_dir, job.symbols)
    valence = {name: one.valence for name, one in headers.items()}
    level = LevelOfTheory(
        protocol=read_protocol(args.protocol),
        table=table,
        valence=valence,
        degauss=settings.baseline_degauss,
        smearing=SMEARING,
    )
    machine = settings.launch.machine(args.cores)
    limits = Limits(args.max_seconds, args.last_chance, begin)
    args.kept.mkdir(parents=True, exist_ok=True)
    with scratch_folder(settings.launch.dft_scratch, "potential") as scratch:
        folders = Folders(args.pseudo_dir, scratch, args.kept, args.checkpoint, args.previous)
        electrons = PotentialCalculator(job.id, level, machine, folders, limits)
        candidates = place(job, electrons, settings)
    parameters = provenance(settings, level, headers, args.table.name)
    result = PlacementResult(job.key, candidates, electrons.runs, parameters)
    write_result(result, args.output)
    record(result, args, seconds=time.monotonic() - begin, weights=level.pseudo_checksums())


def record(
    result: "PlacementResult",
    args: argparse.Namespace,
    *,
    seconds: float,
    weights: dict[str, str],
) -> None:
    """Write the record of the task."""
    from xtalfill.core.record import write_record

    core_seconds = sum(one["core_seconds"] for one in result.runs)
    filled = sum(one.sites is not None for one in result.candidates)
    write_record(
        args.record,
        stage="place_potential",
        batch=result.key,
        seconds=seconds,
        parameters={
            **result.parameters,
            "cores": args.cores,
            "core_hours": round(core_seconds / 3600, 5),
            "runs": result.runs,
            "rounds": [asdict(one) for one in result.candidates[0].rounds],
        },
        counts={"ok": filled, "failed": len(result.candidates) - filled},
        weights=weights,
    )


if __name__ == "__main__":
    run_command(main)
