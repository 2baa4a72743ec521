"""Relax between two placements with an interatomic potential instead of pw.x, at lower cost."""

from __future__ import annotations

import numpy as np

from xtalfill.core.crystal import Crystal
from xtalfill.proposals.dft_potential.calculation import PotentialCalculator
from xtalfill.proposals.dft_potential.restore import PlacementError
from xtalfill.relax.batched import BatchedRelaxer, Relaxation
from xtalfill.relax.interface import Potential


class MlipSolver:
    """Potentials by pw.x, relaxations by an interatomic potential without excess electrons.

    Args:
        electrons: Calculates the electrostatic potentials.
        potential: Relaxes the atoms.
        fmax: Largest force on a placed atom in eV/Angstrom.
        max_steps: Maximum number of steps.
    """

    def __init__(
        self, electrons: PotentialCalculator, potential: Potential, *, fmax: float, max_steps: int
    ) -> None:
        self._electrons, self._potential = electrons, potential
        self._fmax, self._max_steps = fmax, max_steps

    def potential(self, crystal: Crystal, extra: int) -> np.ndarray:
        """See `PotentialCalculator.potential`."""
        return self._electrons.potential(crystal, extra)

    def relaxed(self, crystal: Crystal, free: np.ndarray, extra: int) -> tuple[Crystal, np.ndarray]:
        """See `PotentialCalculator.relaxed`."""
        unknown = set(crystal.numbers.tolist()) - self._potential.elements
        if unknown:
            raise PlacementError(
                f"{self._potential.name} does not support the elements {sorted(unknown)}"
            )
        job = Relaxation(crystal, free)
        driver = BatchedRelaxer(self._potential, max_atoms=len(crystal.numbers), optimizer="fire")
        found = driver.relax([job], fmax=self._fmax, max_steps=self._max_steps)[0]
        if found.evaluation is None:
            raise PlacementError(f"{self._potential.name}: {found.error}")
        relaxed = Crystal(crystal.numbers, found.positions, crystal.cell)
        return relaxed, self._electrons.potential(relaxed, extra)
