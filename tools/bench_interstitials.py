#!/usr/bin/env python3
"""Benchmark one interstitial hydrogen in simple crystals: clashing proposals, failures of RELAX.

Prints a line for each crystal and writes JSON. The known sites are those discussed in the
literature for hydrogen or the muon, in fractional coordinates of the cubic cell.
"""

import argparse
import json
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np
import torch
from ase import Atoms
from ase.build import bulk
from ase.data import chemical_symbols, covalent_radii
from ase.geometry import get_distances
from ase.spacegroup import Spacegroup, crystal

from xtalfill.core.batch import Batch
from xtalfill.core.errors import run_command
from xtalfill.core.relaxations import POSITIONS
from xtalfill.proposals.clearance import CLEARANCE
from xtalfill.proposals.diffusion.settings import SamplerSettings
from xtalfill.proposals.score_models import load_models
from xtalfill.proposals.stage import inpaint_batch
from xtalfill.relax.potentials import load_potential
from xtalfill.relax.select import select_candidates
from xtalfill.relax.settings import RelaxSettings
from xtalfill.relax.stage import relax_batch

ASSETS = Path(__file__).resolve().parents[1] / "assets"


@dataclass(frozen=True)
class Known:
    """A host and its known hydrogen sites.

    Attributes:
        atoms: Host, complete cubic cells.
        group: Space group number.
        cells: Number of cubic cells along each axis.
        sites: Name -> fractional coordinates in the cubic cell.
    """

    atoms: Atoms
    group: int
    sites: dict[str, tuple[float, float, float]]
    cells: int = 1


def known_crystals() -> dict[str, Known]:
    """Return the hosts by name."""
    fluorite = crystal(("Ca", "F"), [(0, 0, 0), (0.25,) * 3], spacegroup=225, cellpar=[5.46] * 3)
    salt = {"tetrahedral": (0.25,) * 3}
    metal = {"octahedral": (0.5, 0.5, 0.5), "tetrahedral": (0.25,) * 3}
    iron = {"octahedral": (0.5, 0.5, 0.0), "tetrahedral": (0.5, 0.25, 0.0)}
    silicon = {
        "bond centre": (0.125,) * 3,
        "tetrahedral": (0.5,) * 3,
        "hexagonal": (0.625,) * 3,
        "antibonding": (0.88,) * 3,
    }
    return {
        "MgO": Known(bulk("MgO", "rocksalt", a=4.212, cubic=True), 225, salt),
        "NaCl": Known(bulk("NaCl", "rocksalt", a=5.64, cubic=True), 225, salt),
        "CaF2": Known(
            fluorite, 225, {"octahedral": (0.5,) * 3, "between two F": (0.25, 0.25, 0.0)}
        ),
        "Fe": Known(bulk("Fe", "bcc", a=2.87, cubic=True).repeat(2), 229, iron, 2),
        "Pd": Known(bulk("Pd", "fcc", a=3.89, cubic=True), 225, metal),
        "Si": Known(bulk("Si", "diamond", a=5.43, cubic=True), 227, silicon),
    }


def batch_of(known: Known, name: str, method: str, samples: int) -> Batch:
    """Return a batch with one hydrogen missing."""
    numbers = np.append(known.atoms.numbers, 1)
    positions = np.vstack([known.atoms.positions, np.full(3, np.nan)])
    return Batch(
        positions=np.tile(positions, (samples, 1)),
        atomic_numbers=np.tile(numbers, samples),
        system_idx=np.repeat(np.arange(samples), len(numbers)),
        is_host=np.tile(np.arange(len(numbers)) < len(known.atoms), samples),
        cell=np.repeat(known.atoms.cell.array[None], samples, axis=0),
        id=[name] * samples,
        method=[method] * samples,
        sample=np.arange(samples),
        seed=[42] * samples,
        status=["ok"] * samples,
        message=[""] * samples,
    )


