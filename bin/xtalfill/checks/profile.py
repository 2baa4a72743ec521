"""Powder profiles: peaks with a shape, and their fit to a measured pattern.

The shape is a pseudo-Voigt function with the width sqrt(w + u tan^2 theta). The fit has no
structural parameter but an overall B: it asks how well a given crystal explains the pattern.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import least_squares

from xtalfill.checks.diffraction import Peaks

N_BACKGROUND = 6  # Chebyshev polynomials
_REACH = 12.0  # widths from the centre to the end of a peak
_STARTS = tuple((zero, width) for width in (0.1, 0.25, 0.6) for zero in np.arange(-0.3, 0.31, 0.1))


@dataclass(frozen=True)
class Shape:
    """Shape of the peaks.

    Attributes:
        zero: Zero shift, degrees of 2 theta, added to calculated positions.
        w: Square of the width (full, at half maximum) at small angles, degrees^2.
        u: How it grows with tan^2 theta, degrees^2.
        mixing: 0: Gaussian, 1: Lorentzian.
        b: Overall isotropic displacement parameter B, Å^2.
    """

    zero: float = 0.0
    w: float = 0.04
    u: float = 0.0
    mixing: float = 0.3
    b: float = 0.0


# Bounds of the parameters of a shape, in their order.
_LOWEST = np.array([-0.5, 4e-4, 0.0, 0.0, 0.0])
_HIGHEST = np.array([0.5, 4.0, 4.0, 1.0, 8.0])


@dataclass(frozen=True, eq=False)
class Measured:
    """A measured powder pattern.

    Attributes:
        two_theta: (n,) degrees, ascending.
        intensity: (n,) counts or arbitrary units.
        sigma: (n,) standard uncertainties.
    """

    two_theta: np.ndarray
    intensity: np.ndarray
    sigma: np.ndarray


@dataclass(frozen=True, eq=False)
class Fit:
    """A crystal fitted to a measured pattern.

    Attributes:
        rwp: Weighted profile R factor: sqrt(sum w (y - f)^2 / sum w y^2).
        chi2: Reduced chi^2.
        scale: Of the calculated intensities.
        shape: Of the peaks.
        calculated: (n,) the fit, background included.
        background: (n,)
    """

    rwp: float
    chi2: float
    scale: float
    shape: Shape
    calculated: np.ndarray
    background: np.ndarray


def profile(peaks: Peaks, grid: np.ndarray, shape: Shape, *, wavelength: float) -> np.ndarray:
    """Return the profile (n,) of some peaks on a grid of 2 theta (n,), degrees, ascending."""
    theta = np.radians(peaks.two_theta / 2)
    widths = np.sqrt(shape.w + shape.u * np.tan(theta) ** 2)
    heights = peaks.intensity * np.exp(-2 * shape.b * (np.sin(theta) / wavelength) ** 2)
    centres = peaks.two_theta + shape.zero
    first = np.searchsorted(grid, centres - _REACH * widths)
    last = np.searchsorted(grid, centres + _REACH * widths)
    total = np.zeros(len(grid))
    gauss = (1 - shape.mixing) * 2 * np.sqrt(np.log(2) / np.pi)
    for k in np.flatnonzero(last > first):
        here = slice(first[k], last[k])
        x = (grid[here] - centres[k]) / widths[k]
        y = gauss * np.exp(-4 * np.log(2) * x**2) + shape.mixing * 2 / np.pi / (1 + 4 * x**2)
        total[here] += heights[k] / widths[k] * y
    return total


def fit_profile(peaks: Peaks, measured: Measured, *, wavelength: float) -> Fit:
    """Fit scale, background, zero shift, width and overall B of a crystal to a pattern.

    Scale (not negative) and background are linear, and solved for at each step of the others.

    Args:
        peaks: Of the crystal, over the range of the pattern.
        measured: The pattern.
        wavelength: Å.
    """
    grid = measured.two_theta
    weights = 1 / measured.sigma
    ends = (grid[0], grid[-1])
    background = np.polynomial.chebyshev.chebvander(
        2 * (grid - ends[0]) / (ends[1] - ends[0]) - 1, N_BACKGROUND - 1
    )

    def solve(values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return coefficients, scale first, the functions (n, m), and weighted residuals (n,)."""
        shaped = profile(peaks, grid, Shape(*values), wavelength=wavelength)
        size = max(float(shaped.max()), 1e-300)
        functions = np.column_stack([shaped / size, background])
        found = np.linalg.lstsq(
            functions * weights[:, None], measured.intensity * weights, rcond=None
        )[0]
        if found[0] < 0:
            rest = functions[:, 1:] * weights[:, None]
            found = np.r_[0.0, np.linalg.lstsq(rest, measured.intensity * weights, rcond=None)[0]]
        residuals = weights * (measured.intensity - functions @ found)
        functions[:, 0] *= size
        found[0] /= size
        return found, functions, residuals

    starts = [np.array([zero, width**2, 0.0, 0.3, 0.5]) for zero, width in _STARTS]
    start = min(starts, key=lambda values: float((solve(values)[2] ** 2).sum()))
    best = least_squares(
        lambda values: solve(values)[2],
        start,
        bounds=(_LOWEST, _HIGHEST),
        x_scale=[0.05, 0.02, 0.05, 0.3, 1.0],
        max_nfev=60,
    ).x
    found, functions, residuals = solve(best)
    square = float((residuals**2).sum())
    free = max(len(grid) - len(found) - len(best), 1)
    return Fit(
        rwp=float(np.sqrt(square / ((measured.intensity * weights) ** 2).sum())),
        chi2=square / free,
        scale=float(found[0]),
        shape=Shape(*(float(value) for value in best)),
        calculated=functions @ found,
        background=functions[:, 1:] @ found[1:],
    )


def difference(one: np.ndarray, other: np.ndarray) -> float:
    """Return the R factor between two simulated profiles (n,), the second scaled to the first."""
    norm = float(one @ one)
    size = float(other @ other)
    scale = max(float(one @ other) / size, 0.0) if size else 0.0
    return float(np.sqrt(((one - scale * other) ** 2).sum() / norm)) if norm else float("nan")
