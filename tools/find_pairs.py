#!/usr/bin/env python3
"""Find pairs of distinct minima with nearly equal energies, for tools/dft_pairs.py.

The hydrogen of small crystals is removed and refilled in several ways: its true sites, sites near
them, the largest voids, random sites, and sites turned around the nearest atom. A cheap potential
relaxes the sites, then one of two potentials all atoms; the two take turns. A pair is two distinct
minima of one crystal whose energies differ by 1 to 100 meV/atom by one of the two potentials.
"""

import argparse
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations, islice
from pathlib import Path

import ase.io
import numpy as np
from ase import Atoms

from xtalfill.core.crystal import Crystal
from xtalfill.core.errors import run_command
from xtalfill.core.io import replacing
from xtalfill.core.matching import matcher_of
from xtalfill.dft.launch import Machine
from xtalfill.dft.single_point import SinglePoints
from xtalfill.evaluate.match import site_class
from xtalfill.models.graphs import Host
from xtalfill.proposals.diffusion.site_sampler import candidate_generator
from xtalfill.proposals.random_sites import random_sites
from xtalfill.proposals.voids import void_choices
from xtalfill.registry.potentials import short_name
from xtalfill.relax.batched import BatchedRelaxer, Relaxation
from xtalfill.relax.deduplicate import map_atoms
from xtalfill.relax.interface import Potential
from xtalfill.relax.plausibility import implausibility
from xtalfill.relax.potentials import load_potential
from xtalfill.relax.select import Ranked, distinct_minima, energy_order

ASSETS = Path(__file__).parents[1] / "assets"
CHEAP = ASSETS / "potential" / "nequip-small.nequip.zip"
HYDROGEN = 1
SITES_FMAX, FMAX = 0.1, 0.05  # eV/Angstrom
SITES_STEPS, ALL_STEPS = 150, 150
DROP_ABOVE = 0.5  # eV per atom, between the two relaxations
GAPS = (1e-3, 0.1)  # eV per atom; differences of a pair by one of the potentials
NOISES = (0.3, 0.8)  # Angstrom, around the true sites
# Crystals are taken in turn from these classes; hydrides are half of them.
TURNS = ("metal/other-H", "O-H", "metal/other-H", "N-H", "metal/other-H", "H-H")
PER_FORMULA = 2
SOURCES = {"bench_dev": "Materials Project, CC BY 4.0", "mc3d": "MC3D, CC BY 4.0"}


@dataclass(frozen=True)
class Known:
    """A crystal of a benchmark, hydrogen last.

    Attributes:
        set: Name of the benchmark.
        id: Its id there.
        atoms: The crystal.
        group: Class of its hydrogen sites.
        rank: Position among those of its class: core-seconds of an SCF calculation times the
            share of hydrogen.
    """

    set: str
    id: str
    atoms: Atoms
    group: str
    rank: float


def known_crystals(
    sets: dict[str, Path],
    symbols: set[str],
    cost: Callable[[Atoms], float],
    *,
    max_atoms: int,
    max_seconds: float,
    seed: int,
) -> list[Known]:
    """Return the affordable crystals in the order in which they are tried.

    Args:
        sets: Name -> extxyz of a benchmark.
        symbols: Elements that may occur.
        cost: Returns the estimated core-seconds of an SCF calculation.
        max_atoms: Largest number of atoms.
        max_seconds: Largest cost.
        seed: Seed of the displacements.
    """
    found: dict[str, list[Known]] = defaultdict(list)
    for name, path in sets.items():
        for number, read in enumerate(ase.io.read(path, ":")):
            is_site = read.numbers == HYDROGEN
            sizes_fit = len(read) <= max_atoms and 0 < is_site.sum() < len(read)
            if not sizes_fit or not symbols.issuperset(read.get_chemical_symbols()):
                continue
            own = str(read.info.get("id") or read.info.get("material_id") or number)
            atoms = read[np.argsort(is_site, kind="stable")]
            group = site_class(atoms, n_missing=int(is_site.sum()))
            if group not in TURNS:
                continue
            sites = _noisy(atoms, NOISES[0], seed=seed, name=own, sample=0)
            seconds = math.sqrt(cost(atoms) * cost(_filled(atoms, sites)))
            if seconds <= max_seconds:
                # the less hydrogen, the less two minima differ per atom
                rank = seconds * is_site.mean()
                found[group].append(Known(name, own, atoms, group, rank))
    cheapest = {
        group: _without_copies(sorted(members, key=lambda one: one.rank))
        for group, members in found.items()
    }
    return list(_in_turns(cheapest))


