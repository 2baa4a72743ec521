"""SELECT: rank the candidates of a structure by energy and identify distinct minima.

Candidates of one structure and method are compared. Converged candidates rank before unconverged
ones, then by energy after the last relaxation, then by sample number. Two candidates are the same
minimum if their energies differ by at most `ENERGY_WINDOW` and pymatgen's StructureMatcher matches
the crystals.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from ase import Atoms

from xtalfill.core.batch import Batch, Stage
from xtalfill.core.matching import TOLERANCES, matcher, to_pymatgen
from xtalfill.core.relaxations import ENERGY_WINDOW, final_stage

STAGE = "select"

Same = Callable[[int, int], bool]


@dataclass(frozen=True)
class Ranked:
    """Properties of a candidate that determine its rank.

    Attributes:
        energy: eV; NaN if not available.
        status: One of `xtalfill.core.batch.STATUSES`.
        sample: Sample number.
        n_atoms: Number of atoms in the cell.
    """

    energy: float
    status: str
    sample: int
    n_atoms: int


def energy_order(candidates: Sequence[Ranked]) -> list[int]:
    """Return the indices of the usable candidates, best first.

    Failed candidates and those without a finite energy are not usable. Unconverged candidates
    follow all converged ones. Equal energies are ordered by sample number.
    """
    usable = [
        index
        for index, one in enumerate(candidates)
        if one.status != "failed" and np.isfinite(one.energy)
    ]

    def key(index: int) -> tuple[bool, float, int]:
        one = candidates[index]
        return one.status != "ok", one.energy, one.sample

    return sorted(usable, key=key)


def distinct_minima(
    candidates: Sequence[Ranked], order: Sequence[int], same: Same
) -> dict[int, int]:
    """Number the distinct minima among the candidates.

    Args:
        candidates: All candidates of one structure and method.
        order: Indices of the usable ones, best first.
        same: Whether two candidates, by index, are the same crystal; called only if their
            energies agree.

    Returns:
        Index -> number of its minimum, 0 for the best. A candidate is compared with the best
        member of each minimum and joins the first match.
    """
    best_members: list[int] = []
    minimum: dict[int, int] = {}
    for index in order:
        one = candidates[index]
        for number, member in enumerate(best_members):
            apart = abs(one.energy - candidates[member].energy) / one.n_atoms
            if apart <= ENERGY_WINDOW and same(member, index):
                minimum[index] = number
                break
        else:
            minimum[index] = len(best_members)
            best_members.append(index)
    return minimum


def energy_gap(
    candidates: Sequence[Ranked], order: Sequence[int], minimum: dict[int, int]
) -> float:
    """Return the energy of the second distinct minimum above the best one, eV.

    Only candidates with the status of the best one count.

    Returns:
        NaN if there is no second minimum.
    """
    if not order:
        return float("nan")
    best = candidates[order[0]]
    others = [
        candidates[index].energy
        for index in order
        if minimum[index] > 0 and candidates[index].status == best.status
    ]
    return min(others) - best.energy if others else float("nan")


def select_candidates(batch: Batch) -> None:
    """Add the stage "select" to `batch`: rank, minimum, selected, energy_gap.

    Raises:
        InputError: The batch has not been relaxed.
    """
    relaxed = final_stage(batch)
    arrays = {
        "rank": np.full(batch.n_systems, -1, dtype=np.int32),
        "minimum": np.full(batch.n_systems, -1, dtype=np.int32),
        "selected": np.zeros(batch.n_systems, dtype=np.bool_),
        "energy_gap": np.full(batch.n_systems, np.nan),
    }
    for members in batch.groups_by_method():
        _select_one(batch, members, arrays, relaxed=relaxed)
    attrs = {
        "relaxed": relaxed,
        "energy_window_per_atom": ENERGY_WINDOW,
        "structure_matcher": dict(TOLERANCES),
    }
    batch.stages[STAGE] = Stage(arrays, attrs)


def _select_one(
    batch: Batch, members: Sequence[int], arrays: dict[str, np.ndarray], *, relaxed: str
) -> None:
    energies = batch.stages[relaxed].arrays["energy"]
    candidates = [
        Ranked(
            energy=float(energies[index]),
            status=str(batch.status[index]),
            sample=int(batch.sample[index]),
            n_atoms=len(batch.atomic_numbers[batch.atoms_slice(index)]),
        )
        for index in members
    ]
    order = energy_order(candidates)
    atoms = [batch.to_ase(index, stage=relaxed) for index in members]
    minimum = distinct_minima(candidates, order, _matcher(atoms))
    for rank, local in enumerate(order):
        arrays["rank"][members[local]] = rank
        arrays["minimum"][members[local]] = minimum[local]
        arrays["selected"][members[local]] = rank == 0
    arrays["energy_gap"][list(members)] = energy_gap(candidates, order, minimum)


def _matcher(atoms: Sequence[Atoms]) -> Same:
    fit = matcher()

    def same(first: int, second: int) -> bool:
        return bool(fit.fit(to_pymatgen(atoms[first]), to_pymatgen(atoms[second])))

    return same
