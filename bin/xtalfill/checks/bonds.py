"""Bonds, hydrogen bonds and too short contacts of the restored sites."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from ase import Atoms
from ase.data import covalent_radii
from matscipy.neighbours import neighbour_list

from xtalfill.checks.lengths import (
    COVALENT,
    DONORS,
    SHARED,
    SHARED_LENGTH,
    longest_bond,
    usual_lengths,
)

HYDROGEN = 1
_OXYGEN_FLUORINE = (8, 9)
CUTOFF = 3.5  # Å; beyond every bond and contact that is judged
# Å; libration makes bonds from neutron diffraction shorter by up to this.
LENGTH_MARGIN = 0.03
# Acceptors of a hydrogen bond -> longest distance to the proton, Å: 0.3 Å less than the sum of
# Bondi's van der Waals radii. The contacts of 2.49 Å between the layers of brucite are none.
_ACCEPTORS = {7: 2.45, 8: 2.42, 9: 2.37, 16: 2.7, 17: 2.65, 34: 2.8, 35: 2.75, 53: 2.88}
# The centre of an oxyanion (S of a sulfate, N of a nitrate) accepts none: this many O or F nearer
# than this share of the sum of covalent radii (S-O in a sulfate: 0.86, I-O in an iodate: 0.88).
_LIGANDS, _OXYANION = 2, 1.1
LEAST_ANGLE = 120.0  # degrees; donor, proton, acceptor
# Two hydrogens of different atoms; 0.5 % of 61,760 in the crystals of `lengths.json` are nearer.
LEAST_H_H = 1.68  # Å
# Other contacts, in sums of covalent radii.
_LEAST_CONTACT = 0.95  # of a proton to an atom that is not its own
_LEAST_PAIR = 0.75  # of two atoms without hydrogen
_LONGEST_PAIR = 1.5  # of a restored site other than hydrogen and its nearest neighbour; CsI: 1.03


@dataclass(frozen=True)
class Bond:
    """A restored site and its nearest neighbour.

    Attributes:
        site: Index of the site.
        partner: Index of the neighbour.
        length: Å.
        misfit: How far the length of a bond to hydrogen is outside the usual range, Å; negative:
            too short. NaN if there is no range.
        bonded: Whether the neighbour is near enough for a bond.
    """

    site: int
    partner: int
    length: float
    misfit: float
    bonded: bool


@dataclass(frozen=True)
class HydrogenBond:
    """A hydrogen bond of a restored proton: donor, proton, acceptor.

    Attributes:
        donor: Index of the atom.
        proton: Index of the atom.
        acceptor: Index of the atom.
        length: Distance from proton to acceptor, Å.
        angle: Donor, proton, acceptor, degrees.
    """

    donor: int
    proton: int
    acceptor: int
    length: float
    angle: float


@dataclass(frozen=True)
class Contact:
    """Two atoms that are too near.

    Attributes:
        pair: Their indices.
        length: Å.
        limit: Å; below it the two are too near.
    """

    pair: tuple[int, int]
    length: float
    limit: float


@dataclass(frozen=True, eq=False)
class Surroundings:
    """Neighbours of the restored sites.

    Attributes:
        atoms: The crystal.
        sites: Indices of the restored sites.
    """

    atoms: Atoms
    sites: np.ndarray

    @cached_property
    def _list(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        first, second, length, vector = neighbour_list("ijdD", self.atoms, CUTOFF)
        order = np.lexsort((length, first))
        return first[order], second[order], length[order], vector[order]

    def of(self, site: int) -> Iterator[tuple[int, float, np.ndarray]]:
        """Yield index, distance and vector (3,) of the neighbours of a site, the nearest first."""
        first, second, length, vector = self._list
        for k in range(*np.searchsorted(first, [site, site + 1])):
            yield int(second[k]), float(length[k]), vector[k]

    @cached_property
    def bonds(self) -> list[Bond]:
        """The bond of each restored site."""
        return [self._bond(int(site)) for site in self.sites]

    def _bond(self, site: int) -> Bond:
        near = [one for one in self.of(site) if not self._is_mere_contact(site, *one[:2])]
        if not near:
            return Bond(site, site, np.inf, np.nan, bonded=False)
        partner, length, _ = near[0]
        number, own = (int(self.atoms.numbers[index]) for index in (partner, site))
        if own != HYDROGEN:
            longest = _LONGEST_PAIR * (covalent_radii[number] + covalent_radii[own])
            return Bond(site, partner, length, np.nan, bool(length <= longest))
        bonded, usual = length <= longest_bond(number), usual_lengths().get(number)
        if usual is None or not bonded:
            return Bond(site, partner, length, np.nan, bonded)
        shared = number in DONORS and any(
            self.atoms.numbers[other] in DONORS and away < SHARED for other, away, _ in near[1:]
        )
        high = max(usual.high, SHARED_LENGTH) if shared else usual.high
        above, below = length - high - LENGTH_MARGIN, usual.low - LENGTH_MARGIN - length
        return Bond(site, partner, length, max(above, 0.0) - max(below, 0.0), bonded)

    def _is_mere_contact(self, site: int, other: int, length: float) -> bool:
        """Return whether two hydrogens are too far apart for a molecule."""
        both = self.atoms.numbers[site] == self.atoms.numbers[other] == HYDROGEN
        return bool(both and length > longest_bond(HYDROGEN))

    @cached_property
    def hydrogen_bonds(self) -> list[HydrogenBond]:
        """The hydrogen bonds of the restored hydrogens on N, O and F, by proton and length."""
        found = []
        for bond in self.bonds:
            proton, donor = (int(self.atoms.numbers[i]) for i in (bond.site, bond.partner))
            if not (bond.bonded and proton == HYDROGEN and donor in DONORS):
                continue
            near = list(self.of(bond.site))
            own = next(vector for other, _, vector in near if other == bond.partner)
            for acceptor, length, vector in near:
                longest = _ACCEPTORS.get(int(self.atoms.numbers[acceptor]), 0.0)
                if length > longest or self._is_centre_of_oxyanion(acceptor):
                    continue
                angle = _angle(own, vector)
                if angle >= LEAST_ANGLE:
                    found.append(HydrogenBond(bond.partner, bond.site, acceptor, length, angle))
        return found

    def _is_centre_of_oxyanion(self, atom: int) -> bool:
        number = int(self.atoms.numbers[atom])
        ligands = 0
        for other, length, _ in self.of(atom):
            own = int(self.atoms.numbers[other])
            near = length < _OXYANION * float(covalent_radii[number] + covalent_radii[own])
            ligands += near and own in _OXYGEN_FLUORINE
        return number not in _OXYGEN_FLUORINE and ligands >= _LIGANDS

    @cached_property
    def clashes(self) -> list[Contact]:
        """Pairs of a restored site and another atom that are too near, each pair once."""
        partner = {bond.site: bond.partner for bond in self.bonds if bond.bonded}
        found: dict[tuple[int, int], Contact] = {}
        for site in map(int, self.sites):
            for other, length, _ in self.of(site):
                limit = self._limit(site, other, partner)
                pair = (min(site, other), max(site, other))
                if length < limit and pair not in found:
                    found[pair] = Contact(pair, length, limit)
        return list(found.values())

    def _limit(self, site: int, other: int, partner: dict[int, int]) -> float:
        """Return below which distance a restored site and its neighbour are too near, Å."""
        one, two = (int(self.atoms.numbers[index]) for index in (site, other))
        radii = float(covalent_radii[one] + covalent_radii[two])
        if HYDROGEN not in (one, two):
            return _LEAST_PAIR * radii
        if one == two == HYDROGEN:
            bound = self._partner_of(other, partner)
            same = bound is not None and bound in (site, partner.get(site))
            return 0.0 if same or partner.get(site) == other else LEAST_H_H
        proton, neighbour = (site, other) if one == HYDROGEN else (other, site)
        bound = self._partner_of(proton, partner)
        covalent = bound is not None and int(self.atoms.numbers[bound]) in COVALENT
        if bound == neighbour or not covalent or int(self.atoms.numbers[neighbour]) in DONORS:
            return 0.0  # the bond itself, a hydride, or a hydrogen bond
        return _LEAST_CONTACT * radii

    def _partner_of(self, proton: int, partner: dict[int, int]) -> int | None:
        """Return the atom to which a hydrogen, restored or not, is bonded."""
        if proton in partner:
            return partner[proton]
        near = next(self.of(proton), None)
        if near is None or near[1] > longest_bond(int(self.atoms.numbers[near[0]])):
            return None
        return near[0]


def _angle(one: np.ndarray, two: np.ndarray) -> float:
    cosine = one @ two / (np.linalg.norm(one) * np.linalg.norm(two))
    return float(np.degrees(np.arccos(np.clip(cosine, -1.0, 1.0))))
