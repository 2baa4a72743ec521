"""The interface of an interatomic potential: crystals in, energies and forces out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from xtalfill.core.crystal import Crystal


@dataclass(frozen=True)
class Evaluation:
    """Energy and forces of a crystal.

    Attributes:
        energy: eV.
        forces: (n_atoms, 3) eV/Angstrom.
        atomic: (n_atoms,) eV, which add up to the energy; None if the potential does not tell.
    """

    energy: float
    forces: np.ndarray
    atomic: np.ndarray | None = None


class MemoryShortageError(Exception):
    """The crystals of one evaluation do not fit in memory; a smaller group may."""


class EvaluationError(Exception):
    """The potential cannot evaluate one of the given crystals."""


class Potential(Protocol):
    """Interatomic potential that evaluates several crystals at once.

    Attributes:
        name: Name given by the user.
        elements: Atomic numbers of the supported elements.
        weights: Model name -> sha256 of its weights file.
        packages: Distributions whose version can change the energies.
    """

    name: str
    elements: frozenset[int]
    weights: Mapping[str, str]
    packages: tuple[str, ...]

    def evaluate(self, crystals: Sequence[Crystal]) -> list[Evaluation]:
        """Return energy and forces of each crystal, independent of the others.

        Thread-safe. Raises `MemoryShortageError` or `EvaluationError`.
        """
        ...
