"""Moves from one minimum to another: what the second round of RELAX starts from.

Each move changes some filled sites of a relaxed crystal in the exact host. The relaxation decides
whether the result is lower.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from ase.data import covalent_radii
from ase.geometry import get_distances
from scipy.spatial.transform import Rotation

from xtalfill.core.crystal import Crystal, is_collapsed

_NOISE = (0.4, 0.8)  # Angstrom
_BOND = 1.3  # longest bond in sums of covalent radii
_TRIES = 20  # draws until no two atoms are inside each other

Move = Callable[[Crystal, np.ndarray, np.random.Generator], np.ndarray | None]


def noised(crystal: Crystal, free: np.ndarray, random: np.random.Generator) -> np.ndarray | None:
    """Give a random half of the sites new noise of 0.4 to 0.8 Angstrom.

    Args:
        crystal: Host and filled sites.
        free: (n_atoms,) True for the filled sites.
        random: Generator of the move.

    Returns:
        The positions (n_atoms, 3).
    """
    sites = np.flatnonzero(free)
    chosen = random.choice(sites, size=(len(sites) + 1) // 2, replace=False)
    positions = crystal.positions.copy()
    positions[chosen] += random.uniform(*_NOISE) * random.standard_normal((len(chosen), 3))
    return positions


def turned(crystal: Crystal, free: np.ndarray, random: np.random.Generator) -> np.ndarray | None:
    """Turn the sites bonded to one host atom about it, as water or ammonium.

    Args and result are those of `noised`; None if no site has a bond to a host atom.
    """
    centre, vectors = _centres(crystal, free)
    bonded = np.isfinite(vectors).all(axis=1)
    if not bonded.any():
        return None
    atom = random.choice(np.unique(centre[bonded]))
    group = bonded & (centre == atom)
    turn = Rotation.random(random_state=random.integers(2**31)).as_matrix()
    positions = crystal.positions.copy()
    positions[np.flatnonzero(free)[group]] = crystal.positions[atom] + vectors[group] @ turn.T
    return positions


def handed_on(crystal: Crystal, free: np.ndarray, random: np.random.Generator) -> np.ndarray | None:
    """Move one site to the next host atom of the element that it is bonded to.

    Args and result are those of `noised`; None if no bonded site has such an atom.
    """
    centre, vectors = _centres(crystal, free)
    bonded = np.flatnonzero(np.isfinite(vectors).all(axis=1))
    if not len(bonded):
        return None
    one = random.choice(bonded)
    site = np.flatnonzero(free)[one]
    alike = ~free & (crystal.numbers == crystal.numbers[centre[one]])
    alike[centre[one]] = False
    if not alike.any():
        return None
    away, apart = _vectors(crystal, crystal.positions[alike], crystal.positions[[site]])
    near = int(np.argmin(apart[:, 0]))
    bond = np.linalg.norm(vectors[one])
    positions = crystal.positions.copy()
    positions[site] = crystal.positions[alike][near] + bond * away[near, 0] / apart[near, 0]
    return positions


MOVES: dict[str, Move] = {"noised": noised, "turned": turned, "handed on": handed_on}


def moved(
    crystal: Crystal, free: np.ndarray, name: str, random: np.random.Generator
) -> np.ndarray | None:
    """Return the positions (n_atoms, 3) after a move in which no two atoms collapse, or None.

    Args:
        crystal: Host and filled sites.
        free: (n_atoms,) True for the filled sites.
        name: One of `MOVES`.
        random: Generator of the move.
    """
    for _ in range(_TRIES):
        positions = MOVES[name](crystal, free, random)
        if positions is None:
            return None
        if not is_collapsed(Crystal(crystal.numbers, positions, crystal.cell)):
            return positions
    return None


def _centres(crystal: Crystal, free: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the host atom (n_sites,) nearest to each site in radii, and the bond from it.

    The bond (n_sites, 3) is NaN where it is longer than `_BOND`.
    """
    host = np.flatnonzero(~free)
    away, apart = _vectors(crystal, crystal.positions[host], crystal.positions[free])
    sums = covalent_radii[crystal.numbers[host]][:, None] + covalent_radii[crystal.numbers[free]]
    nearest = np.argmin(apart / sums, axis=0)
    sites = np.arange(len(nearest))
    bonds = away[nearest, sites].copy()
    bonds[(apart / sums)[nearest, sites] > _BOND] = np.nan
    return host[nearest], bonds


def _vectors(
    crystal: Crystal, first: np.ndarray, second: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the shortest vectors (n, m, 3) from points to points, and their lengths (n, m)."""
    away, apart = get_distances(first, second, cell=crystal.cell, pbc=True)
    return np.asarray(away), np.asarray(apart)
