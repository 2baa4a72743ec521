"""A pair energy of sites in a host, from radii alone: which places are free, and where bonds are.

It improves a proposal and knows nothing of its chemistry but the sum of the covalent radii s
(Cordero et al., Dalton Trans. 2832 (2008), as in ASE). At the distance d = x s, a non-metal gives
x^-12 - 2 x^-6, with a minimum at the bond length, any other atom of the host x^-8, and another site
the same with its own length in place of s.
"""

from __future__ import annotations

import numpy as np
from ase.data import covalent_radii

from xtalfill.core.crystal import Crystal
from xtalfill.proposals.lattice import lattice_of
from xtalfill.proposals.pair_kernels import are_apart, keeps_off, nearest, wells_and_walls

# Elements that a missing atom forms a directed bond with.
_BONDING = (5, 6, 7, 8, 9, 14, 15, 16, 17, 33, 34, 35, 53)
_NEAREST = 0.7  # in sums of the covalent radii: a site closer to a host atom is not free
_APART = 1.2  # Angstrom; two hydrogens of different bonds are not closer
_ANIONS = 2.1  # Angstrom; hydrogens in metals (A. C. Switendick, Z. Phys. Chem. 117, 89 (1979))
_CORE = 0.5  # in bond lengths; closer, the force is that at this distance
_TRIES = 50


class PairEnergy:
    """Energies and forces of sites of one element in a host, without units.

    Attributes:
        apart: Minimum distance of two sites in Angstrom.
    """

    def __init__(self, host: Crystal, element: int) -> None:
        self._cell = host.cell
        self._host = np.ascontiguousarray(np.linalg.solve(host.cell.T, host.positions.T).T)
        self._bonds = covalent_radii[host.numbers] + covalent_radii[element]
        self._bonding = np.isin(host.numbers, _BONDING)
        self.apart = max(_APART, 1.6 * float(covalent_radii[element]))
        # Sites bonded to one atom may be near each other; anions among metals repel.
        self._length = self.apart if self._bonding.any() else max(self.apart, _ANIONS)
        lattice = lattice_of(host.cell)
        self._nearest = lattice.inward, lattice.reduced, lattice.near
        short = np.linalg.norm(lattice.reduced, axis=1).min() < 4.0
        images = lattice.wide if short else lattice.near
        self._summed = lattice.inward, lattice.reduced, images

    def draw(self, random: np.random.Generator, count: int) -> np.ndarray:
        """Return up to `count` free points (k, 3), fractional, half of them at a bond length.

        Without an atom to bond to, all are uniform in the cell.
        """
        points = random.random((_TRIES * count, 3))
        if self._bonding.any():
            atoms = random.choice(np.flatnonzero(self._bonding), size=len(points))
            ways = random.standard_normal(points.shape)
            ways *= (self._bonds[atoms] / np.linalg.norm(ways, axis=1))[:, None]
            bonded = (self._host[atoms] + ways @ np.linalg.inv(self._cell)) % 1.0
            points[::2] = bonded[::2]
        found = np.empty((0, 3))
        for part in np.array_split(points, _TRIES):
            found = np.concatenate([found, part[self.is_off_host(part)]])
            if len(found) >= count:
                break
        return found[:count]

    def is_free(self, sites: np.ndarray) -> bool:
        """Return whether sites (k, 3), fractional, keep their distances, also to their images."""
        return bool(self.is_off_host(sites).all()) and self.is_apart(sites)

    def is_apart(self, sites: np.ndarray) -> bool:
        """Return whether sites (k, 3), fractional, keep their distances to each other."""
        return bool(are_apart(sites, self.apart, *self._nearest))

    def is_off_host(self, points: np.ndarray) -> np.ndarray:
        """Return which points (k, 3), fractional, keep their distance to the host: (k,) bool."""
        least = _NEAREST * self._bonds
        return np.asarray(keeps_off(points, self._host, least, *self._nearest))

    def distances(self, points: np.ndarray, others: np.ndarray) -> np.ndarray:
        """Return the minimum-image distances (k, m) in Angstrom of fractional positions."""
        one, other = (np.ascontiguousarray(positions) for positions in (points, others))
        return np.asarray(nearest(one, other, *self._nearest))

    def evaluate(self, points: np.ndarray, sites: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the energies (k,) and the forces (k, 3) of points among sites and host atoms.

        Args:
            points: (k, 3) fractional; each is one of the sites.
            sites: (m, 3) fractional.
        """
        others = np.concatenate([self._host, sites])
        lengths = np.concatenate([self._bonds, np.full(len(sites), self._length)])
        bonding = np.concatenate([self._bonding, np.zeros(len(sites), dtype=bool)])
        energy, force = wells_and_walls(points, others, lengths, bonding, *self._summed, _CORE)
        return energy, force
