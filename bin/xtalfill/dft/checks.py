"""Checks that exclude a crystal before any job is written."""

from __future__ import annotations

from collections.abc import Mapping

from ase import Atoms

from xtalfill.core.geometry import MIN_DISTANCE, nearest_distance


def unknown_elements(symbols: list[str], valence: Mapping[str, float]) -> str:
    """Return a message naming the elements without a pseudopotential; empty if there are none.

    Args:
        symbols: Symbols of the elements.
        valence: Element -> valence electrons, for the elements whose file was checked.
    """
    unknown = sorted(set(symbols) - set(valence))
    return f"no pseudopotential for {', '.join(unknown)}" if unknown else ""


def refusal_reason(atoms: Atoms, n_electrons: float, *, max_electrons: int) -> str:
    """Return why a crystal is not calculated; empty if it is.

    Args:
        atoms: The crystal.
        n_electrons: Number of its valence electrons.
        max_electrons: Largest number allowed.
    """
    if n_electrons > max_electrons:
        return f"{n_electrons:g} valence electrons, more than --max_electrons {max_electrons}"
    distance = nearest_distance(atoms.positions, atoms.cell.array)
    return f"two atoms are {distance:.2f} Å apart" if distance < MIN_DISTANCE else ""
