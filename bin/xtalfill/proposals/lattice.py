"""A lattice and its images, ready for minimum-image vectors."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from ase.geometry import minkowski_reduce


@dataclass(frozen=True, eq=False)
class Lattice:
    """A lattice, ready for pairs of fractional positions.

    Attributes:
        reduced: (3, 3) Minkowski-reduced cell, Angstrom.
        inward: (3, 3) fractions of the cell -> fractions of the reduced cell.
        near: (27, 3) lattice vectors of the cells around the reduced one, Angstrom. The nearest
            image of a vector inside the reduced cell is among them.
        wide: (125, 3) the same, two cells away.
    """

    reduced: np.ndarray
    inward: np.ndarray
    near: np.ndarray
    wide: np.ndarray


def lattice_of(cell: np.ndarray) -> Lattice:
    """Return the lattice of a cell (3, 3), Angstrom."""
    return _lattice(np.ascontiguousarray(cell, dtype=float).tobytes())


@lru_cache(maxsize=16)
def _lattice(content: bytes) -> Lattice:
    cell = np.frombuffer(content).reshape(3, 3)
    reduced = np.ascontiguousarray(minkowski_reduce(cell)[0])
    near, wide = (lattice_points(reach) @ reduced for reach in (1, 2))
    return Lattice(reduced, cell @ np.linalg.inv(reduced), near, wide)


def lattice_points(reach: int) -> np.ndarray:
    """Return the lattice points (n, 3) up to `reach` cells away along each axis."""
    return np.stack(np.meshgrid(*[np.arange(-reach, reach + 1)] * 3), axis=-1).reshape(-1, 3)
