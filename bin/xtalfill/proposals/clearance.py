"""Move proposed sites that overlap atoms; every proposal passes through this step.

If many equivalent positions surround an atom, a network may predict their mean, which is the
position of the atom itself. No potential can relax such a proposal. A site is therefore moved if
its distance to an atom, host or filled, is below `CLEARANCE` times the sum of their covalent radii
(Cordero et al., Dalton Trans. 2832 (2008), as in ASE). Its new position is a bond length from the
nearest host atom, in a random direction. H2 (0.74 Angstrom, limit 0.37) and short O-H bonds (limit
0.58) are not changed. A proposal without such a site stays bit-identical. The module does not
import torch, which GATHER_POTENTIAL does not have.
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
# Distances from the host atom to try, in sums of covalent radii, in order of preference.
_SHELLS = (1.0, 0.9, 0.8, 0.7)
_DIRECTIONS = 50  # random directions per distance
_SWEEPS = 3  # a site without free space may get some after others have moved
_PAIRS = 20_000  # maximum number of pairs compared at once, to limit memory

MOVED = "sites_moved"
SHIFT = "largest_shift"
INSIDE = "sites_inside"


@dataclass(frozen=True)
class ClearedSites:
    """A proposal whose sites were moved out of atoms where possible.

    Attributes:
        sites: (n_sites, 3) Angstrom; bit-identical to the input if nothing was moved.
        n_moved: Number of moved sites.
        largest_shift: Largest displacement of a site in Angstrom.
        n_inside: Number of sites that still overlap an atom or their own images.
    """

    sites: np.ndarray
    n_moved: int
    largest_shift: float
    n_inside: int


def clear_sites(
    host: Crystal, element: int, sites: np.ndarray, *, generator: np.random.Generator
) -> ClearedSites:
    """Move the sites that overlap an atom, one after the other, to free positions.

    Args:
        host: The atoms that are present.
        element: Atomic number of the sites.
        sites: (n_sites, 3) Angstrom, finite.
        generator: Random generator of the candidate; not used if no site overlaps.
    """
    placed, shifts = sites.copy(), np.zeros(len(sites))
    for _ in range(_SWEEPS):
        inside = [site for site in range(len(sites)) if _is_inside(host, element, placed, site)]
        if not inside:
            break
        for site in inside:
            # An earlier move may have made room.
            if _is_inside(host, element, placed, site):
                shifts[site] += _move(host, element, placed, site, generator)
    else:
        inside = [site for site in range(len(sites)) if _is_inside(host, element, placed, site)]
    own_image = float(np.linalg.norm(minkowski_reduce(host.cell)[0], axis=1).min())
    crowded = own_image < CLEARANCE * 2.0 * covalent_radii[element]
    return ClearedSites(
        sites=placed,
        n_moved=int(np.count_nonzero(shifts)),
        largest_shift=float(shifts.max(initial=0.0)),
        n_inside=len(sites) if crowded else len(inside),
    )


def record_arrays(n_systems: int) -> dict[str, np.ndarray]:
    """Return the arrays (n_systems,) that record the moved sites, with no site moved."""
    return {
        MOVED: np.zeros(n_systems, dtype=np.int32),
        SHIFT: np.zeros(n_systems),
        INSIDE: np.zeros(n_systems, dtype=np.int32),
    }


def write_sites(batch: Batch, index: int, sites: np.ndarray, arrays: dict[str, np.ndarray]) -> None:
    """Write the proposal of one candidate after moving its sites out of atoms.

    Args:
        batch: The batch of the candidate.
        index: Index of its system.
        sites: (n_sites, 3) Angstrom, finite.
        arrays: Arrays of the stage inpaint: positions and `record_arrays`.
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
    """Return the random generator of a candidate, determined by (seed, id, sample) alone."""
    key = f"clearance|{batch.seed[index]}|{batch.id[index]}|{batch.sample[index]}"
    digest = hashlib.sha256(key.encode()).digest()
    return np.random.Generator(np.random.Philox(key=int.from_bytes(digest[:16], "little")))


def _is_inside(host: Crystal, element: int, sites: np.ndarray, site: int) -> bool:
    """Return whether one of the sites (n, 3) overlaps an atom or another site."""
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
    """Return the bond length (m,) of each atom with the element: the sum of covalent radii."""
    return np.asarray(covalent_radii[crystal.numbers] + covalent_radii[element])


def _move(
    host: Crystal, element: int, sites: np.ndarray, site: int, generator: np.random.Generator
) -> float:
    """Move one of the sites (n, 3) to a free position, if found; return the displacement in Å."""
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
