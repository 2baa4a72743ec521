"""What a relaxed crystal is worth: nonsense that must not win, and what deserves a second look.

A converged relaxation says that forces are small, no more. They are small, too, where a site is out
of every atom's reach, or in a crystal that no potential was made for. Such a candidate fails. What
may be true, a host that rebuilds itself say, gets a note.
"""

from __future__ import annotations

import numpy as np
from ase.data import chemical_symbols, covalent_radii
from ase.geometry import get_distances

from xtalfill.core.crystal import Crystal
from xtalfill.core.geometry import MIN_DISTANCE, nearest_distance

# A neighbour is an atom nearer than the larger of the two. CsI has 3.96 Angstrom (1.03 radii).
NEIGHBOUR_DISTANCE = 3.5  # Angstrom
NEIGHBOUR_IN_RADII = 1.5  # sums of covalent radii
# eV per atom. The zero of potentials trained on VASP's energies is that of free atoms; solid neon
# lies at -0.02, and a potential is wrong by some tenths where it saw little.
MAX_ENERGY = 1.0
HOST_SHIFT = 1.0  # Angstrom; about the way to another site


def implausibility(crystal: Crystal, filled: np.ndarray, energy: float) -> str:
    """Say in one line why a relaxed crystal means nothing; empty if it may mean something.

    Args:
        crystal: After a relaxation of all atoms.
        filled: (n_atoms,) bool; the sites that were filled.
        energy: eV.
    """
    distance = nearest_distance(crystal.positions, crystal.cell)
    if distance < MIN_DISTANCE:
        return f"two atoms collapsed to {distance:.2f} Å, the energy means nothing"
    for site in np.flatnonzero(filled):
        if (away := _isolation(crystal, int(site))) is not None:
            symbol = chemical_symbols[crystal.numbers[site]]
            return f"{symbol} is {away:.1f} Å from every atom, so no force holds it anywhere"
    per_atom = energy / len(crystal.numbers)
    if per_atom > MAX_ENERGY:
        return f"the energy is {per_atom:+.1f} eV/atom, above that of free atoms: nothing is bound"
    return ""


def note(n_atoms: int, energy: float, shift: float) -> str:
    """Say in one line what to look at in a relaxed crystal; empty if nothing is unusual.

    Args:
        n_atoms: Atoms of the crystal.
        energy: eV.
        shift: Angstrom; of `host_shift`.
    """
    notes = []
    if shift > HOST_SHIFT:
        notes.append(f"the host changed: an atom of it moved by {shift:.1f} Å")
    if energy > 0.0:
        notes.append(f"the energy is {energy / n_atoms:+.2f} eV/atom, above that of free atoms")
    return "; ".join(notes)


def host_shift(before: np.ndarray, after: np.ndarray) -> float:
    """Return how far the atom of the host moved that moved most, Angstrom.

    The mean displacement is taken off: nothing fixes where a crystal as a whole lies.

    Args:
        before: (n_host, 3) Angstrom, as given.
        after: (n_host, 3) Angstrom, relaxed, the same images.
    """
    moves = after - before
    return float(np.linalg.norm(moves - moves.mean(axis=0), axis=1).max(initial=0.0))


def _isolation(crystal: Crystal, site: int) -> float | None:
    """Return how far a site is from the nearest atom, Angstrom; None if that is a neighbour.

    Its own images are no neighbours: their forces on it cancel.
    """
    others = np.arange(len(crystal.numbers)) != site
    here = crystal.positions[site][None]
    apart = get_distances(here, crystal.positions[others], cell=crystal.cell, pbc=True)[1][0]
    radii = covalent_radii[crystal.numbers[others]] + covalent_radii[crystal.numbers[site]]
    near = apart < np.maximum(NEIGHBOUR_DISTANCE, NEIGHBOUR_IN_RADII * radii)
    return None if near.any() else float(apart.min(initial=np.inf))
