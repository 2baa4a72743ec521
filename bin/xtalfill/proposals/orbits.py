"""Method symmetric: candidates whose sites are whole orbits of the host's space group.

A way to fill a host is a subgroup of its space group and orbits of it (Wyckoff positions) whose
multiplicities add up to the number of missing sites. The even ways use the full group as long as it
gives something new. The others use a random subgroup, large ones more often: missing sites and the
order of protons often break the symmetry of the host. Where no orbits fit, the identity alone is
left.

Random points, moved to the symmetry elements near them, give the orbits. Their free parameters are
then changed in steps down the gradient of a pair energy: host atoms repel, but elements that
hydrogen forms bonds with attract to a bond length. The step of a site is averaged over the
operations that keep the site, so every step keeps the symmetry.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import count

import numpy as np

from xtalfill.core.crystal import Crystal
from xtalfill.proposals.pair_energy import PairEnergy
from xtalfill.proposals.pair_kernels import orbit_of
from xtalfill.proposals.sites import IMAGE_TOLERANCE, settle_all
from xtalfill.proposals.space_group import Group, large_subgroup, space_group

# A host that has lost sites is distorted: hydrogen moves its neighbours by up to this.
TOLERANCE = 0.1  # Angstrom
_DRAWS, _DRAWS_OF_ALL = 60, 240  # points for the orbits of a subgroup, of the full group
_REACH = (0.0, 0.4, 0.8, 1.2)  # Angstrom; 0 leaves a point where it is
_SMALLER = 0.5  # share of subgroups that are replaced by one of theirs
_SUBGROUPS = 4  # of which a way takes the lowest
_TRIALS, _TRIALS_OF_ALL = 2, 8  # choices of orbits of which a way takes the lowest
_RESTARTS = 30  # until multiplicities add up
_STEPS = 25
_FIRST_STEP, _LAST_STEP = 0.2, 0.01  # Angstrom
_LARGE = 24  # sites; beyond, a way takes the first choice
_SAME_WAY = 0.5  # Angstrom
_ON_ELEMENT = 0.01  # Angstrom


@dataclass(frozen=True, eq=False)
class Orbit:
    """A point and its images.

    Attributes:
        point: (3,) fractional, on its symmetry element.
        rotations: (m, 3, 3) of the images, the identity first.
        translations: (m, 3).
        free: (3, 3) projects a displacement of the point onto those that keep its symmetry.
    """

    point: np.ndarray
    rotations: np.ndarray
    translations: np.ndarray
    free: np.ndarray

    def __len__(self) -> int:
        return len(self.rotations)

    @cached_property
    def images(self) -> np.ndarray:
        """The sites (m, 3), fractional, in [0, 1)."""
        return np.asarray((self.rotations @ self.point + self.translations) % 1.0)


class Pool:
    """Orbits to choose from.

    Attributes:
        orbits: k orbits.
        points: (k, 3) their points.
        sizes: (k,) multiplicities.
        kinds: (k,) numbers by multiplicity, then by free parameters.
    """

    def __init__(self, orbits: list[Orbit]) -> None:
        self.orbits = orbits
        self.points = np.array([orbit.point for orbit in orbits]).reshape(-1, 3)
        self.sizes = np.array([len(orbit) for orbit in orbits], dtype=int)
        free = np.array([orbit.free for orbit in orbits]).reshape(-1, 3, 3)
        self.kinds = 4 * self.sizes + np.rint(np.trace(free, axis1=1, axis2=2)).astype(int)


@dataclass(frozen=True, eq=False)
class Way:
    """A way to fill a host.

    Attributes:
        orbits: Their sites are the candidate.
        group: Leaves host and candidate unchanged.
        energy: By `PairEnergy`.
    """

    orbits: list[Orbit]
    group: Group
    energy: float

    @property
    def scaled(self) -> np.ndarray:
        """The sites (n_sites, 3), fractional."""
        return np.concatenate([orbit.images for orbit in self.orbits])


def symmetric_ways(
    host: Crystal,
    element: int,
    n_sites: int,
    *,
    generator: Callable[[int], np.random.Generator],
) -> Iterator[Way]:
    """Fill orbits of a host in ever new ways.

    Args:
        host: The atoms that are present.
        element: Atomic number of the missing ones.
        n_sites: Number of missing sites.
        generator: Returns the random generator of a way.

    Yields:
        Ways, no two equivalent by the space group of the host, until none is found.
    """
    full = space_group(host, tolerance=TOLERANCE)
    search = _Search(host, element, n_sites, full)
    of_all = search.pool(full, generator(0), draws=_DRAWS_OF_ALL)
    ways: list[Way] = []
    for number in count():
        random = generator(number)
        found = None
        if number % 2 == 0:
            found = search.fill(full, of_all, random, ways, trials=_TRIALS_OF_ALL)
        if found is None and len(full) > 1:
            some = [_subgroup(full, random) for _ in range(_SUBGROUPS)]
            tried = [search.fill(one, search.pool(one, random), random, ways) for one in some]
            usable = [way for way in tried if way is not None]
            found = min(usable, key=lambda way: way.energy, default=None)
        if found is None:
            alone = full.subset([0])
            found = search.fill(alone, search.pool(alone, random), random, ways)
        if found is None:
            return
        ways.append(found)
        yield found


def _subgroup(full: Group, random: np.random.Generator) -> Group:
    """Return a random proper subgroup of a group; half of them are large in the group."""
    members = large_subgroup(full.products, range(len(full)), random)
    while len(members) > 1 and random.random() < _SMALLER:
        members = large_subgroup(full.products, members, random)
    return full.subset(members)


class _Search:
    """Chooses and improves orbits in one host."""

    def __init__(self, host: Crystal, element: int, n_sites: int, full: Group) -> None:
        self.host, self.element, self.n_sites, self.full = host, element, n_sites, full
        self.energy = PairEnergy(host, element)

    def fill(
        self,
        group: Group,
        pool: Pool,
        random: np.random.Generator,
        known: list[Way],
        *,
        trials: int = _TRIALS,
    ) -> Way | None:
        """Return the lowest of some ways to fill orbits of a group that are not known yet."""
        found: list[Way] = []
        for _ in range(trials):
            if found and self.n_sites > _LARGE:
                break
            orbits = self._choose(pool, random)
            if orbits is None:
                break
            orbits = self._improved(orbits)
            way = Way(orbits, group, self._of(orbits))
            is_new = not any(self._same(way, other) for other in known)
            if is_new and self.energy.is_free(way.scaled):
                found.append(way)
        return min(found, key=lambda way: way.energy, default=None)

    def pool(self, group: Group, random: np.random.Generator, *, draws: int = _DRAWS) -> Pool:
        """Return orbits of a group that keep their distance to the host and to themselves."""
        cell = self.host.cell
        points = self.energy.draw(random, draws)
        pool: list[Orbit] = []
        for reach in _REACH:
            settled = points
            if reach:
                settled = settle_all(points, group.matrices, group.translations, cell, reach)
            found = [_orbit(point, group, cell, largest=self.n_sites) for point in settled]
            pool += self._free([orbit for orbit in found if orbit is not None])
        return Pool(pool)

    def _free(self, orbits: list[Orbit]) -> list[Orbit]:
        """Return the orbits whose sites keep their distances; the host is compared at once."""
        if not orbits:
            return []
        off = self.energy.is_off_host(np.concatenate([orbit.images for orbit in orbits]))
        parts = np.split(off, np.cumsum([len(orbit) for orbit in orbits])[:-1])
        return [
            orbit
            for orbit, part in zip(orbits, parts, strict=True)
            if part.all() and self.energy.is_apart(orbit.images)
        ]

    def _choose(self, pool: Pool, random: np.random.Generator) -> list[Orbit] | None:
        """Return orbits with n_sites sites in all, or None; each kind of orbit is as likely."""
        for _ in range(_RESTARTS if pool.orbits else 0):
            chosen: list[Orbit] = []
            left, missing = np.arange(len(pool.orbits)), self.n_sites
            while len(left) and missing:
                kinds = np.unique(pool.kinds[left])
                alike = left[pool.kinds[left] == kinds[random.integers(len(kinds))]]
                chosen.append(pool.orbits[alike[random.integers(len(alike))]])
                missing -= len(chosen[-1])
                left = left[pool.sizes[left] <= missing]
                left = left[self._beside(chosen[-1], pool.points[left])]
            if not missing:
                return chosen
        return None

    def _beside(self, orbit: Orbit, points: np.ndarray) -> np.ndarray:
        """Return which points (k, 3) keep their distance to an orbit: (k,) bool."""
        away = self.energy.distances(points, orbit.images)
        return np.asarray(away.min(axis=1, initial=np.inf) >= self.energy.apart)

    def _improved(self, orbits: list[Orbit]) -> list[Orbit]:
        """Return the orbits after steps down the gradient of the pair energy."""
        if not any(orbit.free.any() for orbit in orbits):
            return orbits
        back = np.linalg.inv(self.host.cell)
        for step in np.geomspace(_FIRST_STEP, _LAST_STEP, _STEPS):
            forces = self._evaluate(orbits)[1] @ back
            moves = np.array(
                [orbit.free @ force for orbit, force in zip(orbits, forces, strict=True)]
            )
            largest = np.linalg.norm(moves @ self.host.cell, axis=1).max()
            if largest < 1e-6:
                break
            moves *= step / largest
            orbits = [
                replace(orbit, point=orbit.point + move)
                for orbit, move in zip(orbits, moves, strict=True)
            ]
        return orbits

    def _evaluate(self, orbits: list[Orbit]) -> tuple[np.ndarray, np.ndarray]:
        """Return energies (k,) and forces (k, 3) of the points of k orbits."""
        points = np.array([orbit.point for orbit in orbits])
        return self.energy.evaluate(points, np.concatenate([orbit.images for orbit in orbits]))

    def _of(self, orbits: list[Orbit]) -> float:
        return float(self._evaluate(orbits)[0] @ [len(orbit) for orbit in orbits])

    def _same(self, way: Way, other: Way) -> bool:
        """Return whether an operation of the host maps a way onto another."""
        images = np.einsum("nij,kj->nki", self.full.rotations, way.scaled)
        images = (images + self.full.translations[:, None]).reshape(-1, 3)
        near = self.energy.distances(images, other.scaled) < _SAME_WAY
        near = near.reshape(len(self.full), self.n_sites, self.n_sites)
        both = near.any(axis=1) & near.any(axis=2)
        return bool(np.any(np.all(both, axis=1)))


def _orbit(point: np.ndarray, group: Group, cell: np.ndarray, *, largest: int) -> Orbit | None:
    """Return the orbit of a point that was moved to its symmetry element.

    Returns:
        None for more than `largest` images, or where the point is not on its element.
    """
    on_it, free, chosen, kept = orbit_of(
        point, group.matrices, group.translations, cell, largest, _ON_ELEMENT, IMAGE_TOLERANCE
    )
    if len(chosen) * kept != len(group):  # near an element, but not on it
        return None
    return Orbit(on_it, group.matrices[chosen], group.translations[chosen], free)
