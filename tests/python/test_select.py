"""SELECT: ranking of candidates and distinct minima."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pymatgen.core import Structure

from xtalfill.core.batch import Batch, Stage
from xtalfill.core.errors import InputError
from xtalfill.core.relaxations import ENERGY_WINDOW
from xtalfill.relax.select import (
    Ranked,
    Same,
    distinct_minima,
    energy_gap,
    energy_order,
    select_candidates,
)

NAN = float("nan")


def candidates(*energies: float, status: str | list[str] = "ok") -> list[Ranked]:
    """Return candidates of ten atoms."""
    statuses = [status] * len(energies) if isinstance(status, str) else status
    return [
        Ranked(energy=energy, status=one, sample=k, n_atoms=10)
        for k, (energy, one) in enumerate(zip(energies, statuses, strict=True))
    ]


def equal(_first: int, _second: int) -> bool:
    return True


def different(_first: int, _second: int) -> bool:
    return False


def test_order_by_energy_then_sample() -> None:
    assert energy_order(candidates(-1.0, -3.0, -2.0, -3.0)) == [1, 3, 2, 0]


def test_unconverged_candidates_rank_last() -> None:
    some = candidates(-9.0, -1.0, -8.0, -2.0, status=["unconverged", "ok", "unconverged", "ok"])
    assert energy_order(some) == [3, 1, 0, 2]


def test_unusable_candidates() -> None:
    some = candidates(-1.0, NAN, float("-inf"), -2.0, status=["ok", "ok", "ok", "failed"])
    assert energy_order(some) == [0]
    assert energy_order(candidates(-1.0, -2.0, status="failed")) == []
    assert energy_order([]) == []


@given(st.lists(st.floats(-10, 10) | st.just(NAN), max_size=8))
def test_order_contains_each_usable_candidate_once(energies: Sequence[float]) -> None:
    order = energy_order(candidates(*energies))
    assert sorted(order) == [k for k, energy in enumerate(energies) if np.isfinite(energy)]
    ordered = [energies[k] for k in order]
    assert ordered == sorted(ordered)


def minima_of(some: list[Ranked], same: Same) -> tuple[list[int], dict[int, int]]:
    order = energy_order(some)
    return order, distinct_minima(some, order, same)


def test_equal_minima_agree_in_energy_and_structure() -> None:
    far = 10 * ENERGY_WINDOW * 1.1
    near = 10 * ENERGY_WINDOW * 0.9
    some = candidates(0.0, near, far)
    assert minima_of(some, equal)[1] == {0: 0, 1: 0, 2: 1}
    assert minima_of(some, different)[1] == {0: 0, 1: 1, 2: 2}


def test_structures_are_compared_only_for_equal_energies() -> None:
    asked = []

    def same(a: int, b: int) -> bool:
        asked.append((a, b))
        return True

    minima_of(candidates(0.0, 1.0, 1.001), same)
    assert asked == [(1, 2)]


def test_minima_are_compared_with_their_best_member() -> None:
    step = 10 * ENERGY_WINDOW * 0.8
    some = candidates(0.0, step, 2 * step, 3 * step)
    assert minima_of(some, equal)[1] == {0: 0, 1: 0, 2: 1, 3: 1}


def test_gap_to_the_next_distinct_minimum() -> None:
    some = candidates(-5.0, -4.999, -4.2, -3.0)
    order, minimum = minima_of(some, equal)
    assert energy_gap(some, order, minimum) == pytest.approx(0.8)


def test_no_gap_without_a_second_minimum() -> None:
    some = candidates(-5.0, -5.0)
    assert np.isnan(energy_gap(some, *minima_of(some, equal)))
    assert np.isnan(energy_gap(some, [], {}))


def test_gap_ignores_unconverged_candidates() -> None:
    some = candidates(-5.0, -7.0, -4.0, status=["ok", "unconverged", "ok"])
    assert energy_gap(some, *minima_of(some, different)) == pytest.approx(1.0)
    late = candidates(-5.0, -4.0, status="unconverged")
    assert energy_gap(late, *minima_of(late, different)) == pytest.approx(1.0)


SITES = {"octahedral": (0.5, 0.5, 0.5), "tetrahedral": (0.25, 0.25, 0.25)}


def palladium_hydride(
    where: list[tuple[float, float, float]], energies: Sequence[float], **more: Any
) -> Batch:
    """Return candidates for one H in the primitive cell of palladium, and a reference."""
    cell = 2.05 * np.array([[0.0, 1, 1], [1, 0, 1], [1, 1, 0]])
    n = len(where)
    positions = np.concatenate([np.array([(0, 0, 0), site]) @ cell for site in where])
    fields = {
        "positions": positions,
        "atomic_numbers": [46, 1] * n,
        "system_idx": np.repeat(np.arange(n), 2),
        "is_host": [True, False] * n,
        "cell": [cell] * n,
        "id": ["pd"] * n,
        "method": ["host"] * n,
        "sample": np.arange(n),
        "seed": [42] * n,
        "status": ["ok"] * n,
        "message": [""] * n,
    }
    batch = Batch(**{**fields, **more})
    relaxed = {"positions": positions, "energy": np.array(energies, float)}
    relaxed["converged"] = np.ones(n, dtype=bool)
    batch.stages["relax_positions"] = Stage(relaxed, {})
    return batch


def selected(batch: Batch) -> dict[str, list]:
    select_candidates(batch)
    batch.validate()
    return {name: array.tolist() for name, array in batch.stages["select"].arrays.items()}


def test_equivalent_sites_are_one_minimum() -> None:
    tetrahedral, other = (0.25, 0.25, 0.25), (0.75, 0.75, 0.75)  # equivalent by inversion
    octahedral = (0.5, 0.5, 0.5)
    batch = palladium_hydride(
        [octahedral, tetrahedral, other, octahedral], [-9.0, -9.2001, -9.2, -8.9999]
    )
    found = selected(batch)
    assert found["rank"] == [2, 0, 1, 3]
    assert found["minimum"] == [1, 0, 0, 1]
    assert found["selected"] == [False, True, False, False]
    assert found["energy_gap"] == pytest.approx([0.2001] * 4)


def test_degenerate_sites_are_distinct_minima() -> None:
    found = selected(palladium_hydride(list(SITES.values()), [-9.0, -9.0]))
    assert found["minimum"] == [0, 1]
    assert found["energy_gap"] == [0.0, 0.0]


def test_ranking_by_structure_and_method() -> None:
    site = SITES["octahedral"]
    batch = palladium_hydride(
        [site] * 5,
        [-1.0, -2.0, -3.0, -4.0, -9.0],
        id=["a", "a", "a", "b", "a"],
        method=["host", "host", "random", "host", "reference"],
        sample=[0, 1, 0, 0, 0],
    )
    found = selected(batch)
    assert found["rank"] == [1, 0, 0, 0, -1]
    assert found["selected"] == [False, True, True, True, False]
    assert found["minimum"] == [1, 0, 0, 0, -1]
    np.testing.assert_equal(found["energy_gap"], [1.0, 1.0, NAN, NAN, NAN])


def test_all_failed_selects_none() -> None:
    batch = palladium_hydride([SITES["octahedral"]] * 2, [NAN, NAN], status=["failed"] * 2)
    found = selected(batch)
    assert found["rank"] == [-1, -1]
    assert found["selected"] == [False, False]


def test_failed_candidate_is_not_selected() -> None:
    batch = palladium_hydride([SITES["octahedral"]] * 2, [-99.0, -9.0], status=["failed", "ok"])
    assert selected(batch)["selected"] == [False, True]


def test_unconverged_candidate_is_selected_only_without_converged_ones() -> None:
    sites = [SITES["octahedral"]] * 2
    late = ["unconverged", "ok"]
    assert selected(palladium_hydride(sites, [-9.5, -9.0], status=late))["rank"] == [1, 0]
    only = palladium_hydride(sites, [-9.0, -9.5], status=["unconverged"] * 2)
    assert selected(only)["selected"] == [False, True]


def test_the_last_relaxation_ranks() -> None:
    batch = palladium_hydride(list(SITES.values()), [-9.0, -9.5])
    relaxed = batch.stages["relax_positions"].arrays
    batch.stages["relax_rank"] = Stage({**relaxed, "energy": np.array([-8.0, -7.0])})
    assert selected(batch)["rank"] == [0, 1]
    assert batch.stages["select"].attrs["relaxed"] == "relax_rank"


def test_batch_without_relaxation_is_refused() -> None:
    batch = palladium_hydride([SITES["octahedral"]], [-9.0])
    del batch.stages["relax_positions"]
    with pytest.raises(InputError, match="no stage 'relax_positions'"):
        select_candidates(batch)


OCTAHEDRAL, TETRAHEDRAL = SITES["octahedral"], SITES["tetrahedral"]
EQUIVALENT = (0.75, 0.75, 0.75)  # by inversion, to the tetrahedral site


def twice_relaxed(
    where: list[tuple[float, float, float]],
    first: Sequence[float],
    second: Sequence[float],
    *,
    then: list[tuple[float, float, float]] | None = None,
    converged: Sequence[bool] | None = None,
    **more: Any,
) -> list[int]:
    """Return `ranking_agrees` for candidates with energies of two potentials.

    Args:
        where: Sites after relax_positions.
        first: Energies of the first potential.
        second: Energies of the second.
        then: Sites after relax_rank; the same if left out.
        converged: In relax_positions.
        more: Fields of the batch.
    """
    batch = palladium_hydride(where, first, **more)
    if converged is not None:
        batch.stages["relax_positions"].arrays["converged"] = np.array(converged)
    batch.stages["relax_rank"] = palladium_hydride(then or where, second).stages["relax_positions"]
    return selected(batch)["ranking_agrees"]


def test_two_potentials_agree_on_the_lowest_minimum() -> None:
    sites = [OCTAHEDRAL, TETRAHEDRAL]
    assert twice_relaxed(sites, [-9.1, -9.0], [-5.2, -5.0]) == [1, 1]
    assert twice_relaxed(sites, [-9.1, -9.0], [-5.0, -5.2]) == [0, 0]
    # Their zeros of energy do not matter, nor which member of a minimum is the lowest.
    sites = [TETRAHEDRAL, EQUIVALENT, OCTAHEDRAL]
    assert twice_relaxed(sites, [-9.1, -9.0999, -9.0], [1.0001, 1.0, 1.3]) == [1] * 3


def test_minima_that_become_one_agree() -> None:
    """The second potential has no octahedral minimum: both end in the other one."""
    sites = [OCTAHEDRAL, TETRAHEDRAL]
    there = {"then": [EQUIVALENT, TETRAHEDRAL]}
    assert twice_relaxed(sites, [-9.1, -9.0], [-5.0, -5.0], **there) == [1, 1]


def test_each_method_is_judged_by_itself() -> None:
    found = twice_relaxed(
        [OCTAHEDRAL, TETRAHEDRAL] * 2 + [OCTAHEDRAL],
        [-9.1, -9.0, -9.1, -9.0, -9.0],
        [-5.0, -5.2, -5.2, -5.0, -9.0],
        method=["host", "host", "random", "random", "reference"],
        sample=[0, 1, 0, 1, 0],
    )
    assert found == [0, 0, 1, 1, -1]


def test_agreement_that_cannot_be_decided() -> None:
    sites, first, second = [OCTAHEDRAL, TETRAHEDRAL], [-9.1, -9.0], [-5.0, -5.2]
    assert selected(palladium_hydride(sites, first))["ranking_agrees"] == [-1, -1]
    assert twice_relaxed([OCTAHEDRAL], [-9.0], [-5.0]) == [-1]
    assert twice_relaxed(sites, first, [NAN, -5.2], status=["failed", "ok"]) == [-1, -1]
    assert twice_relaxed(sites, first, second, converged=[False, False]) == [-1, -1]
    assert twice_relaxed(sites, first, second, status=["unconverged"] * 2) == [-1, -1]
    # An unconverged candidate counts as in the ranking: after the converged ones.
    assert twice_relaxed(sites, first, second, converged=[False, True]) == [1, 1]


TOGETHER = ("rank_of_all", "minimum_of_all", "best_of_all")


def test_one_winner_over_all_methods() -> None:
    batch = palladium_hydride(
        [OCTAHEDRAL, TETRAHEDRAL, EQUIVALENT, OCTAHEDRAL, OCTAHEDRAL, OCTAHEDRAL],
        [-9.0, -9.2, -9.2001, -9.4, -9.0, -9.9],
        id=["pd"] * 4 + ["other", "pd"],
        method=["host", "host", "random", "voids", "voids", "reference"],
        sample=[0, 1, 0, 0, 0, 0],
    )
    found = selected(batch)
    assert found["selected"] == [False, True, True, True, True, False]
    assert found["rank_of_all"] == [3, 2, 1, 0, 0, -1]
    assert found["minimum_of_all"] == [2, 1, 1, 0, 0, -1]
    assert found["best_of_all"] == [False, False, False, True, True, False]


def test_the_winner_of_one_method_is_the_selected_candidate() -> None:
    found = selected(
        palladium_hydride([OCTAHEDRAL, TETRAHEDRAL, EQUIVALENT], [-9.0, -9.2, -9.2001])
    )
    for one, other in zip(TOGETHER, ("rank", "minimum", "selected"), strict=True):
        assert found[one] == found[other]


def test_equal_energies_of_methods_go_to_the_lower_sample_then_the_first_name() -> None:
    batch = palladium_hydride(
        [OCTAHEDRAL] * 3,
        [-9.0] * 3,
        method=["voids", "random", "host"],
        sample=[0, 0, 1],
    )
    assert selected(batch)["best_of_all"] == [False, True, False]


def test_a_failed_method_wins_nothing_and_a_converged_one_before_a_lower_one() -> None:
    fields = {"method": ["host", "random", "voids"], "sample": [0] * 3}
    sites, energies = [OCTAHEDRAL] * 3, [NAN, -9.0, -9.5]
    status = ["failed", "ok", "unconverged"]
    found = selected(palladium_hydride(sites, energies, status=status, **fields))
    assert found["rank_of_all"] == [-1, 0, 1]
    assert found["best_of_all"] == [False, True, False]
    found = selected(palladium_hydride(sites, [NAN] * 3, status=["failed"] * 3, **fields))
    assert found["best_of_all"] == [False] * 3


def test_no_pair_is_compared_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """The ranking over all methods repeats no comparison within one of them."""
    asked = []

    def counting(first: Structure, second: Structure) -> bool:
        asked.append((str(first), str(second)))
        return bool(first == second)

    monkeypatch.setattr("xtalfill.core.matching.same_crystal", counting)
    sites = [(0.1 + 0.05 * k,) * 3 for k in range(6)]
    methods = ["host"] * 3 + ["random"] * 3
    selected(palladium_hydride(sites, [-9.0] * 6, method=methods, sample=[0, 1, 2] * 2))
    assert len(asked) == len(set(asked)) == 15
