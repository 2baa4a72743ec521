"""Structure matching: one definition of equal crystals for all stages."""

from __future__ import annotations

from ase import Atoms
from pymatgen.analysis.structure_matcher import StructureMatcher
from pymatgen.core import Structure
from pymatgen.io.ase import AseAtomsAdaptor

# Fraction, fraction, degrees: pymatgen's defaults, as in the published hydrogen benchmarks.
TOLERANCES = {"ltol": 0.2, "stol": 0.3, "angle_tol": 5.0}


def matcher() -> StructureMatcher:
    """Return the StructureMatcher used by all comparisons."""
    return StructureMatcher(**TOLERANCES)


def to_pymatgen(atoms: Atoms) -> Structure:
    """Return a crystal as a pymatgen structure without calculator and info."""
    return AseAtomsAdaptor.get_structure(
        Atoms(atoms.numbers, positions=atoms.positions, cell=atoms.cell, pbc=True)
    )
