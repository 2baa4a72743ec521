"""Exact assignment probabilities of noised sites to true sites.

The sites of one element are indistinguishable, so the density of the noised crystal is a sum over
all assignments of noised to true sites. Its score is the posterior mean of the scores for single
assignments. The required probabilities are ratios of permanents, computed by dynamic programming
over subsets of the true sites (2^n n operations). A larger number of sites is divided into blocks
of nearby sites. Each block is treated exactly, with all other sites fixed to the assignment that
was drawn. The mean of these targets over the draws is still the exact score (Rao-Blackwell), with
slightly more variance.
"""

from __future__ import annotations

import numpy as np

from xtalfill.core.compiled import compiled

BLOCK = 9  # sites; 512 subsets
_FLOOR = 1e-30  # lower bound of a likelihood, relative to the largest of its row


def assignment_probabilities(log_likelihood: np.ndarray, distance: np.ndarray) -> np.ndarray:
    """Return the probability that each noised site came from each true site.

    Args:
        log_likelihood: (n, n) of noised site i given true site k; i was drawn from k = i.
        distance: (n, n) between the noised sites, to form blocks of nearby sites. It must not
            depend on the assignment.

    Returns:
        (n, n) rows sum to 1; zero between blocks.
    """
    scaled = log_likelihood - log_likelihood.max(axis=1, keepdims=True)
    likelihood = np.maximum(np.exp(scaled), _FLOOR)
    probability = np.zeros_like(likelihood)
    for block in blocks(distance):
        square = np.ix_(block, block)
        probability[square] = _probabilities(likelihood[square])
    return probability


def blocks(distance: np.ndarray) -> list[np.ndarray]:
    """Divide sites into blocks of at most `BLOCK`: the first remaining site and its nearest."""
    left = np.arange(len(distance))
    found = []
    while len(left):
        order = np.argsort(distance[left[0], left], kind="stable")
        # the site itself comes first unless another one has the same position
        block = np.sort(left[order[:BLOCK]])
        found.append(block)
        left = np.setdiff1d(left, block, assume_unique=True)
    return found


def nearest_distances(fractions: np.ndarray, cell: np.ndarray) -> np.ndarray:
    """Return approximate minimum-image distances (n, n), Angstrom.

    The nearest image is found by rounding fractional coordinates.

    Args:
        fractions: (n, 3) fractional coordinates.
        cell: (3, 3) Angstrom; rows are lattice vectors.
    """
    difference = fractions[:, None] - fractions
    return np.linalg.norm((difference - np.round(difference)) @ cell, axis=-1)


@compiled()
def _probabilities(likelihood: np.ndarray) -> np.ndarray:
    """Sum over all assignments of n rows to n columns; bit k of an integer is column k."""
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


@compiled()
def _ways_before(likelihood: np.ndarray) -> np.ndarray:
    """Return, for each set of columns, the sum over assignments of the first rows to it."""
    ways = np.zeros(1 << len(likelihood))
    ways[0] = 1.0
    for taken in range(len(ways) - 1):
        row = _size(taken)
        for k in range(len(likelihood)):
            if not (taken >> k) & 1:
                ways[taken | (1 << k)] += ways[taken] * likelihood[row, k]
    return ways


@compiled()
def _ways_after(likelihood: np.ndarray) -> np.ndarray:
    """Return, for each set of columns, the sum over assignments of the rest to the rest."""
    ways = np.zeros(1 << len(likelihood))
    ways[-1] = 1.0
    for taken in range(len(ways) - 2, -1, -1):
        row = _size(taken)
        for k in range(len(likelihood)):
            if not (taken >> k) & 1:
                ways[taken] += likelihood[row, k] * ways[taken | (1 << k)]
    return ways


@compiled()
def _size(taken: int) -> int:
    """Return the number of columns in a set."""
    size = 0
    while taken:
        size += taken & 1
        taken >>= 1
    return size
