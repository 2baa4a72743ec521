"""Move filled sites out of atoms: what every proposal goes through before it is written.

Where many equivalent places surround an atom, a network may answer with their mean, which is the
atom itself. No potential can make anything of such a proposal. A site nearer to an atom, host or
filled, than `CLEARANCE` of the sum of their covalent radii (Cordero et al., Dalton Trans. 2832
(2008), as in ASE) is therefore moved to a bond's length from the nearest host atom, in a random
direction. H2 (0.74 Angstrom, limit 0.37) and short O-H bonds (limit 0.58) stay as they are. A
proposal without such a site keeps its bits. No torch here: GATHER_POTENTIAL has none.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
from ase.data import covalent_radii
from ase.geometry import get_distances, minkowski_reduce

from xtalfill.core.batch import Batch
from xtalfill.core.crystal import Crystal

CLEARANCE = 0.6
# Distances from the host atom that are tried, in sums of covalent radii, the best first.
_SHELLS = (1.0, 0.9, 0.8, 0.7)
_DIRECTIONS = 50  # drawn for each of them
_SWEEPS = 3  # a site without room may get some when others have moved
_PAIRS = 20_000  # compared at once, for memory

MOVED = "sites_moved"
SHIFT = "largest_shift"
INSIDE = "sites_inside"


@dataclass(frozen=True)
class Cleared:
    """A proposal without sites inside atoms, as far as there was room.

    Attributes:
        sites: (n_sites, 3) Angstrom; those given, to the bit, where nothing was moved.
        n_moved: Sites that were moved.
        largest_shift: Angstrom; the farthest that one was moved.
        n_inside: Sites that still lie inside an atom or their own images.
    """

    sites: np.ndarray
    n_moved: int
    largest_shift: float
    n_inside: int


def clear_sites(
    host: Crystal, element: int, sites: np.ndarray, *, generator: np.random.Generator
) -> Cleared:
    """Move the sites that lie inside an atom, one after the other, into free places.

    Args:
        host: The atoms that are there.
        element: Atomic number of the sites.
        sites: (n_sites, 3) Angstrom, finite.
        generator: The candidate's own source of directions; not drawn from if all sites are clear.
    """
    placed, shifts = sites.copy(), np.zeros(len(sites))
    for _ in range(_SWEEPS):
        inside = [site for site in range(len(sites)) if _is_inside(host, element, placed, site)]
        if not inside:
            break
        for site in inside:
            # A neighbour that has moved may have made room.
            if _is_inside(host, element, placed, site):
                shifts[site] += _move(host, element, placed, site, generator)
    else:
        inside = [site for site in range(len(sites)) if _is_inside(host, element, placed, site)]
    own_image = float(np.linalg.norm(minkowski_reduce(host.cell)[0], axis=1).min())
    crowded = own_image < CLEARANCE * 2.0 * covalent_radii[element]
    return Cleared(
        sites=placed,
        n_moved=int(np.count_nonzero(shifts)),
        largest_shift=float(shifts.max(initial=0.0)),
        n_inside=len(sites) if crowded else len(inside),
    )


def record_arrays(n_systems: int) -> dict[str, np.ndarray]:
    """Return what a stage records of the moves, (n_systems,) each, before any was made."""
    return {
        MOVED: np.zeros(n_systems, dtype=np.int32),
        SHIFT: np.zeros(n_systems),
        INSIDE: np.zeros(n_systems, dtype=np.int32),
    }


def write_sites(batch: Batch, index: int, sites: np.ndarray, arrays: dict[str, np.ndarray]) -> None:
    """Write the proposal of one candidate, its sites moved out of atoms.

    Args:
        batch: Holds the candidate.
        index: Its system.
        sites: (n_sites, 3) Angstrom, finite.
        arrays: Of the stage inpaint: positions and `record_arrays`.
    """
    here = batch.atoms_slice(index)
    is_host, numbers = batch.is_host[here], batch.atomic_numbers[here]
    host = Crystal(numbers[is_host], batch.positions[here][is_host], batch.cell[index])
    element = int(numbers[~is_host][0])
    cleared = clear_sites(host, element, sites, generator=_generator(batch, index))
    arrays["positions"][np.arange(here.start, here.stop)[~is_host]] = cleared.sites
    arrays[MOVED][index] = cleared.n_moved
    arrays[SHIFT][index] = cleared.largest_shift
    arrays[INSIDE][index] = cleared.n_inside


def _generator(batch: Batch, index: int) -> np.random.Generator:
    """Return a source of directions: (seed, id, sample) alone decide."""
    key = f"clearance|{batch.seed[index]}|{batch.id[index]}|{batch.sample[index]}"
    digest = hashlib.sha256(key.encode()).digest()
    return np.random.Generator(np.random.Philox(key=int.from_bytes(digest[:16], "little")))


def _is_inside(host: Crystal, element: int, sites: np.ndarray, site: int) -> bool:
    """Tell whether one of the sites (n, 3) lies inside an atom or another site."""
    others = host.with_atoms(element, np.delete(sites, site, axis=0))
    return bool(_depths(others, element, sites[site][None])[0] < CLEARANCE)


def _depths(crystal: Crystal, element: int, points: np.ndarray) -> np.ndarray:
    """Return the distance (n,) of points to the nearest atom, in sums of covalent radii."""
    parts = np.array_split(points, 1 + len(points) * len(crystal.numbers) // _PAIRS)
    return np.concatenate([_in_radii(crystal, element, part).min(axis=1) for part in parts])


def _in_radii(crystal: Crystal, element: int, points: np.ndarray) -> np.ndarray:
    """Return the distances (n, m) of points to atoms, in sums of covalent radii."""
    apart = get_distances(points, crystal.positions, cell=crystal.cell, pbc=True)[1]
    return np.asarray(apart / _bonds(crystal, element))


def _bonds(crystal: Crystal, element: int) -> np.ndarray:
    """Return a bond's length (m,) from each atom to the element: the sum of covalent radii."""
    return np.asarray(covalent_radii[crystal.numbers] + covalent_radii[element])


def _move(
    host: Crystal, element: int, sites: np.ndarray, site: int, generator: np.random.Generator
) -> float:
    """Put one of the sites (n, 3) into a free place, if one is found; return the way, Angstrom."""
    here = sites[site]
    nearest = int(np.argmin(_in_radii(host, element, here[None])[0]))
    atom, bond = host.positions[[nearest]], float(_bonds(host, element)[nearest])
    to_atom = get_distances(here[None], atom, cell=host.cell, pbc=True)[0][0, 0]
    others = host.with_atoms(element, np.delete(sites, site, axis=0))
    for shell in _SHELLS:
        directions = generator.standard_normal((_DIRECTIONS, 3))
        directions /= np.linalg.norm(directions, axis=1, keepdims=True)
        moves = to_atom + shell * bond * directions
        free = _depths(others, element, here + moves) >= CLEARANCE
        if free.any():
            move = moves[int(np.argmax(free))]
            fractions = np.linalg.solve(host.cell.T, here + move)
            sites[site] = (fractions - np.floor(fractions)) @ host.cell
            return float(np.linalg.norm(move))
    return 0.0
