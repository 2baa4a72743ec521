"""Which true site each noised site may have come from: exact probabilities.

The sites of one species are indistinguishable, so the density that noise makes of a crystal is a
sum over all assignments of noised to true sites. Its score is the mean, over that posterior, of
the score for one assignment. The probabilities that this mean needs are ratios of permanents,
summed here over subsets of the true sites (Ryser's problem by dynamic programming, 2^n n). Where
sites are too many for that, they are treated in blocks of near ones: within a block exactly, the
others held to the assignment that was really drawn. The mean of such targets over the draws is
still the exact score (Rao-Blackwell), with a little more noise in it.
"""

from __future__ import annotations

import numba
import numpy as np

BLOCK = 9  # sites; 512 subsets
_FLOOR = 1e-30  # of a likelihood, relative to the largest of its row


def assignment_probabilities(log_likelihood: np.ndarray, distance: np.ndarray) -> np.ndarray:
    """Return how likely each noised site came from each true site.

    Args:
        log_likelihood: (n, n) of noised site i at true site k; i was drawn from k = i.
        distance: (n, n) between the noised sites; near ones share a block. It must not depend on
            which site came from which.

    Returns:
        (n, n) rows add up to 1; zero between blocks.
    """
    scaled = log_likelihood - log_likelihood.max(axis=1, keepdims=True)
    likelihood = np.maximum(np.exp(scaled), _FLOOR)
    probability = np.zeros_like(likelihood)
    for block in blocks(distance):
        square = np.ix_(block, block)
        probability[square] = _probabilities(likelihood[square])
    return probability


def blocks(distance: np.ndarray) -> list[np.ndarray]:
    """Share sites out over blocks of at most `BLOCK`, each the first one left with its nearest."""
    left = np.arange(len(distance))
    found = []
    while len(left):
        order = np.argsort(distance[left[0], left], kind="stable")
        # the site itself comes first, unless another one lies on top of it
        block = np.sort(left[order[:BLOCK]])
        found.append(block)
        left = np.setdiff1d(left, block, assume_unique=True)
    return found


def nearest_distances(fractions: np.ndarray, cell: np.ndarray) -> np.ndarray:
    """Return distances (n, n), Angstrom, between sites (n, 3) at their nearest images or about so.

    Args:
        fractions: (n, 3) fractional coordinates.
        cell: (3, 3) Angstrom, rows are lattice vectors.
    """
    difference = fractions[:, None] - fractions
    return np.linalg.norm((difference - np.round(difference)) @ cell, axis=-1)


@numba.njit(nogil=True, cache=True)
def _probabilities(likelihood: np.ndarray) -> np.ndarray:
    """Sum over all assignments of n rows to n columns; column k of a set is bit k of a number."""
    n = len(likelihood)
    before, after = _ways_before(likelihood), _ways_after(likelihood)
    probability = np.zeros((n, n))
    for taken in range(len(before) - 1):
        row = _size(taken)
        for k in range(n):
            if not (taken >> k) & 1:
                way = before[taken] * likelihood[row, k] * after[taken | (1 << k)]
                probability[row, k] += way
    return probability / after[0]


@numba.njit(nogil=True, cache=True)
def _ways_before(likelihood: np.ndarray) -> np.ndarray:
    """Return for each set of columns the sum over ways to assign as many first rows to it."""
    ways = np.zeros(1 << len(likelihood))
    ways[0] = 1.0
    for taken in range(len(ways) - 1):
        row = _size(taken)
        for k in range(len(likelihood)):
            if not (taken >> k) & 1:
                ways[taken | (1 << k)] += ways[taken] * likelihood[row, k]
    return ways


@numba.njit(nogil=True, cache=True)
def _ways_after(likelihood: np.ndarray) -> np.ndarray:
    """Return for each set of columns the sum over ways to assign the other rows to the others."""
    ways = np.zeros(1 << len(likelihood))
    ways[-1] = 1.0
    for taken in range(len(ways) - 2, -1, -1):
        row = _size(taken)
        for k in range(len(likelihood)):
            if not (taken >> k) & 1:
                ways[taken] += likelihood[row, k] * ways[taken | (1 << k)]
    return ways


@numba.njit(nogil=True, cache=True)
def _size(taken: int) -> int:
    """Return how many columns a set has."""
    size = 0
    while taken:
        size += taken & 1
        taken >>= 1
    return size
