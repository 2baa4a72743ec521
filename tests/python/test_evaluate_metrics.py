"""Success rates, intervals and tests, against enumeration, Monte Carlo and known values."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from xtalfill.evaluate.metrics import (
    SITE_BINS,
    SIZE_BINS,
    any_of_k,
    best_of_k,
    bin_label,
    bootstrap_interval,
    mcnemar,
    rate_cell,
    rate_interval,
)


def enumerated(energy: np.ndarray, success: np.ndarray, k: int) -> float:
    """Return best of k by enumerating all n^k draws; ties are shared among the drawn candidates."""
    ranked = np.where(np.isfinite(energy), energy, np.inf)
    flags = success & np.isfinite(energy)
    total = 0.0
    for draw in product(range(len(energy)), repeat=k):
        chosen = np.array(draw)
        lowest = chosen[ranked[chosen] == ranked[chosen].min()]
        total += flags[lowest].mean()
    return total / len(energy) ** k


@pytest.mark.parametrize(
    ("energy", "success"),
    [
        ([-3.0, -2.0, -1.0, 0.0], [True, False, True, False]),
        ([-3.0, -3.0, -1.0, 0.0], [True, False, False, True]),
        ([-1.0, -1.0, -1.0], [True, False, True]),
        ([np.nan, -2.0, np.nan, -1.0], [True, False, True, True]),
        ([np.nan, np.nan], [True, True]),
        ([-1.0], [True]),
    ],
)
def test_closed_form_equals_enumeration(energy: list[float], success: list[bool]) -> None:
    energies, flags = np.array(energy), np.array(success)
    for k in (1, 2, 3, 5):
        expected = enumerated(energies, flags, k)
        assert best_of_k(energies, flags, [k])[0] == pytest.approx(expected, abs=1e-12)


def test_closed_form_agrees_with_monte_carlo() -> None:
    generator = np.random.default_rng(7)
    energy = generator.normal(size=10)
    success = generator.random(10) < 0.4
    energy[[2, 5]] = np.nan
    draws = generator.integers(10, size=(300_000, 4))
    ranked = np.where(np.isfinite(energy), energy, np.inf)
    best = draws[np.arange(len(draws)), ranked[draws].argmin(axis=1)]
    sampled = (success & np.isfinite(energy))[best].mean()
    error = np.sqrt(sampled * (1 - sampled) / len(draws))
    assert abs(best_of_k(energy, success, [4])[0] - sampled) < 4 * error


def test_one_draw_is_the_single_trial_rate_and_many_find_the_lowest() -> None:
    energy, success = np.array([0.3, -1.0, 0.1, np.nan]), np.array([True, False, True, True])
    single, many = best_of_k(energy, success, [1, 400])
    assert single == pytest.approx(0.5)  # a candidate without an energy counts as a failure
    assert many == pytest.approx(0.0, abs=1e-12)


def test_a_failed_candidate_lowers_the_rate() -> None:
    rate = best_of_k(np.array([-1.0, np.nan]), np.array([True, True]), [1, 2, 3])
    assert rate == pytest.approx([1 / 2, 3 / 4, 7 / 8])


@given(
    st.lists(
        st.tuples(st.floats(-10, 10) | st.just(float("nan")), st.booleans()),
        min_size=1,
        max_size=12,
    )
)
def test_no_ranking_beats_any_of_k(candidates: list[tuple[float, bool]]) -> None:
    energy = np.array([item[0] for item in candidates])
    success = np.array([item[1] for item in candidates]) & np.isfinite(energy)
    k = np.arange(1, 8)
    assert (best_of_k(energy, success, k) <= any_of_k(success, k) + 1e-12).all()


@pytest.mark.parametrize("k", [[0], [-1, 2]])
def test_invalid_number_of_draws_is_refused(k: list[int]) -> None:
    with pytest.raises(ValueError, match="k >= 1"):
        best_of_k(np.array([1.0]), np.array([True]), k)


def test_bootstrap_interval_is_that_of_the_binomial() -> None:
    # Resampling 40 outcomes with 28 successes is binomial, with known quantiles.
    outcomes = np.array([1.0] * 28 + [0.0] * 12)
    low, high = bootstrap_interval(outcomes, generator=np.random.default_rng(0), n_resamples=40_000)
    expected = binom.ppf([0.025, 0.975], 40, 0.7) / 40
    assert [float(low), float(high)] == pytest.approx(expected, abs=1 / 40)


def test_bootstrap_is_fixed_by_its_generator_and_keeps_columns_together() -> None:
    values = np.random.default_rng(1).random((30, 2))
    values[:, 1] = values[:, 0]
    first = bootstrap_interval(values, generator=np.random.default_rng(3))
    again = bootstrap_interval(values, generator=np.random.default_rng(3))
    assert np.array_equal(first, again)
    assert first[0][0] == first[0][1]
    assert first[0][0] < values[:, 0].mean() < first[1][0]


@pytest.mark.parametrize("at_once", [500, 1])  # ten resamples of 50 structures, or less than one
def test_bootstrap_in_chunks_covers_all_resamples(
    monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    values = np.random.default_rng(1).random(50)
    whole = bootstrap_interval(values, generator=np.random.default_rng(3), n_resamples=1003)
    monkeypatch.setattr("xtalfill.evaluate.metrics._WEIGHTS_AT_ONCE", at_once)
    parts = bootstrap_interval(values, generator=np.random.default_rng(3), n_resamples=1003)
    assert np.allclose(whole, parts, rtol=0, atol=1e-12)


def test_yes_and_no_have_wilson_intervals_and_shares_bootstrap_ones() -> None:
    shares = np.random.default_rng(1).random(6)
    values = np.column_stack([np.ones(6), shares, np.zeros(6)])
    low, high = rate_interval(values, generator=np.random.default_rng(3))
    assert (low[0], high[0]) == pytest.approx((1 / (1 + 1.959964**2 / 6), 1.0), abs=1e-6)
    assert (low[2], high[2]) == pytest.approx((0.0, 1 - low[0]), abs=1e-9)
    alone = bootstrap_interval(shares, generator=np.random.default_rng(3))
    assert (low[1], high[1]) == pytest.approx(tuple(map(float, alone)))
    one = rate_interval(np.ones(6), generator=np.random.default_rng(3))
    assert (float(one[0]), float(one[1])) == (low[0], high[0])


def test_means_over_draws_that_are_all_yes_have_a_wilson_interval() -> None:
    thirds = np.full(6, 1 / 3 + 1 / 3 + 1 / 3 - 2e-16)  # a mean over draws, with its rounding
    assert rate_cell(thirds, generator=np.random.default_rng(3)) == {
        "value": 100.0, "low": 61.0, "high": 100.0,
    }  # fmt: skip


def test_bootstrap_of_nothing_is_nan() -> None:
    assert np.isnan(bootstrap_interval(np.empty((0, 3)), generator=np.random.default_rng(0))).all()


def test_mcnemar_by_hand() -> None:
    first = np.array([True] * 5 + [True] * 1 + [False] * 9 + [False] * 3)
    second = np.array([True] * 5 + [False] * 1 + [True] * 9 + [False] * 3)
    found = mcnemar(first, second)
    assert (found["both"], found["only_first"], found["only_second"], found["neither"]) == (
        5,
        1,
        9,
        3,
    )
    assert found["p_value"] == pytest.approx(2 * (1 + 10) / 2**10)
    assert mcnemar(first, first)["p_value"] == 1.0


@pytest.mark.parametrize(
    ("value", "bins", "label"),
    [
        (20, SIZE_BINS, "≤20 atoms"),
        (21, SIZE_BINS, "21–40 atoms"),
        (41, SIZE_BINS, ">40 atoms"),
        (1, SITE_BINS, "1 site"),
        (4, SITE_BINS, "2–4 sites"),
        (12, SITE_BINS, "9–12 sites"),
        (64, SITE_BINS, "13+ sites"),
    ],
)
def test_bins_have_inclusive_bounds(
    value: int, bins: tuple[tuple[str, int, int | None], ...], label: str
) -> None:
    assert bin_label(value, bins) == label
