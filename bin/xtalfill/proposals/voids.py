"""The largest voids of a host: a purely geometric baseline.

A void is a position whose distance to the nearest atom has a local maximum: a vertex of the Voronoi
diagram of the atoms that lies inside the polyhedron of its nearest atoms. Its depth is its distance
to the surface of the nearest atom, a sphere of its covalent radius. Sites are filled one by one,
and each filled site is an atom for the next.
"""

from __future__ import annotations

import numpy as np
from ase.data import covalent_radii
from scipy.optimize import nnls
from scipy.spatial import KDTree, Voronoi

from xtalfill.core.crystal import Crystal
from xtalfill.proposals.sites import (
    Sites,
    highest_first,
    lattice_points,
    reduced_cell,
    symmetric_sites,
)

_MERGE = 0.3  # Angstrom; closer voids are merged
_SAME_DISTANCE = 1e-3  # Angstrom


def void_choices(host: Crystal, element: int, n_sites: int, *, count: int) -> list[np.ndarray]:
    """Fill voids in `count` ways; the first uses the largest void in every step.

    Way number w uses void number w mod v of the v distinct ones for the first site, number (w // v)
    mod v' of the v' remaining ones for the next site, and so on.

    Args:
        host: The atoms that are present.
        element: Atomic number of the missing ones.
        n_sites: Number of missing sites.
        count: Maximum number of ways.

    Returns:
        For each way the sites (n_sites, 3) in Angstrom; fewer than `count` ways if no more exist.
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
    """Return the distinct voids of a crystal, the deepest first."""
    cell = reduced_cell(crystal.cell)
    images = lattice_points(2) @ cell
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
    tree = KDTree(atoms)
    vertices = np.array([one for one in vertices if _is_maximum(one, tree)]).reshape(-1, 3)
    depths = np.array([_depth(one, atoms, radii) for one in vertices])
    scaled = np.linalg.solve(crystal.cell.T, vertices.T).T % 1.0
    order = highest_first(scaled, depths)
    return symmetric_sites(scaled[order], depths[order], crystal, merge=_MERGE)


def _is_maximum(vertex: np.ndarray, tree: KDTree) -> bool:
    """Return whether a vertex lies inside the polyhedron of its nearest atoms.

    Every displacement from such a vertex brings it closer to an atom.
    """
    nearest = float(tree.query(vertex)[0])
    around = tree.data[tree.query_ball_point(vertex, nearest + _SAME_DISTANCE)] - vertex
    weights = np.vstack([around.T / nearest, np.ones(len(around))])
    return bool(nnls(weights, np.array([0.0, 0.0, 0.0, 1.0]))[1] < _SAME_DISTANCE)


def _depth(place: np.ndarray, atoms: np.ndarray, radii: np.ndarray) -> float:
    return float((np.linalg.norm(atoms - place, axis=1) - radii).min())
