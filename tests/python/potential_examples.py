"""Hosts of lithium, recorded potentials, and a stand-in for pw.x and pp.x."""

from __future__ import annotations

import gzip
import io
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from ase.build import bulk
from ase.io.cube import read_cube
from ase.units import Rydberg

from xtalfill.core.crystal import Crystal
from xtalfill.proposals.dft_potential.restore import PlacementError, Rules

RECORDED = Path(__file__).resolve().parents[1] / "fixtures" / "potential"
RULES = Rules(degenerate=0.995, bond=0.6, apart=1.3, charge=0.5, bound=1000)


def lithium(*, cubic: bool = False) -> Crystal:
    """Return the host of LiH: lithium alone, one atom or the cubic cell of four."""
    atoms = bulk("Li", "fcc", a=4.08, cubic=cubic)
    return Crystal(atoms.numbers, atoms.positions, atoms.cell.array)


def recorded(name: str) -> tuple[Crystal, np.ndarray]:
    """Return the crystal and the potential in eV of a cube file of pp.x."""
    text = gzip.decompress((RECORDED / f"{name}.cube.gz").read_bytes()).decode("ascii")
    found = read_cube(io.StringIO(text))
    atoms = found["atoms"]
    crystal = Crystal(atoms.numbers, atoms.positions, atoms.cell.array)
    return crystal, found["data"] * Rydberg


@dataclass
class Played:
    """Plays recorded potentials back, one a call; an error is raised instead.

    Attributes:
        steps: What each call gives.
        shift: Angstrom; how far each relaxation moves the atoms along x.
        calls: (atoms, extra electrons, number of free atoms) of each call.
    """

    steps: list[np.ndarray | PlacementError]
    shift: float = 0.0
    calls: list[tuple[int, int, int]] = field(default_factory=list)

    def potential(self, crystal: Crystal, extra: int) -> np.ndarray:
        """Return the next potential."""
        return self._next(crystal, extra, 0)

    def relaxed(self, crystal: Crystal, free: np.ndarray, extra: int) -> tuple[Crystal, np.ndarray]:
        """Shift the free atoms and return the next potential."""
        positions = crystal.positions + self.shift * np.outer(free, [1, 0, 0])
        found = self._next(crystal, extra, int(free.sum()))
        return Crystal(crystal.numbers, positions, crystal.cell), found

    def _next(self, crystal: Crystal, extra: int, n_free: int) -> np.ndarray:
        self.calls.append((len(crystal.numbers), extra, n_free))
        step = self.steps.pop(0)
        if isinstance(step, PlacementError):
            raise step
        return step
