#!/usr/bin/env python3
"""Generate training crystals with hydrogen by element substitution and relaxation.

In every training crystal with hydrogen, each host element is replaced by each similar element of
its group. The cell is scaled with the volume of the atoms and then fixed; all positions are
relaxed. Chemical systems of the benchmark and of held-out crystals are excluded, and no
substitution is repeated. Unconverged crystals are dropped. Existing parts are kept: an interrupted
run continues, and several runs can share the work.
"""

import argparse
from dataclasses import dataclass
from pathlib import Path

import ase.io
import numpy as np
from ase.data import covalent_radii

from xtalfill.core.crystal import Crystal
from xtalfill.core.geometry import nearest_distance
from xtalfill.relax.batched import BatchedRelaxer, Relaxation
from xtalfill.relax.potentials import load_potential
from xtalfill.training.data import HYDROGEN, CrystalSet
from xtalfill.training.files import crystal_arrays, write_arrays
from xtalfill.training.substitution import similar_elements

PART = 100
LARGEST_DIFFERENCE = 0.3  # relative, of the radii; larger than without relaxation
SHAKE = 0.03  # Angstrom; breaks the symmetry, so that forces do not vanish
FMAX, MAX_STEPS = 0.05, 300
MIN_KEPT = 0.6  # Angstrom


@dataclass(frozen=True)
class Substitution:
    """Crystal `parent` of the training files with `element` replaced by `replacement`."""

    parent: int
    element: int
    replacement: int


def substitutions(
    crystals: CrystalSet, *, known: frozenset[int], excluded: set[frozenset[int]], max_atoms: int
) -> list[Substitution]:
    """Return all possible substitutions, ordered by crystal.

    Args:
        crystals: Training crystals.
        known: Atomic numbers supported by the potential.
        excluded: Chemical systems to exclude.
        max_atoms: Maximum number of atoms of a crystal.
    """
    found = []
    for parent in np.flatnonzero(~crystals.is_validation & crystals.has_hydrogen):
        numbers = crystals.crystal(parent)[0]
        species = frozenset(numbers.tolist())
        if len(numbers) > max_atoms or not species <= known:
            continue
        for element in sorted(species - {HYDROGEN}):
            for other in similar_elements(LARGEST_DIFFERENCE)[element]:
                system = species - {element} | {other}
                if other in known and len(system) == len(species) and system not in excluded:
                    found.append(Substitution(int(parent), element, other))
    return found


def shuffled(
    made: list[Substitution], crystals: CrystalSet, rng: np.random.Generator
) -> list[Substitution]:
    """Return the substitutions in weighted random order; rare classes come earlier."""
    parents = np.array([one.parent for one in made])
    drawn, row, count = np.unique(parents, return_inverse=True, return_counts=True)
    weights = crystals.hydrogen_weights(drawn)[row] / count[row]
    # Efraimidis and Spirakis: a weighted sample without replacement
    order = np.argsort(rng.exponential(size=len(made)) / weights)
    return [made[i] for i in order]


def start(made: Substitution, crystals: CrystalSet, rng: np.random.Generator) -> Relaxation:
    """Return the relaxation of a crystal with its element replaced and its cell scaled."""
    old, positions, cell = crystals.crystal(made.parent)
    numbers = np.where(old == made.element, made.replacement, old)
    volume = (covalent_radii[numbers] ** 3).sum() / (covalent_radii[old] ** 3).sum()
    scale = volume ** (1 / 3)
    shake = SHAKE * rng.normal(size=positions.shape)
    return Relaxation(
        Crystal(numbers, positions * scale + shake, cell * scale), np.ones(len(numbers), bool)
    )


def write_part(path: Path, found: list[tuple[Substitution, Crystal]]) -> None:
    """Write crystals as a training file, with the index of each parent crystal."""
    arrays = crystal_arrays([crystal for _, crystal in found])
    arrays["parent"] = np.array([made.parent for made, _ in found])
    write_arrays(path, arrays)


def relaxed(
    part: list[Substitution],
    crystals: CrystalSet,
    relaxer: BatchedRelaxer,
    rng: np.random.Generator,
) -> list[tuple[Substitution, Crystal]]:
    """Return the converged crystals."""
    jobs = [start(made, crystals, rng) for made in part]
    ended = relaxer.relax(jobs, fmax=FMAX, max_steps=MAX_STEPS)
    return [
        (made, Crystal(job.crystal.numbers, new.positions, job.crystal.cell))
        for made, job, new in zip(part, jobs, ended, strict=True)
        if new.converged and nearest_distance(new.positions, job.crystal.cell) >= MIN_KEPT
    ]


def main() -> None:
    """Write relaxed crystals in parts of 100."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, nargs="+", required=True, help="training files")
    parser.add_argument("--exclude", type=Path, required=True, help="extxyz of a benchmark")
    parser.add_argument("--potential", required=True, help="name or model file of the potential")
    parser.add_argument("--max_atoms", type=int, default=40, help="maximum size of a crystal")
    parser.add_argument(
        "--parts", type=int, nargs=2, required=True, help="first part, and last part + 1"
    )
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--output", type=Path, required=True, help="folder")
    args = parser.parse_args()
    potential = load_potential(args.potential, device="cpu")
    relaxer = BatchedRelaxer(potential, max_atoms=400, threads=1, optimizer="fire")
    crystals = CrystalSet(args.data)
    held_out = np.flatnonzero(crystals.is_validation)
    excluded = {frozenset(crystals.crystal(index)[0].tolist()) for index in held_out}
    excluded |= {frozenset(atoms.numbers.tolist()) for atoms in ase.io.read(args.exclude, ":")}
    possible = substitutions(
        crystals, known=potential.elements, excluded=excluded, max_atoms=args.max_atoms
    )
    made = shuffled(possible, crystals, np.random.default_rng(args.seed))
    print(f"{len(made)} substitutions are possible: {-(-len(made) // PART)} parts", flush=True)
    args.output.mkdir(parents=True, exist_ok=True)
    for part in range(*args.parts):
        path = args.output / f"part_{part:04d}.h5"
        mine = made[part * PART : (part + 1) * PART]
        if path.exists() or not mine:
            continue
        found = relaxed(mine, crystals, relaxer, np.random.default_rng([args.seed, part]))
        if found:
            write_part(path, found)
        print(f"{path}: {len(found)} of {len(mine)} crystals converged", flush=True)


if __name__ == "__main__":
    main()
