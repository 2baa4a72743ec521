"""A crystal: atomic numbers, positions and cell."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from xtalfill.core.batch import Batch
from xtalfill.core.geometry import MIN_DISTANCE, nearest_distance

# HDF5 files of crystals have fractional coordinates as uint16: in units of 1 / FRACTION_UNIT.
FRACTION_UNIT = 65536.0


@dataclass(frozen=True)
class Crystal:
    """A crystal, periodic in all directions.

    Attributes:
        numbers: (n_atoms,) atomic numbers.
        positions: (n_atoms, 3) Angstrom; not necessarily inside the cell.
        cell: (3, 3) Angstrom; rows are a, b, c.
    """

    numbers: np.ndarray
    positions: np.ndarray
    cell: np.ndarray

    def with_atoms(self, element: int, positions: np.ndarray) -> Crystal:
        """Return the crystal with added atoms of an element at positions (m, 3), Angstrom."""
        numbers = np.concatenate([self.numbers, np.full(len(positions), element)])
        return Crystal(numbers, np.concatenate([self.positions, positions]), self.cell)


def crystal_of(batch: Batch, index: int, stage: str) -> Crystal:
    """Return system `index` with the positions of a stage."""
    here = batch.atoms_slice(index)
    positions = batch.stages[stage].arrays["positions"][here]
    return Crystal(batch.atomic_numbers[here], positions, batch.cell[index])


def is_collapsed(crystal: Crystal) -> bool:
    """Return whether two atoms are closer than `MIN_DISTANCE`; the energy is then not physical."""
    return nearest_distance(crystal.positions, crystal.cell) < MIN_DISTANCE
