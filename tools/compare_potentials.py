#!/usr/bin/env python3
"""Compare a distilled potential with its teacher: errors, minima, ranking.

Errors are computed for labelled structures of held-out crystals (tools/label_structures.py
--held_out). Minima and rankings are compared between two runs of the pipeline with the same
proposals, one with each potential.
"""

import argparse
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import ase.io
import numpy as np
from ase import Atoms

from xtalfill.core.batch import REFERENCE, Batch, read_batch
from xtalfill.core.crystal import Crystal
from xtalfill.core.matching import reduced, same_crystal
from xtalfill.core.relaxations import ENERGY_WINDOW, final_stage
from xtalfill.evaluate.match import site_class
from xtalfill.relax.potentials import load_potential

HYDROGEN = 1
AT_ONCE = 30  # structures in one evaluation


def errors_by_class(mlip: str, labelled: list[Atoms]) -> None:
    """Print mean absolute errors of energy and forces by class of hydrogen's neighbours."""
    potential = load_potential(mlip, device="cpu")
    energy: dict[str, list[float]] = defaultdict(list)
    force: dict[str, list[np.ndarray]] = defaultdict(list)
    for start in range(0, len(labelled), AT_ONCE):
        some = labelled[start : start + AT_ONCE]
        crystals = [Crystal(a.numbers, a.positions, a.cell.array) for a in some]
        for atoms, found in zip(some, potential.evaluate(crystals), strict=True):
            n_sites = int((atoms.numbers == HYDROGEN).sum())
            kind = site_class(atoms, n_missing=n_sites) if n_sites else "no H"
            apart = (found.energy - atoms.get_potential_energy()) / len(atoms)
            for name in (kind, "all"):
                energy[name].append(1e3 * apart)
                force[name].append((found.forces - atoms.get_forces()).ravel())
    print("| class | structures | energy, meV/atom | median | forces, eV/Å |")
    print("| --- | --- | --- | --- | --- |")
    for name in sorted(energy, key=lambda name: -len(energy[name])):
        apart = np.abs(energy[name])
        forces = np.abs(np.concatenate(force[name])).mean()
        row = f"{name} | {len(apart)} | {apart.mean():.0f} | {np.median(apart):.0f}"
        print(f"| {row} | {forces:.2f} |")


@dataclass(frozen=True)
class Pair:
    """Results of two runs for the candidates of one structure.

    Attributes:
        one: (n_candidates,) energies in the first run, eV/atom.
        other: (n_candidates,) energies in the second run, eV/atom.
        same: (n_candidates,) whether both runs found the same minimum.
    """

    one: np.ndarray
    other: np.ndarray
    same: np.ndarray


def pairs(one: Path, other: Path) -> Iterator[Pair]:
    """Yield the results for each structure, for candidates that failed in neither run."""
    for path in sorted((one / "batches").glob("*.h5")):
        first, second = read_batch(path), read_batch(other / "batches" / path.name)
        if not np.array_equal(first.id, second.id) or not np.array_equal(
            first.stages["inpaint"].arrays["positions"],
            second.stages["inpaint"].arrays["positions"],
            equal_nan=True,
        ):
            raise SystemExit(f"{path.name}: the runs have different proposals")
        for members in first.groups_by_method():
            sound = [i for i in members if "failed" not in (first.status[i], second.status[i])]
            if sound and first.method[sound[0]] != REFERENCE:
                yield _pair(first, second, sound)


def _pair(first: Batch, second: Batch, systems: list[int]) -> Pair:
    energies = []
    for batch in (first, second):
        arrays = batch.stages[final_stage(batch)].arrays
        sizes = np.array([len(batch.atomic_numbers[batch.atoms_slice(i)]) for i in systems])
        energies.append(arrays["energy"][systems] / sizes)
    same = [
        same_crystal(*(reduced(b.to_ase(i, stage=final_stage(b))) for b in (first, second)))
        for i in systems
    ]
    return Pair(energies[0], energies[1], np.array(same))


def agreement(one: Path, other: Path) -> None:
    """Print the agreement of minima and rankings between two runs."""
    found = list(pairs(one, other))
    same = np.concatenate([pair.same for pair in found])
    concordant, compared, best = 0, 0, []
    for pair in found:
        gap = pair.other[:, None] - pair.other[None]
        apart = gap > ENERGY_WINDOW
        concordant += int((apart & (pair.one[:, None] > pair.one[None])).sum())
        compared += int(apart.sum())
        best.append(pair.other[np.argmin(pair.one)] - pair.other.min() <= ENERGY_WINDOW)
    print(f"{len(found)} structures, {len(same)} candidates")
    print(f"same minimum (StructureMatcher): {100 * same.mean():.0f} %")
    print(
        f"pairs more than 2 meV/atom apart in the same order: {100 * concordant / compared:.0f} %"
    )
    print(f"best candidate of the first run is lowest in the second: {100 * np.mean(best):.0f} %")


def main() -> None:
    """Run the comparisons."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mlip", help="potential to evaluate on --labelled")
    parser.add_argument("--labelled", type=Path, help="extxyz with energies and forces")
    parser.add_argument("--runs", type=Path, nargs=2, help="output folders of two runs")
    args = parser.parse_args()
    if args.mlip and args.labelled:
        errors_by_class(args.mlip, ase.io.read(args.labelled, ":"))
    if args.runs:
        agreement(*args.runs)


if __name__ == "__main__":
    main()
