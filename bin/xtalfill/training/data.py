"""Training crystals and tasks: a sublattice is removed and must be restored."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from xtalfill.core.crystal import FRACTION_UNIT
from xtalfill.core.errors import ConfigError
from xtalfill.models.edges import periodic_edges
from xtalfill.models.graphs import Host
from xtalfill.training.files import chemical_system
from xtalfill.training.split import Split
from xtalfill.training.substitution import substitute_element

HYDROGEN = 1
_DATASETS = ("atomic_number", "frac_coords", "cell", "offset", "n_atoms", "is_validation")
# weights of light and mobile elements, the most likely applications after hydrogen
_SPECIES_WEIGHT = {
    3: 6.0,
    11: 3.0,
    9: 3.0,
    8: 2.0,
    7: 3.0,
    6: 3.0,
    5: 3.0,
    4: 2.0,
    12: 2.0,
    19: 2.0,
}
# by atomic number of hydrogen's neighbour; higher for classes with low success rates
_CLASS_WEIGHT = {5: 2.0, 6: 2.0, 7: 2.0, 8: 1.0}
_OTHER_CLASS_WEIGHT = 1.7


@dataclass(frozen=True)
class Task:
    """A host and the true positions of its missing sites (n_sites, 3), Angstrom."""

    host: Host
    sites: np.ndarray


class CrystalSet:
    """Crystals of one or more training files, in memory.

    Files contain ``atomic_number``, ``frac_coords`` (uint16, value / 65536), ``cell`` (float32,
    Angstrom, rows are lattice vectors), ``offset``, ``n_atoms``, ``is_validation`` (the same for
    all crystals of a chemical system), and ``material_id`` if crystals are to be excluded.
    """

    def __init__(self, paths: list[Path], *, split: Split | None = None) -> None:
        """Read the files.

        Args:
            paths: Training files.
            split: Crystals to exclude, and to hold out in addition to those marked in the files.

        Raises:
            ConfigError: A file or dataset is missing, or no file has an excluded crystal.
        """
        parts: dict[str, list[np.ndarray]] = {}
        offset = 0
        for path in paths:
            try:
                with h5py.File(path, "r") as file:
                    names = _DATASETS if split is None else (*_DATASETS, "material_id")
                    read = {name: file[name][()] for name in names}
                    read["offset"] = read["offset"] + offset
                    offset += len(read["atomic_number"])
            except (OSError, KeyError) as error:
                raise ConfigError(f"{path}: not a training file ({error})") from error
            for name, values in read.items():
                parts.setdefault(name, []).append(values)
        data = {name: np.concatenate(values) for name, values in parts.items()}
        self._numbers, self._fractions = data["atomic_number"], data["frac_coords"]
        self._cells, self._offset, self._n_atoms = data["cell"], data["offset"], data["n_atoms"]
        self.is_validation = data["is_validation"].astype(bool)
        self.has_hydrogen = np.logical_or.reduceat(self._numbers == HYDROGEN, self._offset)
        if split is not None:
            self._apply(split, [name.decode() for name in data["material_id"]])

    def _apply(self, split: Split, material_ids: list[str]) -> None:
        """Remove the excluded crystals and mark the held-out chemical systems."""
        keep = split.kept(material_ids)
        self._cells, self._offset, self._n_atoms = (
            self._cells[keep], self._offset[keep], self._n_atoms[keep]
        )  # fmt: skip
        self.has_hydrogen, marked = self.has_hydrogen[keep], self.is_validation[keep]
        systems = [self.chemical_system(index) for index in range(len(self))]
        self.is_validation = marked | np.array([name in split.held_out for name in systems])

    def chemical_system(self, index: int) -> str:
        """Return the elements of a crystal, sorted by symbol and joined by "-"."""
        start = self._offset[index]
        return chemical_system(self._numbers[start : start + self._n_atoms[index]])

    def __len__(self) -> int:
        """Return the number of crystals."""
        return len(self._n_atoms)

    def crystal(self, index: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return atomic numbers (n,), positions (n, 3) and cell (3, 3), Angstrom."""
        start = self._offset[index]
        here = slice(start, start + self._n_atoms[index])
        cell = self._cells[index].astype(np.float64)
        return self._numbers[here], self._fractions[here] / FRACTION_UNIT @ cell, cell

    def hydrogen_weights(self, indices: np.ndarray) -> np.ndarray:
        """Return sampling weights of hydrogen crystals, by the element next to hydrogen."""
        weights = np.empty(len(indices))
        for row, index in enumerate(indices):
            numbers, positions, cell = self.crystal(index)
            sites = positions[numbers == HYDROGEN]
            edges = periodic_edges(sites, positions, cell, 3.5, same=False)
            length = np.linalg.norm(edges.vector, axis=1)
            near = (length > 0.1) & (length < 3.5)
            if not near.any():
                weights[row] = _OTHER_CLASS_WEIGHT
                continue
            nearest = edges.sender[near][np.argmin(length[near])]
            weights[row] = _CLASS_WEIGHT.get(int(numbers[nearest]), _OTHER_CLASS_WEIGHT)
        return weights


