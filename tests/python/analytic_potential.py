"""Analytic pair potential with the interface of the real ones; batches for tests."""

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes
from matscipy.neighbours import neighbour_list

from xtalfill.core.batch import REFERENCE, Batch, Stage
from xtalfill.core.crystal import Crystal
from xtalfill.relax.interface import Evaluation

CUTOFF = 5.0
WELL, DISTANCE = 0.3, 1.9  # eV, Angstrom


class MorsePotential:
    """Morse pairs, shifted so that energy and force vanish at the cutoff; finite everywhere."""

    name = "morse"
    elements = frozenset(range(1, 20))
    packages: tuple[str, ...] = ("numpy",)

    def __init__(self) -> None:
        self.weights = {"morse": "0" * 64}
        self.calls: list[list[int]] = []

    def evaluate(self, crystals: Sequence[Crystal]) -> list[Evaluation]:
        """Return energy and forces of each crystal; record the sizes."""
        self.calls.append([len(crystal.numbers) for crystal in crystals])
        return [morse(crystal) for crystal in crystals]


class WiderMorse(MorsePotential):
    """Morse pairs with scaled lengths: other minima and energies, the same elements."""

    name = "wider"
    scale = 0.95

    def __init__(self) -> None:
        super().__init__()
        self.weights = {"wider": "1" * 64}

    def evaluate(self, crystals: Sequence[Crystal]) -> list[Evaluation]:
        """Return energy and forces of each crystal; record the sizes."""
        scaled = [
            Crystal(c.numbers, c.positions * self.scale, c.cell * self.scale) for c in crystals
        ]
        return [Evaluation(one.energy, one.forces * self.scale) for one in super().evaluate(scaled)]


def morse(crystal: Crystal) -> Evaluation:
    """Return the energy and forces of Morse pairs."""
    i, d, vector = neighbour_list(
        "idD",
        positions=crystal.positions,
        cell=crystal.cell,
        pbc=np.ones(3, dtype=bool),
        cutoff=CUTOFF,
    )

    def pair(r: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        e = np.exp(-1.5 * (r - DISTANCE))
        return WELL * (e * e - 2 * e), WELL * 3.0 * (e - e * e)

    energy, slope = pair(d)
    energy_end, slope_end = pair(np.array(CUTOFF))
    energy = energy - energy_end - slope_end * (d - CUTOFF)
    pull = ((slope - slope_end) / d)[:, None] * vector
    forces = np.zeros_like(crystal.positions)
    np.add.at(forces, i, pull)
    return Evaluation(float(energy.sum() / 2), forces)


class MorseCalculator(Calculator):
    """ASE calculator of the same potential."""

    implemented_properties: ClassVar[list[str]] = ["energy", "forces"]

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: list[str] | None = None,
        system_changes: list[str] = all_changes,
    ) -> None:
        """Evaluate `atoms`."""
        super().calculate(atoms, properties, system_changes)
        found = morse(Crystal(atoms.numbers, atoms.positions, np.array(atoms.cell)))
        self.results = {"energy": found.energy, "forces": found.forces}


def crystals(n: int, *, seed: int = 0) -> list[tuple[Crystal, np.ndarray]]:
    """Return n random crystals of 4 to 9 atoms and their free sites (the last one to three)."""
    rng = np.random.default_rng(seed)
    made = []
    for _ in range(n):
        n_atoms = int(rng.integers(4, 10))
        cell = np.eye(3) * (2.0 * n_atoms ** (1 / 3) + 0.6) + rng.normal(scale=0.2, size=(3, 3))
        positions = rng.random((n_atoms, 3)) @ cell
        free = np.arange(n_atoms) >= n_atoms - int(rng.integers(1, 4))
        made.append((Crystal(rng.integers(1, 9, n_atoms), positions, cell), free))
    return made


def as_atoms(crystal: Crystal) -> Atoms:
    """Return the crystal as ASE atoms."""
    return Atoms(crystal.numbers, crystal.positions, cell=crystal.cell, pbc=True)


def proposed_batch(
    rows: Sequence[tuple[str, str, int]],
    host: np.ndarray,
    sites: Sequence[np.ndarray],
    cell: np.ndarray,
) -> Batch:
    """Return a batch of MgO hosts with two hydrogen sites each, as after INPAINT.

    Args:
        rows: Id, method and sample of each system.
        host: (2, 3) Angstrom.
        sites: For each system its two sites (2, 3), Angstrom.
        cell: (3, 3) Angstrom, rows are lattice vectors.
    """
    n = len(rows)
    proposed = np.concatenate([np.vstack([host, pair]) for pair in sites])
    filled = np.tile([False, False, True, True], n)
    known = np.repeat([row[1] == REFERENCE for row in rows], 4)
    return Batch(
        positions=np.where((filled & ~known)[:, None], np.nan, proposed),
        atomic_numbers=np.tile([12, 8, 1, 1], n),
        system_idx=np.repeat(np.arange(n), 4),
        is_host=~filled,
        cell=np.repeat(cell[None], n, axis=0),
        id=[row[0] for row in rows],
        method=[row[1] for row in rows],
        sample=[row[2] for row in rows],
        seed=[42] * n,
        status=["ok"] * n,
        message=[""] * n,
        stages={"inpaint": Stage({"positions": proposed}, {"steps": 5})},
    )
