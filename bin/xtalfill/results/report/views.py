"""3-D views of crystals as Plotly traces: atoms, bonds, cell edges, sites of the reference.

As in other crystal viewers, atoms on the boundary of the cell are drawn on every face, edge and
corner that they lie on, and so are the atoms outside the cell that restored sites bond to.
"""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols, covalent_radii
from ase.data.colors import jmol_colors
from pymatgen.core import Element
from scipy.spatial import cKDTree

RESTORED_COLOUR = "#e8590c"
REFERENCE_COLOUR = "#1864ab"
_BOND_COLOUR = "#adb5bd"
_EDGE_COLOUR = "#495057"
# Largest bond length, as a multiple of the sum of the covalent radii.
_BOND_FACTOR = 1.15
_BOUNDARY = 0.02  # fraction of a lattice vector
_SAME_SITE = 0.8  # Angstrom
_IMAGES = np.array(list(product((-1, 0, 1), repeat=3)))

Traces = list[dict[str, Any]]


def crystal_view(
    atoms: Atoms, is_host: np.ndarray, *, reference_sites: np.ndarray | None = None
) -> Traces:
    """Return the Plotly traces of a crystal.

    Args:
        atoms: The restored crystal, periodic, n atoms.
        is_host: (n,) False at restored sites.
        reference_sites: (m, 3) Angstrom, sites of the reference in the same cell, if known.

    Returns:
        scatter3d traces: cell edges, bonds, host atoms by element, restored and reference sites.
    """
    index, positions = drawn_atoms(atoms, is_host)
    numbers, host = atoms.numbers[index], is_host[index]
    scale = _marker_scale(atoms)
    traces = [_edges(atoms.cell.array), _bonds(numbers, positions)]
    for number in sorted(set(numbers[host].tolist())):
        here = host & (numbers == number)
        symbol = chemical_symbols[number]
        traces.append(_markers(positions[here], symbol, _colour(number), _size(number, scale)))
    for number in sorted(set(numbers[~host].tolist())):
        here = ~host & (numbers == number)
        name = f"{chemical_symbols[number]} restored"
        size = 1.25 * _size(number, scale)
        traces.append(_markers(positions[here], name, RESTORED_COLOUR, size))
    if reference_sites is not None and len(reference_sites):
        size = 1.8 * _size(int(numbers[~host][0]), scale)
        sites = _near_restored(atoms.cell.array, reference_sites, positions[~host])
        traces.append(_reference(sites, size))
    return traces


