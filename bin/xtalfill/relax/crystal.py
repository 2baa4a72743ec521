"""What the relaxation passes around: a crystal in, its energy and forces out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from xtalfill.core.batch import Batch
from xtalfill.core.geometry import MIN_DISTANCE, nearest_distance


@dataclass(frozen=True)
class Crystal:
    """One crystal, periodic in all directions.

    Attributes:
        numbers: (n_atoms,) nuclear charges.
        positions: (n_atoms, 3) Angstrom; they need not lie inside the cell.
        cell: (3, 3) Angstrom; rows are a, b, c.
    """

    numbers: np.ndarray
    positions: np.ndarray
    cell: np.ndarray


@dataclass(frozen=True)
class Evaluation:
    """What a potential says about a crystal.

    Attributes:
        energy: eV.
        forces: (n_atoms, 3) eV/Angstrom.
    """

    energy: float
    forces: np.ndarray


class MemoryShortageError(Exception):
    """The crystals given together do not fit in memory; fewer of them may."""


class EvaluationError(Exception):
    """The potential cannot evaluate one of the crystals it was given."""


class Potential(Protocol):
    """Energies and forces of several crystals at once.

    Attributes:
        name: What the user called it.
        elements: Nuclear charges it knows.
        weights: Model name -> sha256 of its weights file.
        packages: Distributions whose version can change its energies.
    """

    name: str
    elements: frozenset[int]
    weights: Mapping[str, str]
    packages: tuple[str, ...]

    def evaluate(self, crystals: Sequence[Crystal]) -> list[Evaluation]:
        """Return energy and forces of each crystal; none influences another.

        Thread-safe. Raises `MemoryShortageError` or `EvaluationError`.
        """
        ...


def crystal_of(batch: Batch, index: int, stage: str) -> Crystal:
    """Return system `index` as a stage left it."""
    here = batch.atoms_slice(index)
    positions = batch.stages[stage].arrays["positions"][here]
    return Crystal(batch.atomic_numbers[here], positions, batch.cell[index])


def is_collapsed(crystal: Crystal) -> bool:
    """Whether two atoms came nearer than `MIN_DISTANCE`: the energy then means nothing."""
    return nearest_distance(crystal.positions, crystal.cell) < MIN_DISTANCE