def remove_sublattice(
    numbers: np.ndarray, positions: np.ndarray, cell: np.ndarray, removed: np.ndarray
) -> Task:
    """Return the task of restoring the sites where `removed` (n,) is True, all of one element."""
    host = Host(
        numbers=numbers[~removed],
        positions=positions[~removed],
        cell=cell,
        element=int(numbers[removed][0]),
        n_sites=int(removed.sum()),
    )
    return Task(host, positions[removed])


class TaskSampler:
    """Draws training tasks: hydrogen, or another sublattice of any crystal."""

    def __init__(
        self,
        crystals: CrystalSet,
        *,
        hydrogen_fraction: float,
        max_sites: int,
        substituted_fraction: float,
    ) -> None:
        """Prepare sampling from the crystals that are not held out.

        Args:
            crystals: Training data.
            hydrogen_fraction: Fraction of tasks with hydrogen as the missing element.
            max_sites: Largest sublattice of another element.
            substituted_fraction: Fraction of tasks with one host element replaced.

        Raises:
            ConfigError: All crystals are held out.
        """
        self._crystals = crystals
        self._substituted_fraction = substituted_fraction
        self._hydrogen_fraction, self._max_sites = hydrogen_fraction, max_sites
        training = ~crystals.is_validation
        self._hydrogen = np.flatnonzero(training & crystals.has_hydrogen)
        self._other = np.flatnonzero(training & ~crystals.has_hydrogen)
        if not training.any():
            raise ConfigError("all crystals of --data are held out; give some to train on")
        if not len(self._hydrogen) or not len(self._other):  # every task is of the other kind
            self._hydrogen_fraction = float(len(self._hydrogen) > 0)
        weights = crystals.hydrogen_weights(self._hydrogen)
        self._weights = weights / weights.sum()

    def draw(self, rng: np.random.Generator) -> Task:
        """Return one augmented task; `rng` is the only source of randomness."""
        while True:
            if rng.random() < self._hydrogen_fraction:
                index = rng.choice(self._hydrogen, p=self._weights)
            else:
                index = rng.choice(self._other)
            numbers, positions, cell = self._crystals.crystal(index)
            removed = self._choose(numbers, rng)
            if removed is not None:
                return self._augment(remove_sublattice(numbers, positions, cell, removed), rng)

    def _choose(self, numbers: np.ndarray, rng: np.random.Generator) -> np.ndarray | None:
        species, counts = np.unique(numbers, return_counts=True)
        if HYDROGEN in species:
            element = HYDROGEN
        else:
            usable = (counts <= self._max_sites) & (counts < len(numbers))
            if not usable.any():
                return None
            species = species[usable]
            weights = np.array([_SPECIES_WEIGHT.get(int(z), 1.0) for z in species])
            element = rng.choice(species, p=weights / weights.sum())
        removed = numbers == element
        if removed.all():
            return None
        if removed.sum() > 1 and rng.random() < 0.1:
            kept = rng.permutation(np.flatnonzero(removed))
            removed[kept[: rng.integers(1, len(kept))]] = False
        return removed

    def _augment(self, task: Task, rng: np.random.Generator) -> Task:
        """Apply random strain, host displacements and element substitution.

        Experimental structures are not DFT minima, and the data covers only part of chemistry.
        """
        noise = rng.normal(scale=0.01, size=(3, 3))
        strain = np.eye(3) + 0.5 * (noise + noise.T)
        amplitude = 0.05 * rng.random() if rng.random() < 0.5 else 0.0
        shake = amplitude * rng.normal(size=task.host.positions.shape)
        replace = rng.random() < self._substituted_fraction
        host = Host(
            numbers=substitute_element(task.host.numbers, rng) if replace else task.host.numbers,
            positions=task.host.positions @ strain + shake,
            cell=task.host.cell @ strain,
            element=task.host.element,
            n_sites=task.host.n_sites,
        )
        return Task(host, task.sites @ strain)
