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
from xtalfill.proposals.sites import image_vectors, lattice_points, reduced_cell

# Elements that a missing atom forms a directed bond with.
_BONDING = (5, 6, 7, 8, 9, 14, 15, 16, 17, 33, 34, 35, 53)
_NEAREST = 0.7  # in sums of the covalent radii: a site closer to a host atom is not free
_APART = 1.2  # Angstrom; two hydrogens of different bonds are not closer
_ANIONS = 2.1  # Angstrom; hydrogens in metals (A. C. Switendick, Z. Phys. Chem. 117, 89 (1979))
_CORE = 0.5  # in bond lengths; closer, the force is that at this distance
_TRIES = 50
_PAIRS = 20_000  # of points and atoms compared at once, to limit memory


class PairEnergy:
    """Energies and forces of sites of one element in a host, without units.

    Attributes:
        apart: Minimum distance of two sites in Angstrom.
    """

    def __init__(self, host: Crystal, element: int) -> None:
        self._cell = host.cell
        self._host = np.linalg.solve(host.cell.T, host.positions.T).T
        self._bonds = covalent_radii[host.numbers] + covalent_radii[element]
        self._bonding = np.isin(host.numbers, _BONDING)
        self.apart = max(_APART, 1.6 * float(covalent_radii[element]))
        # Sites bonded to one atom may be near each other; anions among metals repel.
        self._length = self.apart if self._bonding.any() else max(self.apart, _ANIONS)
        reduced = reduced_cell(host.cell)
        # The nearest image of a vector in the reduced cell is at most one cell away.
        self._nearest = lattice_points(1) @ reduced
        short = np.linalg.norm(reduced, axis=1).min() < 4.0
        self._images = lattice_points(2) @ reduced if short else self._nearest

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
        away = self._distances(sites, sites)
        return bool((away[away > 1e-3] >= self.apart).all())

    def is_off_host(self, points: np.ndarray) -> np.ndarray:
        """Return which points (k, 3), fractional, keep their distance to the host: (k,) bool."""
        parts = np.array_split(points, 1 + len(points) * len(self._bonds) // _PAIRS)
        away = [self._distances(part, self._host).min(axis=2) for part in parts]
        return np.asarray((np.concatenate(away) >= _NEAREST * self._bonds).all(axis=1))

    def evaluate(self, points: np.ndarray, sites: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the energies (k,) and the forces (k, 3) of points among sites and host atoms.

        Args:
            points: (k, 3) fractional; each is one of the sites.
            sites: (m, 3) fractional.
        """
        others = np.concatenate([self._host, sites])
        lengths = np.concatenate([self._bonds, np.full(len(sites), self._length)])
        bonding = np.concatenate([self._bonding, np.zeros(len(sites), dtype=bool)])
        vectors = image_vectors(points, others, self._cell, self._images)
        distance = np.linalg.norm(vectors, axis=-1)
        x = np.maximum(distance / lengths[:, None], _CORE)
        itself = distance < 1e-3
        well, wall = bonding[:, None], ~bonding[:, None]
        energy = well * (x**-12 - 2 * x**-6) + wall * x**-8
        slope = well * (-12 * x**-13 + 12 * x**-7) + wall * -8 * x**-9
        energy[itself], slope[itself] = 0.0, 0.0
        pull = slope / np.maximum(distance, 1e-3) / lengths[:, None]
        return energy.sum(axis=(1, 2)), np.einsum("kmi,kmid->kd", pull, vectors)

    def _distances(self, points: np.ndarray, others: np.ndarray) -> np.ndarray:
        """Return distances (k, m, 27) in Angstrom, the smallest of each pair among them."""
        vectors = image_vectors(points, others, self._cell, self._nearest)
        return np.asarray(np.linalg.norm(vectors, axis=-1))
