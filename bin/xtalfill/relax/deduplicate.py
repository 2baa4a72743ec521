"""Deduplicate candidates between two relaxations.

Candidates of one structure and method share host and cell. Two of them are in the same minimum if
their atoms coincide, up to permutations of atoms of one element and up to periodic images. Only
one of them is relaxed further; the others copy its result. Candidates with an energy far above
the best one may be dropped.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment

from xtalfill.core.batch import Batch
from xtalfill.core.crystal import Crystal, crystal_of, is_collapsed
from xtalfill.core.relaxations import ENERGY_WINDOW
from xtalfill.relax.batched import RelaxationResult
from xtalfill.relax.interface import Evaluation

# Angstrom; less than half of `MIN_DISTANCE`, so that each atom has at most one partner.
MERGE_DISTANCE = 0.1


@dataclass(frozen=True)
class AtomMapping:
    """Mapping of the atoms of one crystal onto those of another.

    Attributes:
        atoms: (n_atoms,) index of the matching atom in the other crystal.
        shift: (n_atoms, 3) Angstrom; lattice vector from the matching atom to the atom's image.
    """

    atoms: np.ndarray
    shift: np.ndarray


@dataclass(frozen=True)
class Duplicate:
    """A candidate in the same minimum as another one.

    Attributes:
        into: System that is relaxed further.
        mapping: Maps the candidate's atoms onto those of `into`.
    """

    into: int
    mapping: AtomMapping

    def copy_result(self, found: RelaxationResult, *, sample: int) -> RelaxationResult:
        """Return the candidate's result, given that of `into` (sample number `sample`)."""
        positions = found.positions[self.mapping.atoms] + self.mapping.shift
        if found.evaluation is None:
            error = f"merged with sample {sample}: {found.error}"
            return RelaxationResult(positions, None, found.fmax, 0, False, error)
        forces = found.evaluation.forces[self.mapping.atoms]
        evaluation = Evaluation(found.evaluation.energy, forces)
        return RelaxationResult(positions, evaluation, found.fmax, 0, found.converged)


def map_atoms(one: Crystal, other: Crystal) -> AtomMapping | None:
    """Map the atoms of one crystal onto those of another with the same composition and cell.

    The nearest image is found by rounding fractional coordinates. This is exact up to
    `MERGE_DISTANCE` if opposite cell faces are more than twice that apart.

    Args:
        one: First crystal.
        other: Second crystal; the order of its atoms and their periodic images may differ.

    Returns:
        The mapping if each atom is within `MERGE_DISTANCE` of its own partner, else None.
    """
    mine, theirs = (np.linalg.solve(c.cell.T, c.positions.T).T for c in (one, other))
    atoms = np.empty(len(one.numbers), dtype=np.int64)
    images = np.empty((len(atoms), 3))
    for number in np.unique(one.numbers):
        here, there = (np.flatnonzero(c.numbers == number) for c in (one, other))
        apart = mine[here, None] - theirs[None, there]
        image = np.round(apart)
        far = np.linalg.norm((apart - image) @ one.cell, axis=2) > MERGE_DISTANCE
        rows, columns = linear_sum_assignment(far)
        if far[rows, columns].any():
            return None
        atoms[here] = there[columns]
        images[here] = image[rows, columns]
    return AtomMapping(atoms, images @ one.cell)


def find_duplicates(batch: Batch, stage: str) -> dict[int, Duplicate]:
    """Find candidates in the same minimum as another one of their structure and method.

    Only converged candidates are compared. The lowest sample number of each minimum is kept.

    Args:
        batch: Batch with the results of `stage`.
        stage: Last relaxation.

    Returns:
        System -> the system it duplicates, and how.
    """
    arrays = batch.stages[stage].arrays
    merged: dict[int, Duplicate] = {}
    for members in batch.groups_by_method():
        firsts: dict[int, Crystal] = {}
        for index in active_systems(batch, members):
            if not arrays["converged"][index]:
                continue
            crystal = crystal_of(batch, index, stage)
            window = ENERGY_WINDOW * len(crystal.numbers)
            apart = {into: abs(arrays["energy"][index] - arrays["energy"][into]) for into in firsts}
            near = {into: other for into, other in firsts.items() if apart[into] <= window}
            found = _merge(crystal, near)
            if found is None:
                firsts[index] = crystal
            else:
                merged[index] = found
    return merged


def _merge(crystal: Crystal, others: Mapping[int, Crystal]) -> Duplicate | None:
    """Return which of the others, the first one, a crystal duplicates; None if it is new."""
    for into, other in others.items():
        mapping = map_atoms(crystal, other)
        if mapping is not None:
            return Duplicate(into, mapping)
    return None


def drop_high_energy(batch: Batch, stage: str, *, above: float) -> None:
    """Mark candidates as dropped whose energy is too far above the best of structure and method.

    Unconverged candidates are kept: their energy may still decrease. Collapsed crystals are
    ignored in the search for the best candidate.

    Args:
        batch: Batch with the results of `stage`.
        stage: Last relaxation.
        above: Energy window, eV per atom.
    """
    arrays = batch.stages[stage].arrays
    for members in batch.groups_by_method():
        crystals = {
            index: crystal_of(batch, index, stage) for index in active_systems(batch, members)
        }
        sound = [index for index, crystal in crystals.items() if not is_collapsed(crystal)]
        best = min((arrays["energy"][index] for index in sound), default=np.nan)
        for index in sound:
            distance = (arrays["energy"][index] - best) / len(crystals[index].numbers)
            if arrays["converged"][index] and distance > above:
                batch.status[index] = "dropped"
                batch.message[index] = (
                    f"{stage}: dropped, {distance:.3g} eV/atom above the best candidate"
                )


def active_systems(batch: Batch, systems: Iterable[int]) -> list[int]:
    """Return the given systems that are neither failed nor dropped nor absent."""
    inactive = ("failed", "dropped", "absent")
    return [index for index in systems if batch.status[index] not in inactive]