def _without_copies(crystals: Sequence[Known]) -> list[Known]:
    """Remove equal crystals and keep at most `PER_FORMULA` of a formula."""
    same = matcher_of(lambda number: crystals[number].atoms)
    kept: dict[str, list[int]] = defaultdict(list)
    for number, one in enumerate(crystals):
        others = kept[one.atoms.get_chemical_formula(empirical=True)]
        if len(others) < PER_FORMULA and not any(same(number, other) for other in others):
            others.append(number)
    found = [crystals[number] for others in kept.values() for number in others]
    return sorted(found, key=lambda one: one.rank)


def _in_turns(groups: dict[str, list[Known]]) -> Iterator[Known]:
    left = {group: list(members) for group, members in groups.items()}
    while any(left.values()):
        for group in TURNS:
            if left.get(group):
                yield left[group].pop(0)


def _filled(atoms: Atoms, sites: np.ndarray) -> Atoms:
    filled = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=True)
    filled.positions[len(atoms) - len(sites) :] = sites
    return filled


def _noisy(atoms: Atoms, width: float, *, seed: int, name: str, sample: int) -> np.ndarray:
    generator = candidate_generator(seed=seed, structure_id=name, sample=sample)
    sites = atoms.positions[atoms.numbers == HYDROGEN]
    return np.asarray(sites + width * generator.normal(size=sites.shape))


def _turned(atoms: Atoms, generator: np.random.Generator) -> np.ndarray:
    """Return the sites, each at its bond length from its nearest host atom in a new direction."""
    host = np.flatnonzero(atoms.numbers != HYDROGEN)
    sites = []
    for site in np.flatnonzero(atoms.numbers == HYDROGEN):
        away = atoms.get_distances(site, host, mic=True)
        direction = generator.normal(size=3)
        sites.append(
            atoms.positions[host[away.argmin()]]
            + away.min() * direction / np.linalg.norm(direction)
        )
    return np.array(sites)


def candidates(known: Known, *, turned: int, seed: int) -> list[Atoms]:
    """Return a crystal with its true hydrogen sites and with others.

    Args:
        known: The crystal.
        turned: Number of candidates with sites turned around the nearest atom.
        seed: Seed of the candidates.
    """
    atoms = known.atoms
    bare = atoms[atoms.numbers != HYDROGEN]
    n_sites = len(atoms) - len(bare)
    sites = [atoms.positions[len(bare) :]]
    sites += [
        _noisy(atoms, width, seed=seed, name=known.id, sample=number)
        for number, width in enumerate(NOISES)
    ]
    crystal = Crystal(bare.numbers, bare.positions, bare.cell.array)
    sites += islice(void_choices(crystal, HYDROGEN, n_sites), 3)
    host = Host(bare.numbers, bare.positions, bare.cell.array, HYDROGEN, n_sites)
    for sample in range(2, 5 + turned):
        generator = candidate_generator(seed=seed, structure_id=known.id, sample=sample)
        sites.append(
            random_sites(host, generator=generator) if sample < 5 else _turned(atoms, generator)
        )
    return [_filled(atoms, one) for one in sites]


