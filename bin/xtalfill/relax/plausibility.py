"""Plausibility checks of relaxed crystals.

Small forces do not make a crystal physical: they are also small for an isolated atom, or far from
the training data of the potential. Such candidates fail. Unusual but possible results, such as a
reconstructed host, get a note.
"""

from __future__ import annotations

import numpy as np
from ase.data import chemical_symbols, covalent_radii
from ase.geometry import get_distances

from xtalfill.core.crystal import Crystal
from xtalfill.core.geometry import MIN_DISTANCE, nearest_distance

# Neighbours are closer than the larger of these two limits. CsI: 3.96 Angstrom, 1.03 radii.
NEIGHBOUR_DISTANCE = 3.5  # Angstrom
NEIGHBOUR_IN_RADII = 1.5  # sums of covalent radii
# eV per atom. Zero is the energy of free atoms for potentials trained on VASP energies. Solid neon
# has -0.02; errors outside the training data are some tenths of an eV per atom.
MAX_ENERGY = 1.0
HOST_SHIFT = 1.0  # Angstrom; about the distance to another site


def implausibility(crystal: Crystal, filled: np.ndarray, energy: float) -> str:
    """Return in one line why a relaxed crystal is not physical; empty if it is plausible.

    Args:
        crystal: Crystal after a relaxation of all atoms.
        filled: (n_atoms,) bool; the filled sites.
        energy: eV.
    """
    distance = nearest_distance(crystal.positions, crystal.cell)
    if distance < MIN_DISTANCE:
        return f"two atoms are {distance:.2f} Å apart; the energy is not physical"
    for site in np.flatnonzero(filled):
        if (away := _isolation(crystal, int(site))) is not None:
            symbol = chemical_symbols[crystal.numbers[site]]
            return f"{symbol} is {away:.1f} Å from the nearest atom and is not bound"
    per_atom = energy / len(crystal.numbers)
    if per_atom > MAX_ENERGY:
        return f"the energy is {per_atom:+.1f} eV/atom, above that of free atoms: not bound"
    return ""


def note(n_atoms: int, energy: float, shift: float) -> str:
    """Return in one line what is unusual about a relaxed crystal; empty if nothing is.

    Args:
        n_atoms: Number of atoms.
        energy: eV.
        shift: Angstrom; result of `host_shift`.
    """
    notes = []
    if shift > HOST_SHIFT:
        notes.append(f"the host changed: an atom moved by {shift:.1f} Å")
    if energy > 0.0:
        notes.append(f"the energy is {energy / n_atoms:+.2f} eV/atom, above that of free atoms")
    return "; ".join(notes)


def host_shift(before: np.ndarray, after: np.ndarray) -> float:
    """Return the largest displacement of a host atom, Angstrom; see `host_shifts`."""
    return float(host_shifts(before, after).max(initial=0.0))


def host_shifts(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Return the displacement of each host atom (n_host,), Angstrom.

    The mean displacement is subtracted because the position of the whole crystal is arbitrary.

    Args:
        before: (n_host, 3) Angstrom; input positions.
        after: (n_host, 3) Angstrom; relaxed positions of the same images.
    """
    moves = after - before
    return np.asarray(np.linalg.norm(moves - moves.mean(axis=0), axis=1))


def _isolation(crystal: Crystal, site: int) -> float | None:
    """Return the distance to the nearest atom, Angstrom; None if the site has a neighbour.

    Periodic images of the site do not count: their forces cancel.
    """
    others = np.arange(len(crystal.numbers)) != site
    here = crystal.positions[site][None]
    apart = get_distances(here, crystal.positions[others], cell=crystal.cell, pbc=True)[1][0]
    radii = covalent_radii[crystal.numbers[others]] + covalent_radii[crystal.numbers[site]]
    near = apart < np.maximum(NEIGHBOUR_DISTANCE, NEIGHBOUR_IN_RADII * radii)
    return None if near.any() else float(apart.min(initial=np.inf))
