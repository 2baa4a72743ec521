"""SELECT: rank the candidates of a structure by energy and identify distinct minima.

Candidates of one structure are compared, those of each method and those of all methods together.
Converged candidates rank before unconverged ones, then by energy after the last relaxation, then by
sample number, then by the name of the method. Two candidates are the same minimum if their energies
differ by at most `ENERGY_WINDOW` and pymatgen's StructureMatcher matches the crystals.

CHECK puts all methods of a structure into one batch, so that this stage sees them together.

With a second potential, the two agree on a structure if at least one candidate is in the lowest
minimum of both: in that of the first after relax_positions, in that of the second after relax_rank.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from xtalfill.core.batch import Batch, Stage
from xtalfill.core.matching import TOLERANCES, matcher_of
from xtalfill.core.relaxations import ENERGY_WINDOW, POSITIONS, RANK, UNDECIDED, final_stage
from xtalfill.relax.counting import compare_counts

STAGE = "select"

Same = Callable[[int, int], bool]

# Arrays: rank, minimum, flag of the best; of a structure and method, and of a structure.
_ONE_METHOD = ("rank", "minimum", "selected")
_ALL_METHODS = ("rank_of_all", "minimum_of_all", "best_of_all")


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
    follow all converged ones. Equal energies are ordered by sample number, then as given.
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
        candidates: All candidates of one structure, of one or all methods.
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
    """Add the stage "select" to `batch`.

    Among the candidates of a structure and method: rank, minimum, selected, energy_gap,
    ranking_agrees. Among those of a structure and all methods: rank_of_all, minimum_of_all,
    best_of_all. Where numbers of missing sites are compared, what `compare_counts` returns, too.

    Raises:
        InputError: The batch has not been relaxed.
    """
    relaxed = final_stage(batch)
    numbers = ("rank", "minimum", "rank_of_all", "minimum_of_all")
    arrays = {name: np.full(batch.n_systems, -1, dtype=np.int32) for name in numbers}
    flags = ("selected", "best_of_all")
    arrays |= {name: np.zeros(batch.n_systems, dtype=np.bool_) for name in flags}
    arrays |= {
        "energy_gap": np.full(batch.n_systems, np.nan),
        "ranking_agrees": np.full(batch.n_systems, UNDECIDED, dtype=np.int8),
    }
    same = _matcher(batch, relaxed)
    for members in batch.groups_by_method():
        _select_one(batch, members, arrays, same, relaxed=relaxed)
    for members in batch.groups().values():
        _rank(_ranked(batch, members, relaxed), members, arrays, same, names=_ALL_METHODS)
    arrays |= compare_counts(batch)
    attrs = {
        "relaxed": relaxed,
        "energy_window_per_atom": ENERGY_WINDOW,
        "structure_matcher": dict(TOLERANCES),
    }
    batch.stages[STAGE] = Stage(arrays, attrs)


def _select_one(
    batch: Batch,
    members: Sequence[int],
    arrays: dict[str, np.ndarray],
    same: Same,
    *,
    relaxed: str,
) -> None:
    """Rank the candidates of a structure and method."""
    candidates = _ranked(batch, members, relaxed)
    order, minimum = _rank(candidates, members, arrays, same, names=_ONE_METHOD)
    arrays["energy_gap"][list(members)] = energy_gap(candidates, order, minimum)
    if relaxed == RANK:
        arrays["ranking_agrees"][list(members)] = _agreement(batch, members, candidates, minimum)


def _rank(
    candidates: Sequence[Ranked],
    members: Sequence[int],
    arrays: dict[str, np.ndarray],
    same: Same,
    *,
    names: tuple[str, str, str],
) -> tuple[list[int], dict[int, int]]:
    """Write rank, minimum and the flag of the best candidate to the arrays of these names.

    Returns:
        The usable candidates, best first, and the minimum of each; numbers in `candidates`.
    """
    order = energy_order(candidates)
    minimum = distinct_minima(candidates, order, _among(members, same))
    for rank, local in enumerate(order):
        values = (rank, minimum[local], rank == 0)
        for name, value in zip(names, values, strict=True):
            arrays[name][members[local]] = value
    return order, minimum


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
    number = distinct_minima(first, order, _among(members, _matcher(batch, POSITIONS)))
    return int(any(number[local] == 0 for local in lowest))


def _matcher(batch: Batch, stage: str) -> Same:
    """Return what compares two systems of a batch, by index; each pair is compared once."""
    return matcher_of(lambda index: batch.to_ase(index, stage=stage))


def _among(members: Sequence[int], same: Same) -> Same:
    """Return `same` for the numbers of systems in `members`."""
    return lambda first, second: same(members[first], members[second])
