"""Local maxima of a periodic function on a grid, interpolated between grid points."""

from __future__ import annotations

import itertools

import numpy as np
from skimage.feature import peak_local_max

from xtalfill.proposals.sites import highest_first

_DECIMALS = 6
_PAD = 3  # grid points; ties across the boundary are broken as inside
_STENCIL = np.array(list(itertools.product((-1, 0, 1), repeat=3)))
_PAIRS = ((0, 0), (1, 1), (2, 2), (0, 1), (0, 2), (1, 2))


def periodic_maxima(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the local maxima of a periodic function, refined between grid points.

    A grid point is a maximum if none of its 26 neighbours exceeds it (van der Walt et al. 2014, doi
    10.7717/peerj.453). A quadratic function fitted to the 27 values refines its position.

    Args:
        values: (n1, n2, n3) on the points i / n of the cell.

    Returns:
        Fractional coordinates (m, 3) in [0, 1) and the values (m,) there, the highest first.
    """
    shape = np.array(values.shape)
    wrapped = np.pad(values, _PAD, mode="wrap")
    found = peak_local_max(wrapped, min_distance=1, exclude_border=False) - _PAD
    found = found[((found >= 0) & (found < shape)).all(axis=1)]
    around = (found[:, None] + _STENCIL) % shape
    offset, refined = _quadratic(values[tuple(np.moveaxis(around, -1, 0))])
    places = (found + offset) / shape % 1.0
    order = highest_first(places.round(_DECIMALS) % 1.0, refined)  # 0.9999999 is at 0
    return places[order], refined[order]


def _quadratic(samples: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Fit a quadratic function to (m, 27) values and return position and height of its maximum.

    A grid point does not change if its fit has no maximum within one grid step.
    """
    x = _STENCIL.astype(np.float64)
    columns = [np.ones(27), *x.T, *(x[:, i] * x[:, j] for i, j in _PAIRS)]
    fits = samples @ np.linalg.pinv(np.stack(columns, axis=1)).T
    offset, value = np.zeros((len(samples), 3)), samples[:, 13].copy()
    for number, fit in enumerate(fits):
        gradient, hessian = fit[1:4], np.zeros((3, 3))
        for (i, j), coefficient in zip(_PAIRS, fit[4:], strict=True):
            hessian[i, j] += coefficient
            hessian[j, i] += coefficient
        if np.linalg.eigvalsh(hessian).max() >= 0:
            continue
        step = -np.linalg.solve(hessian, gradient)
        if np.abs(step).max() <= 1:
            offset[number] = step
            # The central value is exact, the fit is not, so only its increase is used.
            value[number] += float(gradient @ step + step @ hessian @ step / 2)
    return offset, value
