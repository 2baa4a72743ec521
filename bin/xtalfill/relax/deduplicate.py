"""Before a later relaxation: which candidates need not go through it.

Candidates of one structure and method share host and cell, so two of them are in the same minimum
when their atoms lie in the same places, whichever of like atoms lies where and in whichever
image of the cell. One of them is relaxed on and the others take over what it finds. Candidates
far above the best one may be dropped.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment

from xtalfill.core.batch import Batch
from xtalfill.core.crystal import Crystal, crystal_of, is_collapsed
from xtalfill.core.relaxations import ENERGY_WINDOW, SITES
from xtalfill.relax.batched import RelaxationResult
from xtalfill.relax.interface import Evaluation

# Angstrom; below half of `MIN_DISTANCE`, so that no atom has two partners within reach.
MERGE_DISTANCE = 0.1


@dataclass(frozen=True)
class AtomMapping:
    """How the atoms of one crystal lie on those of another.

    Attributes:
        atoms: (n_atoms,) the other's atom at the place of each atom.
        shift: (n_atoms, 3) Angstrom; the lattice vector from the other's atom to the place.
    """

    atoms: np.ndarray
    shift: np.ndarray


@dataclass(frozen=True)
class Duplicate:
    """A candidate in a minimum that another one has reached.

    Attributes:
        into: System that is relaxed on.
        places: How the candidate's atoms lie on those of `into`.
    """

    into: int
    places: AtomMapping

    def copy_result(self, found: RelaxationResult, *, sample: int) -> RelaxationResult:
        """Return the candidate's result from that of `into`, which has number `sample`."""
        positions = found.positions[self.places.atoms] + self.places.shift
        if found.evaluation is None:
            error = f"merged with sample {sample}: {found.error}"
            return RelaxationResult(positions, None, found.fmax, 0, False, error)
        forces = found.evaluation.forces[self.places.atoms]
        evaluation = Evaluation(found.evaluation.energy, forces)
        return RelaxationResult(positions, evaluation, found.fmax, 0, found.converged)


def map_atoms(one: Crystal, other: Crystal) -> AtomMapping | None:
    """Compare two crystals of the same atoms in the same cell.

    The nearest image is told by rounding fractional coordinates, which is exact up to
    `MERGE_DISTANCE` in any cell whose faces are more than twice that apart.

    Args:
        one: A crystal.
        other: Another one; its atoms may be exchanged with like ones and lie in other images.

    Returns:
        How `one` lies on `other`, if each atom is within `MERGE_DISTANCE` of a like one of its own.
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
    """Find the candidates in a minimum that another one of their structure and method reached.

    Only what converged in `stage` is in a minimum. Of those in one, the lowest sample goes on.

    Args:
        batch: Relaxed up to `stage`.
        stage: Its last relaxation.

    Returns:
        System -> where it is merged into.
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
    """Return how a crystal is merged into the first of others that it equals, if any."""
    for into, other in others.items():
        places = map_atoms(crystal, other)
        if places is not None:
            return Duplicate(into, places)
    return None


def drop_high_energy(batch: Batch, *, above: float) -> None:
    """Mark the candidates as dropped that lie too far above the best of structure and method.

    What did not converge may still fall and stays. A crystal in a hole of the potential, two
    atoms in one place, is not taken for the best.

    Args:
        batch: With stage relax_sites.
        above: eV per atom.
    """
    arrays = batch.stages[SITES].arrays
    for members in batch.groups_by_method():
        crystals = {
            index: crystal_of(batch, index, SITES) for index in active_systems(batch, members)
        }
        sound = [index for index, crystal in crystals.items() if not is_collapsed(crystal)]
        best = min((arrays["energy"][index] for index in sound), default=np.nan)
        for index in sound:
            distance = (arrays["energy"][index] - best) / len(crystals[index].numbers)
            if arrays["converged"][index] and distance > above:
                batch.status[index] = "dropped"
                batch.message[index] = (
                    f"{SITES}: dropped, {distance:.3g} eV/atom above the best candidate"
                )


def active_systems(batch: Batch, systems: Iterable[int]) -> list[int]:
    """Return those of some systems that are neither failed nor dropped nor absent."""
    gone = ("failed", "dropped", "absent")
    return [index for index in systems if batch.status[index] not in gone]
