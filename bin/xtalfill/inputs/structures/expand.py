"""Expand listed sites to all atoms of the cell by symmetry."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from xtalfill.core.errors import InputError
from xtalfill.core.text import listed
from xtalfill.inputs.structures.pairs import close_pairs, connected_groups
from xtalfill.inputs.structures.symmetry import Symmetry

# Images of one site, or equivalent rows, within this distance are one atom (Å). A coordinate
# written as 0.333 or 0.1667 is closer than this to its special position.
MERGE_DISTANCE = 0.1
# A site is full if its occupancy is within this of one.
FULL_TOLERANCE = 0.03
# Size limit of a crystal.
MAX_ATOMS = 20_000


@dataclass(frozen=True, kw_only=True)
class ListedSite:
    """A row of the atom-site loop with coordinates.

    Attributes:
        label: Its label, for messages.
        number: Atomic number.
        fractional: (3,) coordinates as listed.
        occupancy: Site occupancy.
    """

    label: str
    number: int
    fractional: np.ndarray
    occupancy: float


@dataclass(frozen=True)
class ExpandedCell:
    """All atoms of a cell.

    Attributes:
        fractional: (n_atoms, 3).
        row: (n_atoms,) index of the listed site of each atom.
        multiplicity: (n_sites,) number of atoms of each listed site; 0 if merged into an earlier
            one.
        occupancy: (n_sites,) occupancies, summed over merged rows of one element.
        notes: Merged sites, for the user.
    """

    fractional: np.ndarray
    row: np.ndarray
    multiplicity: np.ndarray
    occupancy: np.ndarray
    notes: tuple[str, ...]

    @property
    def filled(self) -> np.ndarray:
        """(n_sites,) number of atoms of each listed site times its occupancy."""
        return np.asarray(self.multiplicity * self.occupancy)


def expand(sites: Sequence[ListedSite], symmetry: Symmetry, cell: np.ndarray) -> ExpandedCell:
    """Apply the operations to every listed site.

    Images of one site within `MERGE_DISTANCE` of each other are merged into one atom at their mean.
    A listed site at an atom of an earlier site of the same element is merged with it: it is an
    equivalent position listed twice or, if both are partially occupied, a share of the same
    position.

    Args:
        sites: The rows.
        symmetry: The operations.
        cell: (3, 3) Angstrom, rows are lattice vectors.

    Raises:
        InputError: There are more than `MAX_ATOMS` atoms, or images of a site almost coincide.
    """
    orbits, rounded, total = [], [], 0
    for site in sites:
        orbit, moved = _orbit(site, symmetry, cell)
        orbits.append(orbit)
        if moved > 1e-4:
            rounded.append(site.label)
        total += len(orbit)
        if total > 10 * MAX_ATOMS:  # equivalent rows may merge later
            raise InputError(f"has more than the limit of {MAX_ATOMS} atoms")
    fractional, row = np.concatenate(orbits), np.repeat(np.arange(len(sites)), _sizes(orbits))
    same_as = _same_rows(sites, fractional, row, cell)
    kept = same_as[row] == row
    if kept.sum() > MAX_ATOMS:
        raise InputError(f"holds {kept.sum()} atoms, more than the limit of {MAX_ATOMS}")
    occupancy = np.array([site.occupancy for site in sites])
    merged = np.flatnonzero(same_as != np.arange(len(sites))).tolist()
    for index in merged:
        if occupancy[index] < 1 and occupancy[same_as[index]] < 1:
            occupancy[same_as[index]] += occupancy[index]
    occupancy[np.abs(occupancy - 1) <= FULL_TOLERANCE] = 1.0
    multiplicity = np.where(same_as == np.arange(len(sites)), _sizes(orbits), 0)
    pairs = [f"{sites[one].label} is {sites[same_as[one]].label}" for one in merged]
    notes = _notes(rounded, pairs)
    return ExpandedCell(fractional[kept], row[kept], multiplicity, occupancy, tuple(notes))


def _sizes(orbits: list[np.ndarray]) -> np.ndarray:
    return np.array([len(orbit) for orbit in orbits])


def _orbit(site: ListedSite, symmetry: Symmetry, cell: np.ndarray) -> tuple[np.ndarray, float]:
    """Return the distinct images of a site (m, 3), and the largest correction of rounding in Å.

    Images form one site if a chain of images within `MERGE_DISTANCE` connects them, so that the
    groups respect the symmetry.

    Raises:
        InputError: A chain is too long for one site.
    """
    images = symmetry.rotations @ site.fractional + symmetry.translations
    if len(images) == 1:
        return images, 0.0
    shift = images - images[0]
    distance = np.linalg.norm((shift - np.round(shift)) @ cell, axis=1)
    if (distance < MERGE_DISTANCE).sum() == 1:
        return images, 0.0  # a general position: operations conserve distances
    count, group = connected_groups(close_pairs(images, cell, MERGE_DISTANCE), len(images))
    orbit, moved = [], 0.0
    for one in range(count):
        members = images[group == one]
        shift = members - members[0]
        shift -= np.round(shift)
        mean = shift.mean(axis=0)
        far = float(np.linalg.norm((shift - mean) @ cell, axis=1).max())
        # A site without correction keeps its digits.
        orbit.append(members[0] + (mean if far > 1e-6 else 0.0))
        moved = max(moved, far)
    if moved > MERGE_DISTANCE:
        raise InputError(
            f"site {site.label} has images within {MERGE_DISTANCE} Å of each other that do not "
            "merge into one site; correct its coordinates or give an ordered structure"
        )
    return np.array(orbit), moved


def _same_rows(
    sites: Sequence[ListedSite], fractional: np.ndarray, row: np.ndarray, cell: np.ndarray
) -> np.ndarray:
    """Return (n_sites,) for each row the first row of its element at the same position."""
    numbers = np.array([site.number for site in sites])
    pairs = close_pairs(fractional, cell, MERGE_DISTANCE)
    same_as = np.arange(len(sites))
    one, other = np.sort(row[pairs], axis=1).T
    near = (one < other) & (numbers[one] == numbers[other])
    np.minimum.at(same_as, other[near], one[near])
    for index in range(len(sites)):  # ascending, so earlier entries are final
        same_as[index] = same_as[same_as[index]]
    return same_as


def _notes(rounded: list[str], pairs: list[str]) -> list[str]:
    notes = []
    if rounded:
        notes.append(
            f"images within {MERGE_DISTANCE} Å merged into one site on a special position: "
            f"{listed(rounded)}"
        )
    if pairs:
        notes.append(f"listed more than once, merged: {listed(pairs)}")
    return notes
