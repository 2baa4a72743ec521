"""The interface of an interatomic potential: crystals in, energies and forces out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from xtalfill.core.crystal import Crystal


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
