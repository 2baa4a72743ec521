"""Symmetry-equivalent positions for an atom in a host, filtered by their distances to atoms."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import spglib
from ase.data import covalent_radii
from ase.data.vdw_alvarez import vdw_radii

from xtalfill.core.crystal import Crystal
from xtalfill.proposals.lattice import lattice_of

SYMPREC = 0.01  # Angstrom
IMAGE_TOLERANCE = 0.05  # Angstrom; images of one site, as operations hold only to SYMPREC
_MAX_ROUNDS = 5
_DECIMALS = 6


@dataclass(frozen=True)
class Sites:
    """Positions for an atom, in complete orbits of the host's space group.

    Attributes:
        scaled: (m, 3) fractional, in [0, 1).
        values: (m,) function values at the positions, equal within an orbit.
        orbits: (m,) number of the orbit, 0 for the highest value.
        permutations: (n_operations, m) the site onto which each operation maps each site.
    """

    scaled: np.ndarray
    values: np.ndarray
    orbits: np.ndarray
    permutations: np.ndarray

    def __len__(self) -> int:
        return len(self.values)

    def subset(self, keep: np.ndarray) -> Sites:
        """Return the orbits of which all sites are kept; `keep` is (m,) bool."""
        keep = ~np.isin(self.orbits, self.orbits[~keep])
        new = np.cumsum(keep) - 1
        permutations = np.unique(new[self.permutations[:, keep]], axis=0)
        return Sites(self.scaled[keep], self.values[keep], self.orbits[keep], permutations)


def symmetric_sites(
    scaled: np.ndarray, values: np.ndarray, host: Crystal, *, merge: float
) -> Sites:
    """Group maxima into orbits of the host's space group.

    The highest remaining maximum is moved to the symmetry element it lies on if its images are
    closer than `merge`. All maxima closer than that to one of its images belong to its orbit.

    Args:
        scaled: (k, 3) fractional, the highest first.
        values: (k,).
        host: The crystal with the symmetry.
        merge: Angstrom.
    """
    rotations, translations = operations(host)
    points: list[np.ndarray] = []
    heights: list[float] = []
    orbits: list[int] = []
    left = np.ones(len(scaled), dtype=bool)
    while left.any():
        first = int(np.argmax(left))
        point = settle(scaled[first], rotations, translations, host.cell, merge)
        orbit = distinct_images(point, rotations, translations, host.cell)[0]
        near = distances(scaled, orbit, host.cell).min(axis=1) < merge
        near[first] = True
        orbits += [orbits[-1] + 1 if orbits else 0] * len(orbit)
        heights += [float(values[first])] * len(orbit)
        points += list(orbit)
        left &= ~near
    places = np.array(points).reshape(-1, 3)
    permutations = _permutations(places, rotations, translations, host.cell)
    return Sites(places, np.array(heights), np.array(orbits, dtype=int), permutations)


def highest_first(scaled: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Return the order of positions by value, the highest first, the same on every machine.

    Equal values may differ in their last bits; the position then decides, not the rounding.

    Args:
        scaled: (k, 3) fractional.
        values: (k,).
    """
    return np.lexsort((*scaled.T.round(_DECIMALS), -values.round(_DECIMALS)))


def within_reach(sites: Sites, crystal: Crystal, element: int) -> Sites:
    """Remove sites far from all atoms: in the vacuum of a slab or the middle of a pore.

    A site is near an atom if their distance is within the sum of the van der Waals radii (Alvarez
    2013, doi 10.1039/c3dt50599e). An element without a radius is near every site.

    Args:
        sites: The sites.
        crystal: All atoms.
        element: Element to place.
    """
    if not len(sites):
        return sites
    reach = np.nan_to_num(vdw_radii[crystal.numbers] + vdw_radii[element], nan=np.inf)
    away = distances(sites.scaled, _scaled(crystal), crystal.cell)
    return sites.subset(np.any(away <= reach, axis=1))


def far_from_atoms(
    sites: Sites, crystal: Crystal, element: int, *, fraction: float, same_element: float
) -> Sites:
    """Remove sites that are too close to an atom.

    Args:
        sites: The sites.
        crystal: All atoms.
        element: Element to place.
        fraction: Minimum distance to another element, in sums of the covalent radii.
        same_element: Minimum distance to an atom of the same element in Angstrom.
    """
    if not len(sites):
        return sites
    reach = fraction * (covalent_radii[crystal.numbers] + covalent_radii[element])
    reach = np.where(crystal.numbers == element, same_element, reach)
    away = distances(sites.scaled, _scaled(crystal), crystal.cell)
    return sites.subset(np.all(away >= reach, axis=1))


