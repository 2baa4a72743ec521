#!/usr/bin/env python3
"""PLACE_POTENTIAL: fill one host at the maxima of its electrostatic potential (pw.x, pp.x)."""

import argparse
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from xtalfill.core.errors import ConfigError, run_command

if TYPE_CHECKING:
    from xtalfill.proposals.dft_potential.calculation import PotentialCalculator
    from xtalfill.proposals.dft_potential.restore import Solver


def parser() -> argparse.ArgumentParser:
    """Return the command's parser."""
    top = argparse.ArgumentParser(description=__doc__)
    top.add_argument("--job", type=Path, required=True, help="file that PLAN_POTENTIAL wrote")
    top.add_argument("--protocol", type=Path, required=True, help="YAML of assets/protocols")
    top.add_argument("--table", type=Path, required=True, help="pseudopotentials (JSON)")
    top.add_argument("--pseudo_dir", type=Path, required=True, help="files of the table")
    top.add_argument("--degauss", type=float, required=True, help="Ry, smearing")
    top.add_argument("--degenerate", type=float, required=True, help="share of the highest maximum")
    top.add_argument("--bond", type=float, required=True, help="of the sum of covalent radii")
    top.add_argument("--apart", type=float, required=True, help="Å between two placed atoms")
    top.add_argument("--charge", type=float, required=True, help="e, of a placed atom")
    top.add_argument("--choices", type=int, required=True, help="most choices all looked at")
    top.add_argument("--relax", choices=("qe", "mlip"), required=True, help="between placements")
    top.add_argument("--mlip", help="potential of --relax mlip")
    top.add_argument("--fmax", type=float, required=True, help="of --relax mlip, eV/Å")
    top.add_argument("--max_steps", type=int, required=True, help="of --relax mlip")
    top.add_argument("--cores", type=int, required=True, help="MPI processes")
    top.add_argument("--launcher", required=True, help="command with {ranks} in front of pw.x")
    top.add_argument("--scratch", type=Path, help="disk of the node ($TMPDIR, else this folder)")
    top.add_argument("--max_seconds", type=float, help="until the task is killed")
    top.add_argument("--last_chance", action="store_true", help="nothing starts the task again")
    top.add_argument("--previous", type=Path, help="checkpoint to go on from, if it is there")
    top.add_argument("--checkpoint", type=Path, required=True, help="folder for the checkpoint")
    top.add_argument("--kept", type=Path, required=True, help="folder for inputs and outputs")
    top.add_argument("--output", type=Path, required=True, help="JSON result to write")
    top.add_argument("--record", type=Path, required=True, help="JSON record to write")
    return top


def solver_of(electrons: "PotentialCalculator", args: argparse.Namespace) -> "Solver":
    """Return what finds potentials and relaxes.

    Raises:
        ConfigError: The potential's packages are not there.
    """
    if args.relax == "qe":
        return electrons
    try:
        from xtalfill.proposals.dft_potential.mlip import MlipSolver
        from xtalfill.relax.potentials import load_potential

        potential = load_potential(args.mlip, device="cpu")
    except ImportError as error:
        raise ConfigError(
            f"--baseline_relax mlip needs {error.name}, which is not here; use qe"
        ) from error
    return MlipSolver(electrons, potential, fmax=args.fmax, max_steps=args.max_steps)


def main() -> None:
    """Read the job, fill its host, write the result and the record."""
    args = parser().parse_args()
    begin = time.monotonic()

    from xtalfill.core.record import write_record
    from xtalfill.dft.launch import Machine, scratch_folder
    from xtalfill.dft.protocols import read_protocol
    from xtalfill.dft.pseudos import check_files, functionals, library_of, read_table
    from xtalfill.dft.pw_runner import Folders, Limits
    from xtalfill.dft.theory import LevelOfTheory
    from xtalfill.proposals.dft_potential.calculation import SMEARING, PotentialCalculator
    from xtalfill.proposals.dft_potential.job import PlacementResult, read_job, write_result
    from xtalfill.proposals.dft_potential.restore import Rules, restore

    job, table = read_job(args.job), read_table(args.table)
    headers = check_files(table, args.pseudo_dir, job.symbols)
    valence = {name: one.valence for name, one in headers.items()}
    rules = Rules(
        degenerate=args.degenerate,
        bond=args.bond,
        apart=args.apart,
        charge=args.charge,
        bound=args.choices,
    )
    level = LevelOfTheory(
        protocol=read_protocol(args.protocol),
        table=table,
        valence=valence,
        degauss=args.degauss,
        smearing=SMEARING,
    )
    machine = Machine(ranks=args.cores, launcher=args.launcher)
    limits = Limits(args.max_seconds, args.last_chance, begin)
    args.kept.mkdir(parents=True, exist_ok=True)
    with scratch_folder(args.scratch, "potential") as scratch:
        folders = Folders(args.pseudo_dir, scratch, args.kept, args.checkpoint, args.previous)
        electrons = PotentialCalculator(job.id, level, machine, folders, limits)
        candidates = restore(
            job.host,
            job.element,
            job.n_sites,
            samples=job.samples,
            rules=rules,
            solver=solver_of(electrons, args),
            generator=job.generator(),
        )
    parameters = {
        **asdict(rules),
        "protocol": asdict(level.protocol),
        "degauss": args.degauss,
        "table": args.table.name,
        "library": library_of(table),
        "functional": functionals(headers),
        "relax": args.relax,
        "mlip": args.mlip if args.relax == "mlip" else None,
    }
    write_result(PlacementResult(job.key, candidates, electrons.runs, parameters), args.output)
    core_seconds = sum(one["core_seconds"] for one in electrons.runs)
    filled = sum(one.sites is not None for one in candidates)
    write_record(
        args.record,
        stage="place_potential",
        batch=job.key,
        seconds=time.monotonic() - begin,
        parameters={
            **parameters,
            "cores": args.cores,
            "core_hours": round(core_seconds / 3600, 5),
            "runs": electrons.runs,
            "rounds": [asdict(one) for one in candidates[0].rounds],
        },
        counts={"ok": filled, "failed": len(candidates) - filled},
        weights={table[name].filename: f"md5:{table[name].md5}" for name in sorted(valence)},
    )


if __name__ == "__main__":
    run_command(main)
