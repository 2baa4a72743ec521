"""SELECT: rank the candidates of a structure by energy and identify distinct minima.

Candidates of one structure and method are compared. Converged candidates rank before unconverged
ones, then by energy after the last relaxation, then by sample number. Two candidates are the same
minimum if their energies differ by at most `ENERGY_WINDOW` and pymatgen's StructureMatcher matches
the crystals.

With a second potential, the two agree on a structure if at least one candidate is in the lowest
minimum of both: in that of the first after relax_positions, in that of the second after relax_rank.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from ase import Atoms

from xtalfill.core.batch import Batch, Stage
from xtalfill.core.matching import TOLERANCES, matcher, to_pymatgen
from xtalfill.core.relaxations import ENERGY_WINDOW, POSITIONS, RANK, UNDECIDED, final_stage

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
    """Add the stage "select" to `batch`: rank, minimum, selected, energy_gap, ranking_agrees.

    Raises:
        InputError: The batch has not been relaxed.
    """
    relaxed = final_stage(batch)
    arrays = {
        "rank": np.full(batch.n_systems, -1, dtype=np.int32),
        "minimum": np.full(batch.n_systems, -1, dtype=np.int32),
        "selected": np.zeros(batch.n_systems, dtype=np.bool_),
        "energy_gap": np.full(batch.n_systems, np.nan),
        "ranking_agrees": np.full(batch.n_systems, UNDECIDED, dtype=np.int8),
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
    candidates = _ranked(batch, members, relaxed)
    order = energy_order(candidates)
    same = _matcher([batch.to_ase(index, stage=relaxed) for index in members])
    minimum = distinct_minima(candidates, order, same)
    for rank, local in enumerate(order):
        arrays["rank"][members[local]] = rank
        arrays["minimum"][members[local]] = minimum[local]
        arrays["selected"][members[local]] = rank == 0
    arrays["energy_gap"][list(members)] = energy_gap(candidates, order, minimum)
    if relaxed == RANK:
        arrays["ranking_agrees"][list(members)] = _agreement(batch, members, candidates, minimum)


def _ranked(batch: Batch, members: Sequence[int], stage: str) -> list[Ranked]:
    energies = batch.stages[stage].arrays["energy"]
    return [
        Ranked(
            energy=float(energies[index]),
            status=str(batch.status[index]),
            sample=int(batch.sample[index]),
            n_atoms=len(batch.atomic_numbers[batch.atoms_slice(index)]),
        )
        for index in members
    ]


def _agreement(
    batch: Batch, members: Sequence[int], second: Sequence[Ranked], minimum: dict[int, int]
) -> int:
    """Return 1 if both potentials have the same lowest minimum, 0 if not, or `UNDECIDED`.

    Args:
        batch: Batch with the results of both potentials.
        members: Candidates of one structure and method.
        second: The same after relax_rank.
        minimum: Number of the minimum of each usable one after relax_rank.
    """
    converged = batch.stages[POSITIONS].arrays["converged"]
    first = [
        replace(one, status="ok" if converged[index] else "unconverged")
        for index, one in zip(members, _ranked(batch, members, POSITIONS), strict=True)
    ]
    # Compared are the candidates that both potentials relaxed.
    order = [local for local in energy_order(first) if local in minimum]
    lowest = {local for local, number in minimum.items() if number == 0}
    decided = len(order) > 1 and first[order[0]].status == "ok"
    if not decided or all(second[local].status != "ok" for local in lowest):
        return UNDECIDED
    same = _matcher([batch.to_ase(index, stage=POSITIONS) for index in members])
    number = distinct_minima(first, order, same)
    return int(any(number[local] == 0 for local in lowest))


def _matcher(atoms: Sequence[Atoms]) -> Same:
    fit = matcher()

    def same(first: int, second: int) -> bool:
        return bool(fit.fit(to_pymatgen(atoms[first]), to_pymatgen(atoms[second])))

    return same
