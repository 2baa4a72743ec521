"""The largest voids of a host: a purely geometric baseline.

A void is a position whose distance to the nearest atom has a local maximum: a vertex of the Voronoi
diagram of the atoms that lies inside the polyhedron of its nearest atoms. Its depth is its distance
to the surface of the nearest atom, a sphere of its covalent radius. Sites are filled one by one,
and each filled site is an atom for the next.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count

import numpy as np
from ase.data import covalent_radii
from scipy.optimize import nnls
from scipy.spatial import KDTree, Voronoi

from xtalfill.core.crystal import Crystal
from xtalfill.proposals.lattice import lattice_of
from xtalfill.proposals.sites import Sites, highest_first, symmetric_sites

_MERGE = 0.3  # Angstrom; closer voids are merged
_SAME_DISTANCE = 1e-3  # Angstrom


def void_choices(host: Crystal, element: int, n_sites: int) -> Iterator[np.ndarray]:
    """Fill voids in ever new ways; the first uses the largest void in every step.

    Way number w uses void number w mod v of the v distinct ones for the first site, number (w // v)
    mod v' of the v' remaining ones for the next site, and so on.

    Args:
        host: The atoms that are present.
        element: Atomic number of the missing ones.
        n_sites: Number of missing sites.

    Yields:
        The sites (n_sites, 3) of a way in Angstrom, until no way is left.
    """
    known: dict[tuple[int, ...], Sites] = {}
    for way in count():
        crystal, rest = host, way
        path: tuple[int, ...] = ()
        for _ in range(n_sites):
            if path not in known:
                known[path] = _voids(crystal)
            voids = known[path]
            if not len(voids):
                return
            n_voids = int(voids.orbits[-1]) + 1
            rest, digit = divmod(rest, n_voids)
            path = (*path, digit)
            place = voids.scaled[int(np.argmax(voids.orbits == digit))]
            crystal = crystal.with_atoms(element, (place @ crystal.cell)[None])
        if rest:
            return
        yield crystal.positions[len(host.positions) :]


def _voids(crystal: Crystal) -> Sites:
    """Return the distinct voids of a crystal, the deepest first."""
    lattice = lattice_of(crystal.cell)
    cell, images = lattice.reduced, lattice.wide
    wrapped = (np.linalg.solve(cell.T, crystal.positions.T).T % 1.0) @ cell
    atoms = (wrapped[:, None] + images).reshape(-1, 3)
    radii = np.repeat(covalent_radii[crystal.numbers], len(images))
    # No place is farther from an atom than half the diagonal of a box with the edges of the cell.
    edges = np.linalg.norm(cell, axis=1)
    reach = np.linalg.norm(edges) / 2
    corners = np.stack(np.meshgrid(*[(-0.5, 0.5)] * 3), axis=-1).reshape(-1, 3) @ cell
    reach += np.linalg.norm(corners, axis=1).max()
    near = np.linalg.norm(atoms - cell.sum(axis=0) / 2, axis=1) < reach + _SAME_DISTANCE
    atoms, radii = atoms[near], radii[near]
    vertices = Voronoi(atoms).vertices
    inside = np.linalg.solve(cell.T, vertices.T).T
    vertices = vertices[((inside >= -1e-6) & (inside < 1 - 1e-6)).all(axis=1)]
    vertices = vertices[_are_maxima(vertices, KDTree(atoms))]
    depths = np.array([_depth(one, atoms, radii) for one in vertices])
    scaled = np.linalg.solve(crystal.cell.T, vertices.T).T % 1.0
    order = highest_first(scaled, depths)
    return symmetric_sites(scaled[order], depths[order], crystal, merge=_MERGE)


def _are_maxima(vertices: np.ndarray, tree: KDTree) -> np.ndarray:
    """Return which vertices (k, 3) lie inside the polyhedron of their nearest atoms: (k,) bool.

    Every displacement from such a vertex brings it closer to an atom.
    """
    distances = tree.query(vertices)[0]
    spheres = tree.query_ball_point(vertices, distances + _SAME_DISTANCE)
    inside = np.zeros(len(vertices), dtype=bool)
    for number, (vertex, distance, atoms) in enumerate(
        zip(vertices, distances, spheres, strict=True)
    ):
        around = tree.data[atoms] - vertex
        weights = np.vstack([around.T / distance, np.ones(len(around))])
        inside[number] = nnls(weights, np.array([0.0, 0.0, 0.0, 1.0]))[1] < _SAME_DISTANCE
    return inside


def _depth(place: np.ndarray, atoms: np.ndarray, radii: np.ndarray) -> float:
    return float((np.linalg.norm(atoms - place, axis=1) - radii).min())
