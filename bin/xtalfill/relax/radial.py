"""Radial networks of potentials as tables of polynomials, on the CPU.

A radial network gives the weights of a tensor product, up to some thousand functions of the length
of an edge alone. A polynomial of degree 5 takes a tenth of the operations of the last layer of the
network, and none for the others.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from xtalfill.relax.kernels import reordered

DEGREE = 5
SMALLEST = 0.01  # Angstrom; nearer atoms coincide, and the functions are NaN
TOLERANCE = 1e-7  # of the largest value; float32 resolves 6e-8
_COARSEST, _FINEST = 0.05, 0.002  # Angstrom, lengths of an interval

# Of an interval from -1 to 1: the points that define the polynomial, and those that test it.
_NODES = -np.cos(np.pi * np.arange(DEGREE + 1) / DEGREE)
_TESTED = (_NODES[1:] + _NODES[:-1]) / 2.0
_TO_POWERS = np.linalg.inv(np.vander(_NODES, increasing=True))
_POWERS_TESTED = np.vander(_TESTED, DEGREE + 1, increasing=True)


class RadialTable:
    """Functions of a distance; each interval has polynomials of its own, which agree at its ends.

    Args:
        coefficients: (n_intervals, `DEGREE` + 1, n_functions) of the powers of the place in the
            interval, from -1 to 1; a floating dtype, which is that of the results.
        first: Where the first interval begins, Angstrom.
        step: Length of an interval, Angstrom.
    """

    def __init__(self, coefficients: np.ndarray, first: float, step: float) -> None:
        self.coefficients = coefficients
        self.first = first
        self.step = step

    @property
    def n_functions(self) -> int:
        """Number of functions."""
        return int(self.coefficients.shape[2])

    def values(self, distance: np.ndarray) -> np.ndarray:
        """Return the (n_edges, n_functions) functions of (n_edges,) distances in Angstrom.

        They are 0 beyond the last interval, and NaN where a distance is below the first or NaN.
        """
        found = np.empty((len(distance), self.n_functions), self.coefficients.dtype)
        interpolate(distance, self.first, self.step, self.coefficients, found)
        return found

    def pull(self, distance: np.ndarray, gradient: np.ndarray) -> np.ndarray:
        """Return the (n_edges,) gradient with respect to the distances.

        Args:
            distance: (n_edges,) Angstrom.
            gradient: (n_edges, n_functions) with respect to the functions.
        """
        found = np.empty(len(distance), self.coefficients.dtype)
        pull_distance(distance, self.first, self.step, self.coefficients, gradient, found)
        return found


def tabulate(
    function: Callable[[torch.Tensor], torch.Tensor],
    *,
    cutoff: float,
    kink: float | None = None,
    dtype: torch.dtype = torch.float32,
) -> RadialTable | None:
    """Return the table of some functions; None if they are not smooth enough for `TOLERANCE`.

    Args:
        function: (n,) distances in float64 -> (n, n_functions) values. They are 0 at the cutoff.
        cutoff: Where the functions end, Angstrom.
        kink: Where a higher derivative is not continuous, Angstrom; a boundary of intervals.
        dtype: Of the table.
    """
    unit = cutoff - (SMALLEST if kink is None else kink)
    step = unit / np.ceil(unit / _COARSEST)
    while step >= _FINEST:
        count = int((cutoff - SMALLEST) / step * (1.0 + 1e-12))
        first = cutoff - count * step
        centres = first + step * (np.arange(count)[:, None] + 0.5)
        values, tested = (
            _at(function, centres + 0.5 * step * places) for places in (_NODES, _TESTED)
        )
        coefficients = np.einsum("ij,njw->niw", _TO_POWERS, values)
        error = np.abs(np.einsum("ji,niw->njw", _POWERS_TESTED, coefficients) - tested).max()
        if error <= TOLERANCE * np.abs(values).max():
            kind = torch.zeros(0, dtype=dtype).numpy().dtype
            return RadialTable(np.ascontiguousarray(coefficients, kind), first, step)
        step /= 2.0
    return None


def _at(function: Callable[[torch.Tensor], torch.Tensor], places: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        found: np.ndarray = function(torch.from_numpy(places.reshape(-1))).numpy()
    return found.reshape(*places.shape, -1)


@reordered
def interpolate(
    distance: np.ndarray, first: float, step: float, coefficients: np.ndarray, out: np.ndarray
) -> None:
    """Write the functions of each distance to `out`."""
    n = len(coefficients)
    for e in range(len(distance)):
        place = (distance[e] - first) / step
        row = out[e]
        if 0.0 <= place < n:
            k = np.uint64(place)
            s = out.dtype.type(2.0 * (place - k) - 1.0)
            c0, c1, c2 = coefficients[k, 0], coefficients[k, 1], coefficients[k, 2]
            c3, c4, c5 = coefficients[k, 3], coefficients[k, 4], coefficients[k, 5]
            for u in range(len(row)):
                row[u] = c0[u] + s * (c1[u] + s * (c2[u] + s * (c3[u] + s * (c4[u] + s * c5[u]))))
        else:
            row[:] = 0.0 if place >= n else np.nan


@reordered
def pull_distance(
    distance: np.ndarray,
    first: float,
    step: float,
    coefficients: np.ndarray,
    gradient: np.ndarray,
    out: np.ndarray,
) -> None:
    """Write the gradient with respect to each distance to `out`, given that of the functions."""
    n = len(coefficients)
    for e in range(len(distance)):
        place = (distance[e] - first) / step
        out[e] = 0.0 if place >= n else np.nan
        if 0.0 <= place < n:
            k, g = np.uint64(place), gradient[e]
            s = out.dtype.type(2.0 * (place - k) - 1.0)
            square = s * s
            s2, s3 = out.dtype.type(2.0) * s, out.dtype.type(3.0) * square
            s4, s5 = out.dtype.type(4.0) * square * s, out.dtype.type(5.0) * square * square
            c1, c2, c3 = coefficients[k, 1], coefficients[k, 2], coefficients[k, 3]
            c4, c5 = coefficients[k, 4], coefficients[k, 5]
            total = out.dtype.type(0)
            for u in range(len(g)):
                total += g[u] * (c1[u] + s2 * c2[u] + s3 * c3[u] + s4 * c4[u] + s5 * c5[u])
            out[e] = total * out.dtype.type(2.0 / step)
