"""The largest voids of a host: the control that knows of distances only.

The depth of a place is its distance to the surface of the nearest atom, a sphere of its covalent
radius. Its maxima are the voids. Sites are filled one by one, each site being an atom for the next.
"""

from __future__ import annotations

import math

import numpy as np
from ase.data import covalent_radii
from ase.geometry import minkowski_reduce
from scipy.spatial import KDTree

from xtalfill.baseline.peaks import periodic_maxima
from xtalfill.baseline.sites import Crystal, Sites, symmetric_sites

SPACING = 0.2  # Angstrom between grid points
_MERGE = 0.5  # Angstrom; maxima nearer than this are one void


def void_choices(host: Crystal, element: int, n_sites: int, *, count: int) -> list[np.ndarray]:
    """Fill voids in `count` ways, the first with the largest void at every step.

    Way number w takes at the first site the void number w mod v of its v distinct ones, at the
    next site number (w // v) mod v' of the v' that there are then, and so on.

    Args:
        host: The atoms that are there.
        element: Atomic number of the missing ones.
        n_sites: How many are missing.
        count: Most ways.

    Returns:
        For each way the sites (n_sites, 3) in Angstrom; fewer than `count` ways where there are
        no more.
    """
    ways: list[np.ndarray] = []
    known: dict[tuple[int, ...], Sites] = {}
    for way in range(count):
        crystal, rest = host, way
        path: tuple[int, ...] = ()
        for _ in range(n_sites):
            if path not in known:
                known[path] = _voids(crystal)
            voids = known[path]
            if not len(voids):
                return ways
            n_voids = int(voids.orbits[-1]) + 1
            rest, digit = divmod(rest, n_voids)
            path = (*path, digit)
            place = voids.scaled[int(np.argmax(voids.orbits == digit))]
            crystal = crystal.with_atoms(element, (place @ crystal.cell)[None])
        if rest:
            return ways
        ways.append(crystal.positions[len(host.positions) :])
    return ways


def _voids(crystal: Crystal) -> Sites:
    """Return the distinct voids of a crystal, the largest first."""
    depth = void_depth(crystal)
    scaled, values = periodic_maxima(depth)
    inside = values > 0
    return symmetric_sites(scaled[inside], values[inside], crystal, merge=_MERGE)


def void_depth(crystal: Crystal) -> np.ndarray:
    """Return the depth (n1, n2, n3) in Angstrom on a grid; negative inside of an atom."""
    shape = [max(8, math.ceil(length / SPACING)) for length in np.linalg.norm(crystal.cell, axis=1)]
    axes = [np.arange(n) / n for n in shape]
    points = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3) @ crystal.cell
    # In a Minkowski-reduced cell the nearest image of a wrapped atom is two cells away at most.
    cell = minkowski_reduce(crystal.cell)[0]
    images = np.stack(np.meshgrid(*[np.arange(-2, 3)] * 3), axis=-1).reshape(-1, 3) @ cell
    points = _wrapped(points, cell)
    depth = np.full(len(points), np.inf)
    for number in np.unique(crystal.numbers):
        atoms = _wrapped(crystal.positions[crystal.numbers == number], cell)
        tree = KDTree((atoms[:, None] + images).reshape(-1, 3))
        depth = np.minimum(depth, tree.query(points)[0] - covalent_radii[number])
    return depth.reshape(shape)


def _wrapped(positions: np.ndarray, cell: np.ndarray) -> np.ndarray:
    return (np.linalg.solve(cell.T, positions.T).T % 1.0) @ cell
