"""The optimizers of RELAX by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal, Protocol

import numpy as np

from xtalfill.relax.fire import Fire
from xtalfill.relax.lbfgs import Lbfgs

OptimizerName = Literal["fire", "lbfgs"]


class Optimizer(Protocol):
    """One minimisation; it sees the forces of its own crystal alone."""

    def state(self) -> dict[str, np.ndarray]:
        """Return the state as arrays, for `restore`."""

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Resume from a state returned by `state`."""

    def step(self, forces: np.ndarray) -> np.ndarray:
        """Return the next displacement (n_free, 3), Angstrom, for forces (n_free, 3), eV/A."""


OPTIMIZERS: Mapping[OptimizerName, Callable[[int], Optimizer]] = {"fire": Fire, "lbfgs": Lbfgs}
# As they are called in records and texts.
TITLES: Mapping[str, str] = {"fire": "FIRE", "lbfgs": "L-BFGS"}
