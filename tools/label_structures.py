#!/usr/bin/env python3
"""Label structures typical for RELAX with a large potential, to distil a small one.

Hosts with and without hydrogen get random displacements and strain. Hydrogen is placed near its
true position or at random, and part of the structures are relaxed by a few steps. Structure i
depends only on the seed and on i. Existing parts are kept: an interrupted run continues, and
several runs can share the work.
"""

import argparse
from pathlib import Path

import ase.io
import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator

from xtalfill.core.crystal import Crystal
from xtalfill.core.geometry import nearest_distance
from xtalfill.core.io import replacing
from xtalfill.models.graphs import Host
from xtalfill.proposals.random_sites import random_sites
from xtalfill.relax.batched import BatchedRelaxer, Relaxation
from xtalfill.relax.potentials import load_potential
from xtalfill.training.data import CrystalSet

PART = 100
MAX_ATOMS = 40
MAX_FORCE = 50.0  # eV/Angstrom; structures with larger forces are not useful for training
MIN_LABELLED = 0.6  # Angstrom; shorter than in the training data of the large potentials
WITH_HYDROGEN = 0.6


class StructureSource:
    """Generates structures from training files.

    Args:
        files: Training files.
        excluded: extxyz with chemical systems to exclude.
        held_out: Use the held-out crystals instead of the others.
        seed: Seed of all structures.
    """

    def __init__(self, files: list[Path], excluded: Path, *, held_out: bool, seed: int) -> None:
        self._crystals = CrystalSet(files)
        self._seed = seed
        self._excluded = {frozenset(a.symbols) for a in ase.io.read(excluded, ":")}
        mine = self._crystals.is_validation == held_out
        self._hydrogen = np.flatnonzero(mine & self._crystals.has_hydrogen)
        self._other = np.flatnonzero(mine & ~self._crystals.has_hydrogen)
        self._weights = self._rarity(self._other)

    def _rarity(self, indices: np.ndarray) -> np.ndarray:
        """Return sampling probabilities that favour crystals with rare elements."""
        species = [np.unique(self._crystals.crystal(i)[0]) for i in indices]
        counts = np.bincount(np.concatenate(species), minlength=120).astype(float)
        weights = np.array([1.0 / np.sqrt(counts[z].min()) for z in species])
        return weights / weights.sum()

    def draw(self, index: int) -> Relaxation:
        """Return structure `index`; its free sites are to be relaxed by a few steps."""
        rng = np.random.default_rng([self._seed, index])
        while True:
            atoms, n_new = self._filled(rng)
            if len(atoms) > MAX_ATOMS or frozenset(atoms.symbols) in self._excluded:
                continue
            crystal = Crystal(atoms.numbers, atoms.positions, atoms.cell.array)
            if nearest_distance(crystal.positions, crystal.cell) < MIN_LABELLED:
                continue
            free = np.zeros(len(atoms), dtype=bool)
            if rng.random() < 0.4:
                free[-n_new if n_new and rng.random() < 0.5 else 0 :] = True
            return Relaxation(crystal, free)

    def _filled(self, rng: np.random.Generator) -> tuple[Atoms, int]:
        """Return a perturbed and filled crystal, and the number of new sites at its end."""
        with_hydrogen = rng.random() < WITH_HYDROGEN
        index = (
            rng.choice(self._hydrogen)
            if with_hydrogen
            else rng.choice(self._other, p=self._weights)
        )
        numbers, positions, cell = self._crystals.crystal(int(index))
        noise = rng.normal(scale=0.01, size=(3, 3))
        strain = np.eye(3) + 0.5 * (noise + noise.T)
        positions, cell = positions @ strain, cell @ strain
        shake = 0.1 * rng.random() if rng.random() < 0.5 else 0.0
        is_site = numbers == 1
        positions = positions + shake * rng.normal(size=positions.shape) * ~is_site[:, None]
        n_new = int(is_site.sum()) if with_hydrogen else int(rng.integers(0, 4))
        host = Host(numbers[~is_site], positions[~is_site], cell, 1, n_new)
        if with_hydrogen and rng.random() < 0.5:
            width = 0.7 * rng.random()
            sites = positions[is_site] + width * rng.normal(size=(n_new, 3))
        else:
            sites = random_sites(host, generator=rng)
        atoms = Atoms(host.numbers, host.positions, cell=cell, pbc=True)
        return (atoms + Atoms(["H"] * n_new, sites) if n_new else atoms), n_new


def label(
    jobs: list[Relaxation], relaxer: BatchedRelaxer, teacher: BatchedRelaxer, *, seed: int
) -> list[Atoms]:
    """Relax the free sites by a few steps; return the structures with energy and forces."""
    some_steps = np.random.default_rng(seed).choice([3, 6, 12, 25])
    moved = relaxer.relax(jobs, fmax=0.05, max_steps=int(some_steps))
    still = [
        Relaxation(Crystal(job.crystal.numbers, new.positions, job.crystal.cell), job.free)
        for job, new in zip(jobs, moved, strict=True)
        if not new.error and nearest_distance(new.positions, job.crystal.cell) >= MIN_LABELLED
    ]
    frames = []
    for job, found in zip(still, teacher.relax(still, fmax=np.inf, max_steps=0), strict=True):
        result = found.evaluation
        if result is None or np.linalg.norm(result.forces, axis=1).max() > MAX_FORCE:
            continue
        atoms = Atoms(job.crystal.numbers, job.crystal.positions, cell=job.crystal.cell, pbc=True)
        atoms.calc = SinglePointCalculator(atoms, energy=result.energy, forces=result.forces)
        frames.append(atoms)
    return frames


def main() -> None:
    """Write labelled structures in parts of 100."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, nargs="+", required=True, help="training files")
    parser.add_argument("--exclude", type=Path, required=True, help="extxyz of a benchmark")
    parser.add_argument("--teacher", default="7net-l3i5", help="potential for the labels")
    parser.add_argument("--relaxer", default="7net-0", help="potential for the relaxation steps")
    parser.add_argument("--held_out", action="store_true", help="use the held-out crystals")
    parser.add_argument(
        "--parts", type=int, nargs=2, required=True, help="first part, and last part + 1"
    )
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--output", type=Path, required=True, help="folder")
    args = parser.parse_args()
    source = StructureSource(args.data, args.exclude, held_out=args.held_out, seed=args.seed)
    potentials = [load_potential(name, device="cpu") for name in (args.relaxer, args.teacher)]
    drivers = [BatchedRelaxer(potential, max_atoms=400, threads=1) for potential in potentials]
    elements = potentials[0].elements & potentials[1].elements
    args.output.mkdir(parents=True, exist_ok=True)
    for part in range(*args.parts):
        path = args.output / f"part_{part:04d}.extxyz"
        if path.exists():
            continue
        drawn = [source.draw(part * PART + row) for row in range(PART)]
        jobs = [job for job in drawn if elements.issuperset(job.crystal.numbers.tolist())]
        frames = label(jobs, *drivers, seed=args.seed + part)
        with replacing(path) as temporary:
            ase.io.write(temporary, frames, format="extxyz")
        print(f"{path}: {len(frames)} of {PART} structures labelled", flush=True)


if __name__ == "__main__":
    main()