def distances(one: np.ndarray, other: np.ndarray, cell: np.ndarray) -> np.ndarray:
    """Return the minimum-image distances (n, m) in Angstrom between fractional positions."""
    if not len(one) or not len(other):
        return np.full((len(one), len(other)), np.inf)
    # Not ASE's `get_distances`, which spends milliseconds on a few positions.
    lattice = lattice_of(cell)
    fractions = (other - one[:, None]) @ lattice.inward
    away = (fractions - np.round(fractions)) @ lattice.reduced
    squares = ((away[:, :, None] + lattice.near) ** 2).sum(axis=-1)
    return np.asarray(np.sqrt(squares.min(axis=-1)))


def _scaled(crystal: Crystal) -> np.ndarray:
    return np.linalg.solve(crystal.cell.T, crystal.positions.T).T


def operations(host: Crystal, *, tolerance: float = SYMPREC) -> tuple[np.ndarray, np.ndarray]:
    """Return rotations (n, 3, 3) and translations (n, 3) of the space group, in fractions.

    Args:
        host: The crystal.
        tolerance: Angstrom; of spglib.

    Returns:
        The identity first; it alone where spglib finds nothing.
    """
    cell: Any = (host.cell, _scaled(host), host.numbers)
    found = spglib.get_symmetry(cell, symprec=tolerance)
    if found is None:
        return np.eye(3, dtype=int)[None], np.zeros((1, 3))
    return np.asarray(found["rotations"]), np.asarray(found["translations"])


def settle(
    point: np.ndarray,
    rotations: np.ndarray,
    translations: np.ndarray,
    cell: np.ndarray,
    merge: float,
) -> np.ndarray:
    """Return a point (3,) moved to the symmetry element by which its images are near.

    Arguments as of `settle_all`.
    """
    return settle_all(point[None], rotations, translations, cell, merge)[0]


def settle_all(
    points: np.ndarray,
    rotations: np.ndarray,
    translations: np.ndarray,
    cell: np.ndarray,
    merge: float,
) -> np.ndarray:
    """Return points (k, 3), each moved to the symmetry element by which its images are near.

    Args:
        points: (k, 3) fractional.
        rotations: (n, 3, 3).
        translations: (n, 3).
        cell: (3, 3) Angstrom.
        merge: Angstrom; an image closer than this is near.
    """
    for _ in range(_MAX_ROUNDS):  # not all images of a wide ring are close at first
        away = np.einsum("nij,kj->kni", rotations, points) + translations - points[:, None]
        away -= np.round(away)
        near = np.linalg.norm(away @ cell, axis=2) < merge
        shift = np.where(near[..., None], away, 0.0).sum(axis=1) / near.sum(axis=1)[:, None]
        points = (points + shift) % 1.0
    return points


def distinct_images(
    point: np.ndarray, rotations: np.ndarray, translations: np.ndarray, cell: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the distinct images (k, 3) of a point, itself first, and which operations made them.

    Args:
        point: (3,) fractional, in [0, 1).
        rotations: (n, 3, 3), the identity first.
        translations: (n, 3).
        cell: (3, 3) Angstrom.
    """
    images = (rotations @ point + translations) % 1.0
    images[0] = point
    # Rounding finds the nearest image of points as close as the tolerance, in any usual cell.
    away = images[:, None] - images
    away -= np.round(away)
    apart = np.linalg.norm(away @ cell, axis=2) > IMAGE_TOLERANCE
    chosen = [0]
    for number in range(1, len(images)):
        if apart[number, chosen].all():
            chosen.append(number)
    return images[chosen], np.array(chosen)


def _permutations(
    scaled: np.ndarray, rotations: np.ndarray, translations: np.ndarray, cell: np.ndarray
) -> np.ndarray:
    """Return the permutation of the sites by each operation that maps the sites onto themselves."""
    found = [np.arange(len(scaled))]
    for rotation, translation in zip(rotations, translations, strict=True):
        away = distances(scaled @ rotation.T + translation, scaled, cell)
        onto = away.argmin(axis=1) if len(scaled) else found[0]
        near = away.min(axis=1, initial=np.inf) < 2 * IMAGE_TOLERANCE
        if near.all() and len(set(onto.tolist())) == len(scaled):
            found.append(onto)
    return np.unique(np.array(found), axis=0)
