"""Interatomic distances."""

from __future__ import annotations

import numpy as np
from ase.neighborlist import primitive_neighbor_list

MIN_DISTANCE = 0.5  # Angstrom; H2: 0.74. Energies of potentials are unphysical below


def nearest_distance(positions: np.ndarray, cell: np.ndarray) -> float:
    """Return the shortest distance below `MIN_DISTANCE` between two atoms, images included.

    Args:
        positions: (n_atoms, 3) Angstrom.
        cell: (3, 3) Angstrom; rows are a, b, c.

    Returns:
        Angstrom; infinity if all distances are larger.
    """
    found = primitive_neighbor_list("d", (True, True, True), cell, positions, MIN_DISTANCE)
    return float(np.min(found, initial=np.inf))
