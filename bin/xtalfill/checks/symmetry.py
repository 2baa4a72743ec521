"""Space groups of host and restored crystal, the symmetrised crystal and its Wyckoff positions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import spglib
from ase import Atoms

from xtalfill.dft.symmetry import symmetrise

# Å. A crystal relaxed to 0.05 eV/Å is off its symmetric positions by some hundredths.
SYMMETRY_TOLERANCE = 0.1
# Å. Cells from experiment are rounded; the positions of a symmetrised crystal are exact.
_CELL_TOLERANCE = 0.01


@dataclass(frozen=True, eq=False)
class Symmetry:
    """The symmetry of a restored crystal.

    Attributes:
        host: Symbol of the space group of the host as given; empty if unknown.
        group: Symbol of the space group of the symmetrised crystal.
        number: Number of that space group.
        symmetrised: The crystal with its atoms at symmetric positions, in its own cell.
        shift_host: Largest displacement of a host atom to such a position, Å.
        shift_filled: Largest displacement of a restored site to such a position, Å.
        wyckoff: Wyckoff positions of the restored sites, "H 2d (3m.)", one for each orbit.
        n_special: Number of restored sites on special positions.
    """

    host: str
    group: str
    number: int
    symmetrised: Atoms
    shift_host: float
    shift_filled: float
    wyckoff: tuple[str, ...]
    n_special: int


def find_symmetry(atoms: Atoms, is_host: np.ndarray, *, host: Atoms) -> Symmetry:
    """Find the symmetry of a restored crystal.

    Each atom may move by at most `SYMMETRY_TOLERANCE` to a symmetric position; the group is the
    largest one for which this is enough.

    Args:
        atoms: The crystal.
        is_host: (n,) bool; the other atoms are restored.
        host: The host as given.
    """
    moved = symmetrise(
        atoms,
        is_host,
        tolerance=SYMMETRY_TOLERANCE,
        tolerance_filled=SYMMETRY_TOLERANCE,
        exact=_CELL_TOLERANCE,
    )
    found = symmetry_dataset(moved.atoms, _CELL_TOLERANCE)
    given = symmetry_dataset(host, SYMMETRY_TOLERANCE) if len(host) else None
    orbits, n_special = ((), 0) if found is None else _orbits(moved.atoms, is_host, found)
    return Symmetry(
        host="" if given is None else str(given.international),
        group="" if found is None else str(found.international),
        number=0 if found is None else int(found.number),
        symmetrised=moved.atoms,
        shift_host=moved.shift_host,
        shift_filled=moved.shift_filled,
        wyckoff=orbits,
        n_special=n_special,
    )


def symmetry_dataset(atoms: Atoms, tolerance: float) -> spglib.SpglibDataset | None:
    """Return what spglib finds of a crystal within a tolerance in Å; None if it finds nothing."""
    cell = (atoms.cell.tolist(), atoms.get_scaled_positions().tolist(), atoms.numbers.tolist())
    return spglib.get_symmetry_dataset(cell, symprec=tolerance)


def _orbits(
    atoms: Atoms, is_host: np.ndarray, found: spglib.SpglibDataset
) -> tuple[tuple[str, ...], int]:
    """Return the Wyckoff positions of the restored sites, and how many sites are special."""
    # Multiplicities refer to the conventional cell.
    times = len(found.std_types) / len(atoms)
    orbits = {}
    n_special = 0
    for site in np.flatnonzero(~is_host):
        symbol = str(found.site_symmetry_symbols[site])
        n_special += symbol.replace(".", "") != "1"
        first = int(found.equivalent_atoms[site])
        count = round(times * int((found.equivalent_atoms == first).sum()))
        orbits[first] = f"{atoms.symbols[site]} {count}{found.wyckoffs[site]} ({symbol})"
    return tuple(orbits.values()), n_special
