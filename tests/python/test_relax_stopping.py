"""Stop when done: how many candidates RELAX relaxes with --stop_below."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analytic_potential import MorsePotential, proposed_batch
from xtalfill.core.batch import REFERENCE, Batch, content_sha256
from xtalfill.core.errors import ConfigError
from xtalfill.core.relaxations import ENERGY_WINDOW, POSITIONS, SITES
from xtalfill.interactive.settings import make_all_settings
from xtalfill.relax.select import select_candidates
from xtalfill.relax.settings import RelaxSettings
from xtalfill.relax.stage import relax_batch
from xtalfill.relax.stopping import WAVE, chance_of_lower, count_minima

CELL = np.diag([6.0, 6.4, 6.8])
HOST = np.array([[0.1, 0.2, 0.3], [2.0, 2.1, 2.3]])
NEAR = np.array([[2.6, 2.7, 2.9], [4.5, 4.8, 5.0]])


def proposed(alike: list[str], n: int) -> Batch:
    """Return n candidates and the reference of some structures; those of `alike` start alike."""
    rows, sites = [], []
    for name in ("a", "b"):
        for sample in range(n):
            rng = np.random.default_rng(sample)
            same = name in alike
            rows.append((name, "host", sample))
            sites.append(NEAR + 0.01 * rng.normal(size=3) if same else 6.0 * rng.random((2, 3)))
        rows.append((name, REFERENCE, 0))
        sites.append(NEAR)
    return proposed_batch(rows, HOST, sites, CELL)


def relaxed(batch: Batch, below: float | None) -> tuple[Batch, MorsePotential]:
    potential = MorsePotential()
    settings = RelaxSettings(0.05, 200, 0.05, 500, max_atoms_per_batch=40, stop_below=below)
    relax_batch(batch, potential, settings)
    batch.validate()
    return batch, potential


def test_chance_of_candidates_in_minima_of_their_own_is_that_of_a_record() -> None:
    # of n + 1 equal candidates each one is as likely as the others to be the lowest
    for n in range(30):
        assert chance_of_lower([1] * n) == pytest.approx(1 / (n + 1))


@given(st.lists(st.integers(1, 9), min_size=1, max_size=9))
def test_chance_falls_with_every_candidate_that_finds_nothing_new(counts: list[int]) -> None:
    for number in range(len(counts)):
        more = [count + (i == number) for i, count in enumerate(counts)]
        assert 0.0 < chance_of_lower(more) < chance_of_lower(counts) <= 0.5


def test_minima_are_separate_by_the_energy_window() -> None:
    step = ENERGY_WINDOW
    assert count_minima([]) == []
    assert count_minima([0.0, 0.9 * step, 1.1 * step, 5 * step]) == [2, 1, 1]
    assert sorted(count_minima([3.0, -1.0, 3.0, -1.0, -1.0])) == [2, 3]


def test_candidates_in_one_minimum_stop_after_the_first_wave() -> None:
    batch, _ = relaxed(proposed(["a"], 3 * WAVE), 0.1)
    status = {name: batch.status[batch.groups()[name]].tolist() for name in ("a", "b")}
    assert status["a"] == ["ok"] * WAVE + ["absent"] * 2 * WAVE
    assert status["b"].count("absent") < 2 * WAVE
    assert "not needed: 5 others leave a chance of 0.083" in batch.message[WAVE]
    for name in (SITES, POSITIONS):
        arrays = batch.stages[name].arrays
        gone = np.flatnonzero(batch.status == "absent")
        assert np.isnan(arrays["energy"][gone]).all()
        assert (arrays["n_steps"][gone] == 0).all()
        assert not arrays["converged"][gone].any()
    assert batch.stages[POSITIONS].attrs["stop_below"] == 0.1
    select_candidates(batch)


def test_what_is_relaxed_has_the_bits_of_a_run_without() -> None:
    some, _ = relaxed(proposed(["a"], 3 * WAVE), 0.1)
    every, _ = relaxed(proposed(["a"], 3 * WAVE), None)
    kept = np.flatnonzero(some.status != "absent").tolist()
    one, other = some.subset(kept), every.subset(kept)
    for stage in (SITES, POSITIONS):
        one.stages[stage].attrs = other.stages[stage].attrs
    assert content_sha256(one) == content_sha256(other)


def test_a_structure_is_done_alone_as_in_a_batch() -> None:
    together, _ = relaxed(proposed(["a"], 2 * WAVE), 0.1)
    members = np.flatnonzero(together.id == "b").tolist()
    start = proposed(["a"], 2 * WAVE)
    alone, _ = relaxed(start.subset(np.flatnonzero(start.id == "b").tolist()), 0.1)
    assert content_sha256(together.subset(members)) == content_sha256(alone)


def test_fewer_relaxations_cost_fewer_evaluations() -> None:
    n_calls = [
        sum(map(len, relaxed(proposed(["a", "b"], 3 * WAVE), below)[1].calls))
        for below in (0.1, None)
    ]
    assert n_calls[0] < 0.6 * n_calls[1]


def test_failed_candidates_decide_nothing() -> None:
    batch = proposed(["a", "b"], 2 * WAVE)
    for index in batch.groups()["a"][:WAVE]:
        batch.fail(index, "inpaint: nothing")
    relaxed(batch, 0.1)
    assert batch.status[batch.groups()["a"]].tolist() == ["failed"] * WAVE + ["ok"] * WAVE


def test_auto_stands_for_both_settings() -> None:
    auto = make_all_settings({"samples": "auto"})
    assert (auto.check.samples, auto.relax.samples) == (30, 30)
    assert auto.relax.relaxation.stop_below == 0.1
    own = make_all_settings({"samples": "auto", "stop_below": 0.02})
    assert (own.check.samples, own.relax.relaxation.stop_below) == (30, 0.02)
    with pytest.raises(ConfigError, match='samples is "many"; it must be an integer'):
        make_all_settings({"samples": "many"})


@pytest.mark.parametrize("below", [0.0, 1.0, float("nan")])
def test_bound_is_a_probability(below: float) -> None:
    with pytest.raises(ConfigError, match="stop_below"):
        RelaxSettings(0.05, 9, 0.05, 9, max_atoms_per_batch=9, stop_below=below)
