"""Relax between two placements with an interatomic potential instead of pw.x: cheaper."""

from __future__ import annotations

import numpy as np

from xtalfill.core.crystal import Crystal
from xtalfill.proposals.dft_potential.calculation import PotentialCalculator
from xtalfill.proposals.dft_potential.restore import PlacementError
from xtalfill.relax.batched import BatchedRelaxer, Relaxation
from xtalfill.relax.interface import Potential


class MlipSolver:
    """Electrons by pw.x, relaxations by a potential, which knows nothing of extra electrons.

    Args:
        electrons: Finds the potentials.
        potential: Relaxes.
        fmax: eV/Angstrom; largest force on a placed atom.
        max_steps: Most steps.
    """

    def __init__(
        self, electrons: PotentialCalculator, potential: Potential, *, fmax: float, max_steps: int
    ) -> None:
        self._electrons, self._potential = electrons, potential
        self._fmax, self._max_steps = fmax, max_steps

    def potential(self, crystal: Crystal, extra: int) -> np.ndarray:
        """As `Electrons.potential`."""
        return self._electrons.potential(crystal, extra)

    def relaxed(self, crystal: Crystal, free: np.ndarray, extra: int) -> tuple[Crystal, np.ndarray]:
        """As `Electrons.relaxed`."""
        unknown = set(crystal.numbers.tolist()) - self._potential.elements
        if unknown:
            raise PlacementError(
                f"{self._potential.name} does not support the elements {sorted(unknown)}"
            )
        job = Relaxation(crystal, free)
        driver = BatchedRelaxer(self._potential, max_atoms=len(crystal.numbers))
        found = driver.relax([job], fmax=self._fmax, max_steps=self._max_steps)[0]
        if found.evaluation is None:
            raise PlacementError(f"{self._potential.name}: {found.error}")
        relaxed = Crystal(crystal.numbers, found.positions, crystal.cell)
        return relaxed, self._electrons.potential(relaxed, extra)