def relaxed_minima(
    filled: Sequence[Atoms], cheap: Potential, potential: Potential
) -> list[tuple[Atoms, float]]:
    """Relax candidates, sites first, then all atoms; return the distinct minima, lowest first.

    Args:
        filled: Candidates of one crystal.
        cheap: Relaxes the sites.
        potential: Relaxes all atoms.

    Returns:
        Crystal and energy in eV. Failed, unconverged and implausible candidates are left out.
    """
    is_site = filled[0].numbers == HYDROGEN
    crystals = [Crystal(a.numbers, a.positions, a.cell.array) for a in filled]
    first = BatchedRelaxer(cheap, max_atoms=200, optimizer="fire").relax(
        [Relaxation(c, is_site) for c in crystals], fmax=SITES_FMAX, max_steps=SITES_STEPS
    )
    kept = [one.evaluation.energy for one in first if one.evaluation is not None]
    highest = min(kept, default=0.0) + DROP_ABOVE * len(is_site)
    starts: list[Crystal] = []
    for crystal, result in zip(crystals, first, strict=True):
        one = Crystal(crystal.numbers, result.positions, crystal.cell)
        if result.evaluation is None or result.evaluation.energy > highest:
            continue
        if all(map_atoms(one, other) is None for other in starts):
            starts.append(one)
    every = np.ones(len(is_site), dtype=bool)
    results = BatchedRelaxer(potential, max_atoms=200, optimizer="fire").relax(
        [Relaxation(c, every) for c in starts], fmax=FMAX, max_steps=ALL_STEPS
    )
    ends: list[tuple[Atoms, float]] = []
    for result, start in zip(results, starts, strict=True):
        if result.evaluation is None or not result.converged:
            continue
        crystal = Crystal(start.numbers, result.positions, start.cell)
        if not implausibility(crystal, is_site, result.evaluation.energy):
            atoms = Atoms(crystal.numbers, crystal.positions, cell=crystal.cell, pbc=True)
            ends.append((atoms, result.evaluation.energy))
    return _distinct(ends)


def _distinct(ends: Sequence[tuple[Atoms, float]]) -> list[tuple[Atoms, float]]:
    ranked = [
        Ranked(energy, "ok", number, len(atoms)) for number, (atoms, energy) in enumerate(ends)
    ]
    order = energy_order(ranked)
    minima = distinct_minima(ranked, order, matcher_of(lambda number: ends[number][0]))
    best: dict[int, int] = {}
    for index in order:
        best.setdefault(minima[index], index)
    return [ends[index] for index in best.values()]


def choose_pairs(
    minima: Sequence[tuple[Atoms, float]],
    other: Potential,
    affordable: Sequence[int],
    *,
    most: int,
) -> list[tuple[int, int]]:
    """Choose pairs of minima that differ by 1 to 100 meV/atom by one of two potentials.

    Args:
        minima: Crystals and energies by the potential that relaxed them, lowest first.
        other: The other potential, evaluated at the same geometries.
        affordable: Minima that may be used.
        most: Number of pairs; those of the lowest minima come first. Further pairs of the same
            geometries are added, because they cost nothing.
    """
    if len(affordable) < 2:
        return []
    again = other.evaluate([Crystal(a.numbers, a.positions, a.cell.array) for a, _ in minima])
    energies = np.array([[energy for _, energy in minima], [one.energy for one in again]])
    energies /= len(minima[0][0])
    same = matcher_of(lambda number: minima[number][0])
    possible = []
    for first, second in combinations(affordable, 2):
        gaps = np.abs(energies[:, first] - energies[:, second])
        near = ((gaps >= GAPS[0]) & (gaps <= GAPS[1])).any()
        if near and not same(first, second):
            possible.append((first, second))
    used = {index for pair in possible[:most] for index in pair}
    return [pair for pair in possible if used.issuperset(pair)]


