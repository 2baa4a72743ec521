"""Coulomb energies of point charges in a periodic cell (Ewald 1921, Ann. Phys. 369, 253)."""

from __future__ import annotations

import math

import numpy as np
from ase import units
from scipy.special import erfc

COULOMB = units._e / (4 * math.pi * units._eps0) * 1e10  # e^2/(4 pi eps0) in eV Angstrom
_ACCURACY = 7.0  # erfc(7) and exp(-49) are below 1e-21


def pair_energies(scaled: np.ndarray, cell: np.ndarray) -> np.ndarray:
    """Return the energies of pairs of unit charges with all their images.

    Each charge has its own uniform background of the opposite charge. N charges q have the energy
    q^2 (sum over pairs i < j of J_ij + sum over i of J_ii / 2).

    Args:
        scaled: (n, 3) fractional coordinates.
        cell: (3, 3) Angstrom; rows are a, b, c.

    Returns:
        (n, n) eV: J; the diagonal is a charge with its own images and background.
    """
    n = len(scaled)
    volume = abs(float(np.linalg.det(cell)))
    eta = math.sqrt(math.pi) / volume ** (1 / 3)  # 1/Angstrom; both sums have about equal length
    difference = scaled[:, None] - scaled[None]
    difference -= np.round(difference)
    table, where = np.unique(difference.reshape(-1, 3).round(12), axis=0, return_inverse=True)
    total = _reciprocal(table, cell, eta, volume) + _direct(table, cell, eta)
    found = COULOMB * total[where.ravel()].reshape(n, n)
    return (found + found.T) / 2


def _reciprocal(table: np.ndarray, cell: np.ndarray, eta: float, volume: float) -> np.ndarray:
    """Return the reciprocal-space part in 1/Angstrom, including the background."""
    reciprocal = 2 * math.pi * np.linalg.inv(cell).T
    indices = _lattice(reciprocal, 2 * eta * _ACCURACY)
    indices = indices[np.any(indices != 0, axis=1)]
    square = ((indices @ reciprocal) ** 2).sum(axis=1)
    weight = 4 * math.pi / volume * np.exp(-square / (4 * eta**2)) / square
    found = np.array([weight @ np.cos(2 * math.pi * (indices @ point)) for point in table])
    return found - math.pi / (volume * eta**2)


def _direct(table: np.ndarray, cell: np.ndarray, eta: float) -> np.ndarray:
    """Return the real-space part in 1/Angstrom, without the self-interaction."""
    indices = _lattice(cell, _ACCURACY / eta + np.linalg.norm(cell, axis=1).sum() / 2)
    found = np.empty(len(table))
    for number, point in enumerate(table):
        distance = np.linalg.norm((indices + point) @ cell, axis=1)
        self_term = -2 * eta / math.sqrt(math.pi) if (distance < 1e-9).any() else 0.0
        distance = distance[distance >= 1e-9]
        found[number] = (erfc(eta * distance) / distance).sum() + self_term
    return found


def _lattice(vectors: np.ndarray, radius: float) -> np.ndarray:
    """Return the integer triples (n, 3) of all lattice points within a radius."""
    heights = 1 / np.linalg.norm(np.linalg.inv(vectors), axis=0)
    axes = [np.arange(-n, n + 1) for n in np.ceil(radius / heights).astype(int)]
    indices = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)
    return indices[np.linalg.norm(indices @ vectors, axis=1) <= radius]
