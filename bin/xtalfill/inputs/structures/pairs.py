"""Pairs of sites that nearly coincide, at a cost independent of the size of the cell."""

from __future__ import annotations

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from scipy.spatial import KDTree


def close_pairs(fractional: np.ndarray, cell: np.ndarray, distance: float) -> np.ndarray:
    """Return (n_pairs, 2) indices i < j of sites closer than `distance`, with periodic images.

    Args:
        fractional: (n, 3) coordinates, wrapped or not.
        cell: (3, 3) Angstrom, rows are lattice vectors.
        distance: Angstrom, much less than the lattice vectors.
    """
    wrapped = fractional % 1.0 % 1.0  # -1e-20 % 1.0 is 1.0
    # No vector of this length has larger fractional coordinates.
    reach = min(distance * float(np.linalg.norm(np.linalg.inv(cell), 2)), 0.49)
    pairs = KDTree(wrapped, boxsize=1.0).query_pairs(reach, output_type="ndarray")
    shift = wrapped[pairs[:, 0]] - wrapped[pairs[:, 1]]
    near = np.linalg.norm((shift - np.round(shift)) @ cell, axis=1) < distance
    return np.sort(pairs[near], axis=1)


def closest_pair(
    fractional: np.ndarray, cell: np.ndarray, distance: float
) -> tuple[int, int, float] | None:
    """Return the closest two sites within a distance, periodic images included, or None.

    Args:
        fractional: (n, 3) coordinates, wrapped or not.
        cell: (3, 3) Angstrom, rows are lattice vectors, reduced; none is shorter than `distance`.
        distance: Angstrom; also cells thinner than this are exact.

    Returns:
        Two indices i < j and their distance in Angstrom.
    """
    wrapped = fractional % 1.0 % 1.0
    # No vector of this length has larger fractional coordinates.
    reach = distance * np.linalg.norm(np.linalg.inv(cell), axis=0)
    steps = [np.arange(-n, n + 1) for n in np.ceil(reach).astype(int)]
    images = np.stack(np.meshgrid(*steps, indexing="ij"), axis=-1).reshape(-1, 3)
    copies = (wrapped[None] + images[:, None]).reshape(-1, 3)
    near = np.flatnonzero(((copies >= -reach) & (copies <= 1.0 + reach)).all(axis=1))
    tree = KDTree(copies[near] @ cell)
    # The nearest of each site is the site itself.
    found, which = tree.query(wrapped @ cell, k=2, distance_upper_bound=distance)
    first = int(np.argmin(found[:, 1]))
    if not np.isfinite(found[first, 1]):
        return None
    # Of two sites on one place either may come first.
    others = [i for i in (near[which[first]] % len(wrapped)).tolist() if i != first]
    if not others:  # its own image, in a cell exactly as thin as the distance
        return None
    return min(first, others[0]), max(first, others[0]), float(found[first, 1])


def connected_groups(pairs: np.ndarray, n: int) -> tuple[int, np.ndarray]:
    """Return the number of groups connected by pairs, and the group (n,) of each site.

    Args:
        pairs: (n_pairs, 2) indices; the order within a pair does not matter.
        n: Number of sites.
    """
    links = coo_matrix((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=(n, n))
    count, group = connected_components(links, directed=False)
    return int(count), group