def drawn_atoms(atoms: Atoms, is_host: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the drawn atoms and their positions, periodic images included.

    Args:
        atoms: The crystal.
        is_host: (n,) False at restored sites.

    Returns:
        (m,) indices into atoms, (m, 3) positions in Angstrom.
    """
    cell = atoms.cell.array
    index, fractional = _with_boundary(_wrapped(cell, atoms.positions))
    images = (_wrapped(cell, atoms.positions)[None] + _IMAGES[:, None]).reshape(-1, 3)
    image_index = np.tile(np.arange(len(atoms)), len(_IMAGES))
    drawn = cKDTree(fractional @ cell)
    fresh = drawn.query(images @ cell)[0] > 1e-3
    partners = np.zeros(len(images), dtype=bool)
    tree = cKDTree(images[fresh] @ cell)
    candidates = np.flatnonzero(fresh)
    restored = np.flatnonzero(~is_host[index])
    nonmetal = ~_is_metal(atoms.numbers)
    for site in restored:
        reach = _BOND_FACTOR * (covalent_radii[atoms.numbers[index[site]]] + covalent_radii.max())
        near = candidates[tree.query_ball_point(fractional[site] @ cell, reach)]
        away = np.linalg.norm((images[near] - fractional[site]) @ cell, axis=1)
        limit = _bond_limit(atoms.numbers[index[site]], atoms.numbers[image_index[near]])
        # In a metal hydride, metal atoms of the neighbouring cells would hide the site.
        partners[near[(away < limit) & nonmetal[image_index[near]]]] = True
    index = np.concatenate([index, image_index[partners]])
    return index, np.concatenate([fractional, images[partners]]) @ cell


def _wrapped(cell: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """Return fractional coordinates in [0, 1); values just below 1 become 0."""
    fractional = np.linalg.solve(cell.T, positions.T).T % 1.0
    return np.where(fractional > 1.0 - 1e-6, 0.0, fractional)


def _with_boundary(fractional: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Repeat atoms on the boundary of the cell on the opposite side."""
    images = fractional[None] + _IMAGES[:, None]
    inside = ((images > -_BOUNDARY) & (images < 1.0 + _BOUNDARY)).all(axis=2)
    which = np.nonzero(inside)
    return which[1], images[which]


def _bond_limit(number: int | np.ndarray, others: np.ndarray) -> np.ndarray:
    return np.asarray(_BOND_FACTOR * (covalent_radii[number] + covalent_radii[others]))


def _is_metal(numbers: np.ndarray) -> np.ndarray:
    return np.array([Element.from_Z(int(number)).is_metal for number in numbers], dtype=bool)


def _bonds(numbers: np.ndarray, positions: np.ndarray) -> dict[str, Any]:
    """Return the bonds as one line trace, without metal-metal contacts."""
    radii = covalent_radii[numbers]
    metal = _is_metal(numbers)
    pairs = cKDTree(positions).query_pairs(2 * _BOND_FACTOR * radii.max(), output_type="ndarray")
    first, second = pairs.T if len(pairs) else np.empty((2, 0), dtype=int)
    length = np.linalg.norm(positions[first] - positions[second], axis=1)
    bonded = length < _BOND_FACTOR * (radii[first] + radii[second])
    bonded &= ~(metal[first] & metal[second])
    segments = np.stack([positions[first[bonded]], positions[second[bonded]]], axis=1)
    return _line(segments, "bonds", _BOND_COLOUR, 5)


def _edges(cell: np.ndarray) -> dict[str, Any]:
    corners = np.array(list(product((0, 1), repeat=3)))
    pairs = [(a, b) for a in corners for b in corners if (b - a).sum() == 1 and (b >= a).all()]
    return _line(np.array(pairs) @ cell, "cell", _EDGE_COLOUR, 2)


def _line(segments: np.ndarray, name: str, colour: str, width: int) -> dict[str, Any]:
    """Return line segments, (n, 2, 3), as one trace with gaps."""
    gaps = np.full((len(segments), 1, 3), np.nan)
    points = np.concatenate([segments, gaps], axis=1).reshape(-1, 3)
    return {
        "type": "scatter3d",
        "mode": "lines",
        "name": name,
        "line": {"color": colour, "width": width},
        "hoverinfo": "skip",
        "showlegend": False,
        **_coordinates(points),
    }


def _markers(positions: np.ndarray, name: str, colour: str, size: float) -> dict[str, Any]:
    return {
        "type": "scatter3d",
        "mode": "markers",
        "name": name,
        "marker": {
            "color": colour,
            "size": round(size, 1),
            "opacity": 1.0,
            "line": {"color": "#343a40", "width": 1},
        },
        "hovertemplate": f"{name}<br>%{{x:.3f}}, %{{y:.3f}}, %{{z:.3f}} Å<extra></extra>",
        **_coordinates(positions),
    }


def _near_restored(cell: np.ndarray, sites: np.ndarray, restored: np.ndarray) -> np.ndarray:
    """Return the reference sites next to the drawn restored sites, or else in the cell."""
    images = (_wrapped(cell, sites)[None] + _IMAGES[:, None]) @ cell
    near = cKDTree(restored).query(images.reshape(-1, 3))[0].reshape(images.shape[:2])
    near = near < _SAME_SITE
    alone = (_wrapped(cell, sites) @ cell)[~near.any(axis=0)]
    return np.concatenate([images[near], alone])


def _reference(sites: np.ndarray, size: float) -> dict[str, Any]:
    trace = _markers(sites, "reference site", REFERENCE_COLOUR, size)
    trace["marker"] = {
        "color": REFERENCE_COLOUR,
        "size": round(size, 1),
        "symbol": "circle-open",
        "line": {"color": REFERENCE_COLOUR, "width": 3},
    }
    return trace


def _coordinates(points: np.ndarray) -> dict[str, list[float | None]]:
    """Return x, y, z rounded to 1e-4 Angstrom; a gap is None because JSON has no NaN."""
    return {
        axis: [None if np.isnan(value) else round(float(value), 4) for value in points[:, column]]
        for column, axis in enumerate("xyz")
    }


def _colour(number: int) -> str:
    red, green, blue = (round(255 * value) for value in jmol_colors[number])
    return f"#{red:02x}{green:02x}{blue:02x}"


def _marker_scale(atoms: Atoms) -> float:
    """Return the factor by which markers, whose size is in pixels, fit the size of the cell."""
    extent = float(np.ptp(np.array(list(product((0, 1), repeat=3))) @ atoms.cell.array, 0).max())
    return min(1.3, max(0.45, 9.0 / extent))


def _size(number: int, scale: float) -> float:
    return scale * (5.5 + 11.0 * float(covalent_radii[number]))
