"""Structure matching: one definition of equal crystals for all stages."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

from ase import Atoms
from pymatgen.analysis.structure_matcher import StructureMatcher
from pymatgen.core import Structure
from pymatgen.io.ase import AseAtomsAdaptor

# Fraction, fraction, degrees: pymatgen's defaults, as in the published hydrogen benchmarks.
TOLERANCES = {"ltol": 0.2, "stol": 0.3, "angle_tol": 5.0}


def matcher() -> StructureMatcher:
    """Return the StructureMatcher used by all comparisons."""
    return StructureMatcher(**TOLERANCES)


def reduced(atoms: Atoms) -> Structure:
    """Return the Niggli-reduced primitive cell of a crystal, as StructureMatcher compares it.

    StructureMatcher would reduce each crystal again for each comparison, or find it in its cache by
    comparing all pairs of sites, which takes about as long.

    Raises:
        ArithmeticError, ValueError, RuntimeError: pymatgen cannot reduce the cell.
    """
    return to_pymatgen(atoms).get_reduced_structure("niggli").get_primitive_structure()


def same_crystal(first: Structure, second: Structure) -> bool:
    """Return whether StructureMatcher maps the first of two `reduced` crystals to the second."""
    return bool(matcher().fit(first, second, skip_structure_reduction=True))


def matcher_of(crystal: Callable[[int], Atoms]) -> Callable[[int, int], bool]:
    """Return what compares two of some crystals by number.

    Each crystal is reduced once and each pair compared once.

    Args:
        crystal: Returns the crystal of a number.
    """

    @cache
    def structure(index: int) -> Structure:
        return reduced(crystal(index))

    @cache
    def same(first: int, second: int) -> bool:
        return same_crystal(structure(first), structure(second))

    return same


def to_pymatgen(atoms: Atoms) -> Structure:
    """Return a crystal as a pymatgen structure without calculator and info."""
    return AseAtomsAdaptor.get_structure(
        Atoms(atoms.numbers, positions=atoms.positions, cell=atoms.cell, pbc=True)
    )
