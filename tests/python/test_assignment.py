"""Assignment probabilities: exact against all permutations; blocks of sites keep the mean."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xtalfill.training.assignment import (
    BLOCK,
    assignment_probabilities,
    blocks,
    nearest_distances,
)


def by_permutations(log_likelihood: np.ndarray) -> np.ndarray:
    """Sum the probabilities of all assignments explicitly."""
    n = len(log_likelihood)
    rows = np.arange(n)
    orders = np.array(list(itertools.permutations(range(n))))
    weight = np.array([log_likelihood[rows, order].sum() for order in orders])
    weight = np.exp(weight - weight.max())
    total = np.zeros((n, n))
    for order, share in zip(orders, weight / weight.sum(), strict=True):
        total[rows, order] += share
    return total


@given(n=st.integers(1, 6), seed=st.integers(0, 10_000), spread=st.floats(0.1, 8.0))
@settings(max_examples=60)
def test_probabilities_agree_with_all_permutations(n: int, seed: int, spread: float) -> None:
    log_likelihood = spread * np.random.default_rng(seed).normal(size=(n, n))
    found = assignment_probabilities(log_likelihood, np.zeros((n, n)))
    np.testing.assert_allclose(found, by_permutations(log_likelihood), atol=1e-9)
    np.testing.assert_allclose(found.sum(0), 1.0)
    np.testing.assert_allclose(found.sum(1), 1.0)


def test_two_sites_that_may_be_exchanged() -> None:
    # (keep, swap) has odds e^2 : 1; scaling rows and columns to 1 (Sinkhorn) would give e : 1
    found = assignment_probabilities(np.array([[1.0, 0.0], [0.0, 1.0]]), np.zeros((2, 2)))
    assert found[0, 0] == pytest.approx(1 / (1 + np.exp(-2)))


def test_very_different_likelihoods_stay_finite() -> None:
    log_likelihood = -1000.0 * np.arange(81.0).reshape(9, 9)
    assert np.isfinite(assignment_probabilities(log_likelihood, np.zeros((9, 9)))).all()


@given(n=st.integers(1, 30), seed=st.integers(0, 1000))
@settings(max_examples=30)
def test_each_site_is_in_one_block_with_nearby_sites(n: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    distance = nearest_distances(rng.random((n, 3)), np.diag([6.0, 7.0, 8.0]))
    shared = blocks(distance)
    assert sorted(np.concatenate(shared).tolist()) == list(range(n))
    assert [len(block) for block in shared[:-1]] == [BLOCK] * (len(shared) - 1)
    first = distance[0, shared[0]].max()
    others = np.setdiff1d(np.arange(n), shared[0])
    assert (distance[0, others] >= first).all()


def test_blocks_do_not_change_the_mean_over_draws() -> None:
    """12 sites at distances similar to the noise level: more than one block."""
    rng = np.random.default_rng(3)
    true = rng.random((12, 1)) * 12.0
    noised = true + rng.normal(size=(12, 1))

    def log_likelihood(order: np.ndarray) -> np.ndarray:
        return -0.5 * (noised - true[order].T) ** 2

    # sample the assignment, given the noised sites, by exchanging pairs
    order, mean, count = np.arange(12), np.zeros(12), 0
    exact = np.zeros(12)
    for sweep in range(30_000):
        i, j = rng.choice(12, 2, replace=False)
        pair = log_likelihood(order)
        odds = pair[i, j] + pair[j, i] - pair[i, i] - pair[j, j]
        if rng.random() < np.exp(min(0.0, odds)):
            order[[i, j]] = order[[j, i]]
        exact += true[order, 0]
        if sweep % 20 == 0:
            probability = assignment_probabilities(log_likelihood(order), np.abs(noised - noised.T))
            mean += probability @ true[order, 0]
            count += 1
    np.testing.assert_allclose(mean / count, exact / 30_000, atol=0.15)


def test_distances_use_the_nearest_images() -> None:
    fractions = np.array([[0.05, 0.5, 0.5], [0.95, 0.5, 0.5]])
    assert nearest_distances(fractions, 5.0 * np.eye(3))[0, 1] == pytest.approx(0.5)
