#!/usr/bin/env python3
"""Label structures on the way of RELAX with a large potential, to distil a small one.

Hosts with and without hydrogen are filled: near the true sites, in voids, or at random. A small
potential relaxes the filled sites by some steps. Then the large potential either labels the
result, or relaxes all atoms and labels the way. Ways of the same host share the number `host`, so
that energy differences between them can be learned. Host i depends only on the seed and on i.
Existing parts are kept: an interrupted run continues, and several runs can share the work.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
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
from xtalfill.proposals.voids import void_choices
from xtalfill.relax.batched import BatchedRelaxer, Relaxation
from xtalfill.relax.interface import Evaluation, Potential
from xtalfill.relax.potentials import load_potential
from xtalfill.training.data import HYDROGEN, CrystalSet
from xtalfill.training.split import read_split

MAX_FORCE = 50.0  # eV/Angstrom; structures with larger forces are not useful for training
MIN_LABELLED = 0.6  # Angstrom; shorter than in the training data of the large potentials
WITH_HYDROGEN = 0.75
SITE_STEPS = (0, 8, 20)  # of the small potential
NO_STEPS = 0.7  # share of structures that the small potential does not relax, unless followed
WAY_STEPS = 30
LABELLED_STEPS = frozenset((0, 1, 2, 3, 4, 6, 8, 10, 13, 16, 20, 25))  # and the last
FMAX = 0.03  # eV/Angstrom
MAX_VOIDS = 4  # voids of more sites take longer than the labels


@dataclass(frozen=True)
class Start:
    """A filled host.

    Attributes:
        atoms: Filled crystal; the new sites are the last atoms.
        n_new: Number of new sites.
        host: Number of the host.
        follow: Label the way of the relaxation by the large potential, not only its start.
        site_steps: Steps of the small potential before.
    """

    atoms: Atoms
    n_new: int
    host: int
    follow: bool
    site_steps: int


class StartSource:
    """Draws hosts from training files and fills them.

    Args:
        crystals: Training crystals.
        held_out: Use the held-out crystals instead of the others.
        follow: Draw hosts with hydrogen only, in several ways, to follow their relaxation.
        max_atoms: Largest filled crystal.
        seed: Seed of all hosts.
    """

    def __init__(
        self, crystals: CrystalSet, *, held_out: bool, follow: bool, max_atoms: int, seed: int
    ) -> None:
        self._crystals, self._follow = crystals, follow
        self._max_atoms, self._seed = max_atoms, seed
        mine = crystals.is_validation == held_out
        self._hydrogen = np.flatnonzero(mine & crystals.has_hydrogen)
        self._other = np.flatnonzero(mine & ~crystals.has_hydrogen)
        self._weights = self._rarity(self._other)
        others = np.flatnonzero(crystals.is_validation != held_out)
        self._not_mine = {frozenset(crystals.crystal(i)[0].tolist()) for i in others}

    def _rarity(self, indices: np.ndarray) -> np.ndarray:
        """Return sampling probabilities that favour crystals with rare elements."""
        species = [np.unique(self._crystals.crystal(i)[0]) for i in indices]
        counts = np.bincount(np.concatenate(species), minlength=120).astype(float)
        weights = np.array([1.0 / np.sqrt(counts[z].min()) for z in species])
        return weights / weights.sum()

    def _belongs_to_others(self, host: Host) -> bool:
        """Return whether filling gives the host a chemical system of the other part of the data."""
        return frozenset([*host.numbers.tolist(), *[HYDROGEN] * host.n_sites]) in self._not_mine

    def draw(self, index: int) -> list[Start]:
        """Return the fillings of host `index`."""
        rng = np.random.default_rng([self._seed, index])
        with_hydrogen = self._follow or rng.random() < WITH_HYDROGEN
        while True:
            host, sites = self._host(rng, with_hydrogen)
            n_atoms = len(host.numbers) + host.n_sites
            # Small crystals more often: they cost less and are most of the databases.
            chance = 8.0 / max(8.0, n_atoms)
            if not with_hydrogen and self._belongs_to_others(host):
                continue
            if 1 < n_atoms <= self._max_atoms and rng.random() < chance:
                break
        n_ways = 4 if self._follow else 3 if with_hydrogen else 1
        starts = []
        for way in range(n_ways):
            places = _places(host, sites, way, rng)
            atoms = Atoms(host.numbers, host.positions, cell=host.cell, pbc=True)
            atoms += Atoms([HYDROGEN] * len(places), places)
            if nearest_distance(atoms.positions, host.cell) >= MIN_LABELLED:
                raw = not len(places) or (not self._follow and rng.random() < NO_STEPS)
                steps = 0 if raw else int(rng.choice(SITE_STEPS))
                starts.append(Start(atoms, len(places), index, self._follow, steps))
        return starts

    def _host(self, rng: np.random.Generator, with_hydrogen: bool) -> tuple[Host, np.ndarray]:
        """Return a host, half of them strained and displaced, and its true sites."""
        index = (
            rng.choice(self._hydrogen)
            if with_hydrogen
            else rng.choice(self._other, p=self._weights)
        )
        numbers, positions, cell = self._crystals.crystal(int(index))
        if rng.random() < 0.5:
            noise = rng.normal(scale=0.01, size=(3, 3))
            strain = np.eye(3) + 0.5 * (noise + noise.T)
            positions, cell = positions @ strain, cell @ strain
        is_site = numbers == HYDROGEN
        if not self._follow and rng.random() < 0.4:
            shake = 0.1 * rng.random() * rng.normal(size=positions.shape)
            positions = positions + shake * ~is_site[:, None]
        n_new = int(is_site.sum()) if with_hydrogen else int(rng.integers(0, 3))
        host = Host(numbers[~is_site], positions[~is_site], cell, HYDROGEN, n_new)
        return host, positions[is_site]


def _places(host: Host, sites: np.ndarray, way: int, rng: np.random.Generator) -> np.ndarray:
    """Return the new sites (n, 3) of a way: near the true ones, in voids, or at random."""
    kind = rng.random()
    if len(sites) and (way == 0 or kind < 0.5):
        width = 0.03 * 30.0 ** rng.random()  # to 0.9 Angstrom, most of them small
        return sites + width * rng.normal(size=sites.shape)
    if len(sites) and kind < 0.65 and host.n_sites <= MAX_VOIDS:
        crystal = Crystal(host.numbers, host.positions, host.cell)
        if choices := list(islice(void_choices(crystal, HYDROGEN, host.n_sites), way + 1)):
            return choices[-1]
    return random_sites(host, generator=rng)


class RecordingPotential:
    """A potential that keeps each crystal that it evaluates.

    Args:
        potential: The potential that computes.
    """

    def __init__(self, potential: Potential) -> None:
        self._potential = potential
        self.ways: dict[int, list[tuple[Crystal, Evaluation]]] = {}

    def evaluate(self, crystals: Sequence[Crystal]) -> list[Evaluation]:
        """Return energy and forces of each crystal, and keep them by its array of numbers."""
        found = list(self._potential.evaluate(crystals))
        for crystal, evaluation in zip(crystals, found, strict=True):
            self.ways.setdefault(id(crystal.numbers), []).append((crystal, evaluation))
        return found

    def __getattr__(self, name: str) -> object:
        return getattr(self._potential, name)


class Labeller:
    """Relaxes fillings and labels them.

    Args:
        small: Potential that relaxes the filled sites.
        large: Potential that labels.
    """

    def __init__(self, small: Potential, large: Potential) -> None:
        self._recorder = RecordingPotential(large)
        self._small = BatchedRelaxer(small, max_atoms=400, threads=1, optimizer="fire")
        self._large = BatchedRelaxer(self._recorder, max_atoms=400, threads=1, optimizer="fire")

    def label(self, starts: list[Start]) -> list[Atoms]:
        """Return the labelled structures of some fillings."""
        moved = self._relaxed_sites(starts)
        self._recorder.ways.clear()
        for follow in (False, True):
            jobs = [
                Relaxation(crystal, np.ones(len(crystal.numbers), dtype=bool))
                for start, crystal in moved
                if start.follow == follow
            ]
            self._large.relax(jobs, fmax=FMAX, max_steps=WAY_STEPS if follow else 0)
        frames = []
        for row, (start, crystal) in enumerate(moved):
            way = self._recorder.ways.get(id(crystal.numbers), [])
            for step, (where, found) in enumerate(way):
                last = step == len(way) - 1
                if (step in LABELLED_STEPS or last) and _usable(where, found):
                    frames.append(_frame(where, found, start, row, step))
        return frames

    def _relaxed_sites(self, starts: list[Start]) -> list[tuple[Start, Crystal]]:
        moved = []
        for steps in SITE_STEPS:
            some = [start for start in starts if start.site_steps == steps]
            jobs = []
            for start in some:
                free = np.zeros(len(start.atoms), dtype=bool)
                free[len(free) - start.n_new :] = True
                atoms = start.atoms
                crystal = Crystal(atoms.numbers.copy(), atoms.positions, atoms.cell.array)
                jobs.append(Relaxation(crystal, free))
            results = self._small.relax(jobs, fmax=0.05, max_steps=steps)
            for start, job, result in zip(some, jobs, results, strict=True):
                crystal = Crystal(job.crystal.numbers, result.positions, job.crystal.cell)
                if (
                    not result.error
                    and nearest_distance(crystal.positions, crystal.cell) >= MIN_LABELLED
                ):
                    moved.append((start, crystal))
        return moved


def _usable(crystal: Crystal, found: Evaluation) -> bool:
    largest = float(np.linalg.norm(found.forces, axis=1).max())
    near = nearest_distance(crystal.positions, crystal.cell)
    return np.isfinite(found.energy) and largest <= MAX_FORCE and near >= MIN_LABELLED


def _frame(crystal: Crystal, found: Evaluation, start: Start, way: int, step: int) -> Atoms:
    atoms = Atoms(crystal.numbers, crystal.positions, cell=crystal.cell, pbc=True)
    atoms.info |= {"host": start.host, "way": way, "step": step}
    results = {"energy": found.energy, "forces": found.forces}
    if found.atomic is not None:
        results["energies"] = found.atomic
    atoms.calc = SinglePointCalculator(atoms, **results)
    return atoms


def main() -> None:
    """Write labelled structures in parts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, nargs="+", required=True, help="training files")
    parser.add_argument("--exclude", type=Path, help="as in xtalfill train")
    parser.add_argument("--hold_out", type=Path, help="as in xtalfill train")
    parser.add_argument("--teacher", required=True, help="potential for the labels")
    parser.add_argument("--relaxer", required=True, help="potential for the filled sites")
    parser.add_argument("--held_out", action="store_true", help="use the held-out crystals")
    parser.add_argument("--follow", action="store_true", help="relax all atoms, label the way")
    parser.add_argument(
        "--parts", type=int, nargs=2, required=True, help="first part, and last part + 1"
    )
    parser.add_argument("--hosts", type=int, default=40, help="of a part")
    parser.add_argument("--max_atoms", type=int, default=40, help="of a filled crystal")
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--output", type=Path, required=True, help="folder")
    args = parser.parse_args()
    crystals = CrystalSet(args.data, split=read_split(exclude=args.exclude, hold_out=args.hold_out))
    source = StartSource(
        crystals,
        held_out=args.held_out,
        follow=args.follow,
        max_atoms=args.max_atoms,
        seed=args.seed,
    )
    small, large = (load_potential(name, device="cpu") for name in (args.relaxer, args.teacher))
    labeller, elements = Labeller(small, large), small.elements & large.elements
    args.output.mkdir(parents=True, exist_ok=True)
    for part in range(*args.parts):
        path = args.output / f"part_{part:04d}.extxyz"
        if path.exists():
            continue
        drawn = [
            start for row in range(args.hosts) for start in source.draw(part * args.hosts + row)
        ]
        starts = [start for start in drawn if elements.issuperset(start.atoms.numbers.tolist())]
        frames = labeller.label(starts)
        with replacing(path) as temporary:
            ase.io.write(temporary, frames, format="extxyz")
        print(f"{path}: {len(frames)} structures from {len(drawn)} fillings", flush=True)


if __name__ == "__main__":
    main()
