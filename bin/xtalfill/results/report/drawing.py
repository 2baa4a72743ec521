"""What is drawn of a crystal: atoms, bonds, cell edges, sites of the reference.

As in other crystal viewers, atoms on the boundary of the cell are drawn on every face, edge and
corner that they lie on, and so are the atoms outside the cell that restored sites bond to.
`picture.py` draws it as SVG, and viewer.js in 3-D.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import cache
from itertools import product
from typing import Any

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols, covalent_radii
from ase.data.colors import jmol_colors
from pymatgen.core import Element
from scipy.spatial import cKDTree

# Of all pinks and reds the one farthest from the colours of the elements up to Pu: by CIEDE2000
# at least 20, and 2 are just seen.
RESTORED_COLOUR = "#f0047f"
# Largest bond length, as a multiple of the sum of the covalent radii.
_BOND_FACTOR = 1.15
_BOUNDARY = 0.02  # fraction of a lattice vector
_SAME_SITE = 0.8  # Angstrom
_IMAGES = np.array(list(product((-1, 0, 1), repeat=3)))


@dataclass(frozen=True, eq=False)
class Drawing:
    """What is drawn of a crystal of n atoms; lengths in Angstrom.

    Attributes:
        numbers: (n,) atomic numbers.
        is_host: (n,) False at restored sites.
        cell: (3, 3) rows a, b, c.
        index: (m,) the atom of which each drawn sphere is an image.
        positions: (m, 3) of the spheres.
        bonds: (b, 2) pairs of spheres.
        reference: (r, 3) sites of the reference; none if not known.
    """

    numbers: np.ndarray
    is_host: np.ndarray
    cell: np.ndarray
    index: np.ndarray
    positions: np.ndarray
    bonds: np.ndarray
    reference: np.ndarray

    def labels(self) -> list[str]:
        """Return the name of each of the n atoms, as in the CIF file and the checks."""
        return atom_labels(self.numbers)

    def payload(self) -> dict[str, Any]:
        """Return the drawing as plain JSON; lengths in 0.001 Angstrom."""
        return {
            "labels": self.labels(),
            "restored": np.flatnonzero(~self.is_host).tolist(),
            "cell": _thousandths(self.cell),
            "index": self.index.tolist(),
            "positions": _thousandths(self.positions),
            "bonds": self.bonds.ravel().tolist(),
            "reference": _thousandths(self.reference),
        }


def draw_crystal(
    atoms: Atoms, is_host: np.ndarray, *, reference_sites: np.ndarray | None = None
) -> Drawing:
    """Return what is drawn of a crystal.

    Args:
        atoms: The restored crystal, periodic, n atoms.
        is_host: (n,) False at restored sites.
        reference_sites: (m, 3) Angstrom, sites of the reference in the same cell, if known.
    """
    index, positions = drawn_atoms(atoms, is_host)
    reference = np.empty((0, 3))
    if reference_sites is not None and len(reference_sites):
        restored = positions[~is_host[index]]
        reference = _near_restored(atoms.cell.array, reference_sites, restored)
    return Drawing(
        numbers=atoms.numbers,
        is_host=is_host,
        cell=atoms.cell.array,
        index=index,
        positions=positions,
        bonds=_bonds(atoms.numbers[index], positions),
        reference=reference,
    )


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


def cell_edges(cell: np.ndarray) -> np.ndarray:
    """Return the ends of the twelve edges of a cell, (12, 2, 3); those along a, b, c come first."""
    corners = np.array(list(product((0, 1), repeat=3)))
    pairs = [(a, b) for a in corners for b in corners if (b - a).sum() == 1 and (b >= a).all()]
    pairs.sort(key=lambda pair: (pair[0].sum() > 0, *(-pair[1])))
    return np.asarray(np.array(pairs) @ cell)


def element_styles(numbers: set[int]) -> dict[str, dict[str, Any]]:
    """Return the colour and the radius, in Angstrom, of the spheres of some elements.

    Args:
        numbers: Atomic numbers.
    """
    return {
        chemical_symbols[z]: {"colour": _colour(z), "radius": sphere_radius(z)}
        for z in sorted(numbers)
    }


def atom_labels(numbers: np.ndarray) -> list[str]:
    """Return the names of atoms: symbol, and number among those of the element, from 1."""
    seen: Counter[int] = Counter()
    labels = []
    for number in numbers.tolist():
        seen[number] += 1
        labels.append(f"{chemical_symbols[number]}{seen[number]}")
    return labels


def sphere_radius(number: int) -> float:
    """Return the radius of a sphere, in Angstrom."""
    return round(0.16 + 0.36 * float(covalent_radii[number]), 3)


def _thousandths(values: np.ndarray) -> list[int]:
    return [round(value) for value in (1000 * values).ravel().tolist()]


def _colour(number: int) -> str:
    red, green, blue = (round(255 * value) for value in jmol_colors[number])
    return f"#{red:02x}{green:02x}{blue:02x}"


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


@cache
def _metal(number: int) -> bool:
    return bool(Element.from_Z(number).is_metal)


def _is_metal(numbers: np.ndarray) -> np.ndarray:
    return np.array([_metal(int(number)) for number in numbers], dtype=bool)


def _bonds(numbers: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """Return the bonded pairs, without metal-metal contacts."""
    radii = covalent_radii[numbers]
    metal = _is_metal(numbers)
    reach = 2 * _BOND_FACTOR * radii.max()
    pairs = cKDTree(positions).query_pairs(reach, output_type="ndarray").reshape(-1, 2)
    first, second = pairs.T
    length = np.linalg.norm(positions[first] - positions[second], axis=1)
    bonded = length < _BOND_FACTOR * (radii[first] + radii[second])
    return pairs[bonded & ~(metal[first] & metal[second])]


def _near_restored(cell: np.ndarray, sites: np.ndarray, restored: np.ndarray) -> np.ndarray:
    """Return the reference sites next to the drawn restored sites, or else in the cell."""
    images = (_wrapped(cell, sites)[None] + _IMAGES[:, None]) @ cell
    near = cKDTree(restored).query(images.reshape(-1, 3))[0].reshape(images.shape[:2])
    near = near < _SAME_SITE
    alone = (_wrapped(cell, sites) @ cell)[~near.any(axis=0)]
    return np.concatenate([images[near], alone])
