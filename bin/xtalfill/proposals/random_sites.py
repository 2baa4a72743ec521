"""Random placement with a minimum distance: the baseline for all methods."""

from __future__ import annotations

import numpy as np
from ase.data import covalent_radii

from xtalfill.models.edges import periodic_edges
from xtalfill.models.graphs import Host

_TRIES = 200
_SHRINK = 0.9
_FRACTION_OF_BOND = 0.8


def random_sites(host: Host, *, generator: np.random.Generator) -> np.ndarray:
    """Place the missing sites one by one, uniformly, with a minimum distance to all atoms.

    A position is rejected if it is closer to an atom than 0.8 of the sum of their covalent radii.
    After 200 rejected positions this fraction is reduced by a tenth, so that dense hosts can be
    filled.

    Args:
        host: The crystal to fill.
        generator: Random generator of the candidate.

    Returns:
        (n_sites, 3) Angstrom, inside the cell.
    """
    numbers = list(host.numbers)
    positions = [*host.positions]
    for _ in range(host.n_sites):
        fraction = _FRACTION_OF_BOND
        while True:
            draws = generator.random((_TRIES, 3)) @ host.cell
            free = _is_free(draws, np.array(positions), np.array(numbers), host, fraction)
            if free.any():
                positions.append(draws[np.argmax(free)])
                numbers.append(host.element)
                break
            fraction *= _SHRINK
    return np.array(positions[len(host.positions) :])


def _is_free(
    draws: np.ndarray, positions: np.ndarray, numbers: np.ndarray, host: Host, fraction: float
) -> np.ndarray:
    """Return which positions (n, 3) have the minimum distance to all atoms placed so far."""
    reach = fraction * (covalent_radii[numbers] + covalent_radii[host.element])
    edges = periodic_edges(draws, positions, host.cell, float(reach.max()), same=False)
    near = np.linalg.norm(edges.vector, axis=1) < reach[edges.sender]
    free = np.ones(len(draws), dtype=bool)
    free[edges.receiver[near]] = False
    return free