def pairs_of(
    known: Known,
    cheap: Potential,
    mine: Potential,
    other: Potential,
    cost: Callable[[Atoms], float],
    *,
    max_seconds: float,
    most: int,
    turned: int,
    seed: int,
) -> list[tuple[Atoms, Atoms]]:
    """Return the pairs of a crystal.

    Args:
        known: The crystal.
        cheap: The potential that relaxes the sites.
        mine: The potential that relaxes all atoms.
        other: The other potential.
        cost: Returns the estimated core-seconds of an SCF calculation.
        max_seconds: Largest cost of a geometry.
        most: Number of pairs.
        turned: Number of candidates with sites turned around the nearest atom.
        seed: Seed of the candidates.
    """
    minima = relaxed_minima(candidates(known, turned=turned, seed=seed), cheap, mine)
    affordable = [i for i, (atoms, _) in enumerate(minima) if cost(atoms) <= max_seconds]
    frames = []
    for index, (atoms, _) in enumerate(minima):
        frame = atoms.copy()
        frame.info = {
            "geometry": f"{known.set}-{known.id[:12]}-{index}",
            "id": known.id,
            "set": known.set,
            "class": known.group,
            "made_by": short_name(mine.name),
            "source": SOURCES.get(known.set, ""),
        }
        frames.append(frame)
    chosen = choose_pairs(minima, other, affordable, most=most)
    text = f"{len(minima)} minima, {len(affordable)} affordable, {len(chosen)} pairs"
    print(f"{known.id} {known.atoms.get_chemical_formula()} {known.group}: {text}", flush=True)
    return [(frames[first].copy(), frames[second].copy()) for first, second in chosen]


def main() -> None:
    """Write the pairs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bench", nargs="+", required=True, help="NAME=extxyz")
    parser.add_argument("--mlip", nargs=2, required=True, help="for even and for odd crystals")
    parser.add_argument("--relax_sites", default=str(CHEAP), help="potential for the sites")
    parser.add_argument("--pseudo_dir", type=Path, required=True)
    parser.add_argument("--max_atoms", type=int, default=10)
    parser.add_argument("--max_seconds", type=float, default=130.0, help="of pw.x, estimated")
    parser.add_argument("--first", type=int, default=0, help="crystals of --classes to leave out")
    parser.add_argument("--count", type=int, default=100, help="crystals to try")
    parser.add_argument("--per_crystal", type=int, default=2, help="pairs of a crystal")
    parser.add_argument("--classes", nargs="+", default=list(TURNS), help="in turns")
    parser.add_argument("--turned", type=int, default=0, help="candidates with turned bonds")
    parser.add_argument("--after", type=Path, help="output of an earlier run to be continued")
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--output", type=Path, required=True, help="extxyz")
    args = parser.parse_args()
    paths = {name: Path(path) for name, path in (item.split("=", 1) for item in args.bench)}
    points = SinglePoints(
        protocol=ASSETS / "protocols" / "fast.yaml",
        table=ASSETS / "sssp" / "sssp_1.3.0_pbe_efficiency.json",
        pseudo_dir=args.pseudo_dir,
        cost=ASSETS / "dft_cost.json",
        symbols={s for path in paths.values() for a in ase.io.read(path, ":") for s in a.symbols},
        machine=Machine(),
    )

    def cost(atoms: Atoms) -> float:
        return points.seconds(points.job(atoms, atoms.numbers != HYDROGEN, "estimate"))

    limits = {"max_seconds": args.max_seconds, "seed": args.seed}
    usable = set(points.level.valence)
    crystals = known_crystals(paths, usable, cost, max_atoms=args.max_atoms, **limits)
    print(f"{len(crystals)} crystals: {dict(Counter(one.group for one in crystals))}", flush=True)
    cheap = load_potential(args.relax_sites, device="cpu")
    potentials = [load_potential(name, device="cpu") for name in args.mlip]
    frames: list[Atoms] = ase.io.read(args.after, ":") if args.after else []
    done = {str(atoms.info["id"]) for atoms in frames}
    crystals = [one for one in crystals if one.group in args.classes]
    crystals = crystals[args.first : args.first + args.count]
    crystals = [one for one in crystals if one.id not in done]
    ways = {"most": args.per_crystal, "turned": args.turned}
    for number, known in enumerate(crystals):
        mine, other = potentials[number % 2], potentials[1 - number % 2]
        if not (mine.elements & other.elements).issuperset(known.atoms.numbers.tolist()):
            continue
        for pair in pairs_of(known, cheap, mine, other, cost, **ways, **limits):
            for atoms in pair:
                atoms.info["pair"] = len(frames) // 2
                frames.append(atoms)
        with replacing(args.output) as temporary:
            ase.io.write(temporary, frames, format="extxyz")


if __name__ == "__main__":
    run_command(main)