def depth(atoms: Atoms) -> float:
    """Return the distance of the last atom to its nearest neighbour in sums of covalent radii."""
    apart = get_distances(atoms.positions[-1:], atoms.positions[:-1], atoms.cell, pbc=True)[1][0]
    return float((apart / (covalent_radii[atoms.numbers[:-1]] + covalent_radii[1])).min())


def name_of(atoms: Atoms, known: Known) -> str:
    """Describe the site of the last atom: nearest known site and two nearest atoms."""
    drift = np.mean(atoms.positions[:-1] - known.atoms.positions, axis=0)
    here = atoms.positions[-1:] - drift
    found = []
    for name, place in known.sites.items():
        orbit = Spacegroup(known.group).equivalent_sites([place])[0] / known.cells
        shifts = np.stack(np.meshgrid(*[np.arange(known.cells)] * 3), -1).reshape(-1, 3)
        every = (orbit[:, None] + shifts / known.cells).reshape(-1, 3) @ atoms.cell.array
        found.append((float(get_distances(here, every, atoms.cell, pbc=True)[1].min()), name))
    apart = get_distances(here, atoms.positions[:-1] - drift, atoms.cell, pbc=True)[1][0]
    nearest = [(apart[i], chemical_symbols[atoms.numbers[i]]) for i in np.argsort(apart)[:2]]
    bonds = ", ".join(f"{symbol} {distance:.2f} Å" for distance, symbol in nearest)
    away, name = min(found)
    return f"{away:.2f} Å from {name}; nearest {bonds}"


def measure(known: Known, name: str, args: argparse.Namespace, potential: Any) -> dict[str, Any]:
    """Run INPAINT, RELAX and SELECT on one crystal; return the counts."""
    batch = batch_of(known, name, args.method, args.samples)
    models = load_models([args.method], given=args.model, bundled=ASSETS.glob("weights/*.pt"))
    settings = SamplerSettings(
        steps=100, predictor="x0_renoise", renoise=0.7, corrector_steps=0, corrector_rule="score"
    )
    inpaint_batch(batch, models, settings)
    proposed = [depth(batch.to_ase(index, stage="inpaint")) for index in range(args.samples)]
    relaxing = RelaxSettings(0.05, 200, 0.05, 500, max_atoms_per_batch=200)
    relax_batch(batch, potential, relaxing)
    select_candidates(batch)
    status = batch.status.tolist()
    best = np.flatnonzero(batch.stages["select"].arrays["selected"])
    lowest = name_of(batch.to_ase(int(best[0]), stage=POSITIONS), known) if len(best) else "none"
    return {
        "crystal": name,
        "samples": args.samples,
        "inside": sum(one < CLEARANCE for one in proposed),
        "moved": int((batch.stages["inpaint"].arrays["sites_moved"] > 0).sum()),
        "exploded": sum("diverged" in message for message in batch.message),
        **{kind: status.count(kind) for kind in ("ok", "unconverged", "failed")},
        "lowest": lowest,
        "messages": sorted(set(batch.message.tolist()) - {""}),
    }


def parser() -> argparse.ArgumentParser:
    """Return the argument parser."""
    top = argparse.ArgumentParser(description=__doc__)
    top.add_argument("--crystal", choices=known_crystals(), nargs="+", default=known_crystals())
    top.add_argument("--method", default="host")
    top.add_argument("--model", type=Path, nargs="*", default=[])
    top.add_argument("--samples", type=int, default=10)
    top.add_argument("--mlip", default="7net-0")
    top.add_argument("--output", type=Path, required=True)
    return top


def main() -> None:
    """Run the benchmark."""
    args = parser().parse_args()
    torch.set_num_threads(1)
    potential = load_potential(args.mlip, device="cpu")
    rows = []
    for name in args.crystal:
        begin = time.monotonic()
        rows.append(measure(known_crystals()[name], name, args, potential))
        line = {key: value for key, value in rows[-1].items() if key != "messages"}
        print(line, f"{time.monotonic() - begin:.0f} s", flush=True)
        args.output.write_text(json.dumps(rows, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    run_command(main)
