"""Training target of the method `host`: the exact mean displacement of noised sites.

The sites of one element are indistinguishable and the crystal is periodic, so the density of the
noised crystal is a mixture over periodic images and over assignments of noised to true sites. The
target is the mean displacement under this mixture instead of the displacement to the drawn site:
the same score with less variance.
"""

from __future__ import annotations

import math

import numpy as np

from xtalfill.core.compiled import compiled
from xtalfill.training.assignment import assignment_probabilities, nearest_distances


def expected_displacement(
    noised: np.ndarray, true: np.ndarray, cell: np.ndarray, sigma: float
) -> np.ndarray:
    """Return E[x0 | x] - x for each noised site of one known crystal.

    Exact for up to `xtalfill.training.assignment.BLOCK` sites. For more sites the mean over draws
    is exact; noised site i must be drawn from true site i.

    Args:
        noised: (n, 3) Angstrom.
        true: (n, 3) Angstrom.
        cell: (3, 3) Angstrom; rows are lattice vectors.
        sigma: Noise level, Angstrom.

    Returns:
        (n, 3) Angstrom.
    """
    inverse = np.linalg.inv(cell)
    heights = 1.0 / np.linalg.norm(inverse, axis=0)
    limit = np.where(heights > 4.0, 2, 3)
    reach = np.minimum(np.ceil(3.0 * sigma / heights + 0.5), limit).astype(np.int64)
    fractions = noised @ inverse
    pairs, log_likelihood = _pairs(fractions, true @ inverse, cell, reach, sigma)
    probability = assignment_probabilities(log_likelihood, nearest_distances(fractions, cell))
    return np.asarray((probability[:, :, None] * pairs).sum(axis=1))


@compiled()
def _pair(
    difference: np.ndarray, cell: np.ndarray, reach: np.ndarray, sigma: float, out: np.ndarray
) -> float:
    """Write the mean displacement over images to `out`; return the log-likelihood."""
    fa = difference[0] - round(difference[0])
    fb = difference[1] - round(difference[1])
    fc = difference[2] - round(difference[2])
    best = -1e300
    total = 0.0
    out[:] = 0.0
    for a in range(-reach[0], reach[0] + 1):
        for b in range(-reach[1], reach[1] + 1):
            for c in range(-reach[2], reach[2] + 1):
                ga, gb, gc = fa + a, fb + b, fc + c
                x = ga * cell[0, 0] + gb * cell[1, 0] + gc * cell[2, 0]
                y = ga * cell[0, 1] + gb * cell[1, 1] + gc * cell[2, 1]
                z = ga * cell[0, 2] + gb * cell[1, 2] + gc * cell[2, 2]
                log_weight = -(x * x + y * y + z * z) / (2.0 * sigma * sigma)
                if log_weight < best - 30.0:
                    continue
                if log_weight > best:
                    shrink = math.exp(best - log_weight) if best > -1e299 else 0.0
                    total *= shrink
                    out *= shrink
                    best = log_weight
                weight = math.exp(log_weight - best)
                total += weight
                out[0] += weight * x
                out[1] += weight * y
                out[2] += weight * z
    out /= total
    return best + math.log(total)


@compiled()
def _pairs(
    noised: np.ndarray, true: np.ndarray, cell: np.ndarray, reach: np.ndarray, sigma: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return mean displacement (n, n, 3) and log-likelihood (n, n) of each pair."""
    n = len(noised)
    pairs = np.empty((n, n, 3))
    log_likelihood = np.empty((n, n))
    for i in range(n):
        for k in range(n):
            log_likelihood[i, k] = _pair(true[k] - noised[i], cell, reach, sigma, pairs[i, k])
    return pairs, log_likelihood
