"""The largest voids of a host: the control that knows of distances only.

A void is a place whose distance to the nearest atom has a local maximum: a vertex of the Voronoi
diagram of the atoms that lies amid those nearest to it. Its depth is its distance to the surface of
the nearest atom, a sphere of its covalent radius. Sites are filled one by one, each site being an
atom for the next.
"""

from __future__ import annotations

import numpy as np
from ase.data import covalent_radii
from ase.geometry import minkowski_reduce
from scipy.optimize import nnls
from scipy.spatial import KDTree, Voronoi

from xtalfill.core.crystal import Crystal
from xtalfill.proposals.sites import Sites, symmetric_sites

_MERGE = 0.3  # Angstrom; voids nearer than this are one
_SAME_DISTANCE = 1e-3  # Angstrom


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
    """Return the distinct voids of a crystal, the deepest first."""
    # In a Minkowski-reduced cell the nearest image of a wrapped atom is two cells away at most.
    cell = minkowski_reduce(crystal.cell)[0]
    images = np.stack(np.meshgrid(*[np.arange(-2, 3)] * 3), axis=-1).reshape(-1, 3) @ cell
    wrapped = (np.linalg.solve(cell.T, crystal.positions.T).T % 1.0) @ cell
    atoms = (wrapped[:, None] + images).reshape(-1, 3)
    radii = np.repeat(covalent_radii[crystal.numbers], len(images))
    vertices = Voronoi(atoms).vertices
    inside = np.linalg.solve(cell.T, vertices.T).T
    vertices = vertices[((inside >= -1e-6) & (inside < 1 - 1e-6)).all(axis=1)]
    tree = KDTree(atoms)
    vertices = np.array([one for one in vertices if _is_maximum(one, tree)]).reshape(-1, 3)
    depths = np.array([_depth(one, atoms, radii) for one in vertices])
    # Equal depths may differ in their last bits: the place then decides, not the rounding.
    scaled = np.linalg.solve(crystal.cell.T, vertices.T).T % 1.0
    order = np.lexsort((*scaled.T.round(6), -depths.round(6)))
    return symmetric_sites(scaled[order], depths[order], crystal, merge=_MERGE)


def _is_maximum(vertex: np.ndarray, tree: KDTree) -> bool:
    """Whether a vertex lies amid its nearest atoms, so that no step away from it gains distance."""
    nearest = float(tree.query(vertex)[0])
    around = tree.data[tree.query_ball_point(vertex, nearest + _SAME_DISTANCE)] - vertex
    weights = np.vstack([around.T / nearest, np.ones(len(around))])
    return bool(nnls(weights, np.array([0.0, 0.0, 0.0, 1.0]))[1] < _SAME_DISTANCE)


def _depth(place: np.ndarray, atoms: np.ndarray, radii: np.ndarray) -> float:
    return float((np.linalg.norm(atoms - place, axis=1) - radii).min())
