"""When two crystals count as the same one: a single answer for every stage."""

from __future__ import annotations

from ase import Atoms
from pymatgen.analysis.structure_matcher import StructureMatcher
from pymatgen.core import Structure
from pymatgen.io.ase import AseAtomsAdaptor

# Fraction, fraction, degrees: those of the published hydrogen benchmarks, pymatgen's defaults.
TOLERANCES = {"ltol": 0.2, "stol": 0.3, "angle_tol": 5.0}


def matcher() -> StructureMatcher:
    """Return the matcher that all comparisons use."""
    return StructureMatcher(**TOLERANCES)


def to_pymatgen(atoms: Atoms) -> Structure:
    """Return the crystal as a plain pymatgen structure (no calculator, no info)."""
    return AseAtomsAdaptor.get_structure(
        Atoms(atoms.numbers, positions=atoms.positions, cell=atoms.cell, pbc=True)
    )
