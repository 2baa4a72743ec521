"""Structures labelled by a large potential, to train a small one (docs/distillation.md).

Frames of one host have the same atoms. Their energy differences decide which candidate is selected,
so batches contain them in pairs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import ase.io
import numpy as np
import torch
from ase import Atoms

from xtalfill.core.crystal import Crystal
from xtalfill.core.errors import ConfigError
from xtalfill.relax.potentials import neighbour_graph

_RIDGE = 1e-3  # regularisation for elements that always occur together
_LATE_STEP, _LATE_WEIGHT = 6, 2.0  # steps near a minimum are drawn more often


@dataclass(frozen=True)
class Labelled:
    """A labelled structure.

    Attributes:
        crystal: The structure.
        energy: eV.
        forces: (n_atoms, 3) eV/Angstrom.
        host: Number of the host; unique over all folders.
        way: Number of the relaxation.
        step: Step of the relaxation; 0 is its start.
        atomic: (n_atoms,) eV, which add up to the energy; NaN if the large potential does not tell.
    """

    crystal: Crystal
    energy: float
    forces: np.ndarray
    host: int
    way: int
    step: int
    atomic: np.ndarray


@dataclass(frozen=True)
class LabelBatch:
    """Structures of one evaluation.

    Attributes:
        numbers: (n_atoms,) atomic numbers.
        pairs: (2, n_edges) indices i, j.
        vectors: (n_edges, 3) from i to j, Angstrom, float32.
        structure: (n_atoms,) index of the structure.
        energies: (n_structures,) eV, float64.
        atomic: (n_atoms,) eV, float64; NaN if not known.
        forces: (n_atoms, 3) eV/Angstrom.
        couples: (2, n_couples) structures of the same host.
    """

    numbers: torch.Tensor
    pairs: torch.Tensor
    vectors: torch.Tensor
    structure: torch.Tensor
    energies: torch.Tensor
    atomic: torch.Tensor
    forces: torch.Tensor
    couples: torch.Tensor


def read_labels(folders: Sequence[Path]) -> list[Labelled]:
    """Read all parts that tools/label_structures.py wrote.

    Raises:
        ConfigError: A folder has no labels.
    """
    found: list[Labelled] = []
    first_host = 0
    for folder in folders:
        frames = [a for path in sorted(folder.glob("*.extxyz")) for a in ase.io.read(path, ":")]
        if not frames:
            raise ConfigError(f"{folder}: no labelled structures; run tools/label_structures.py")
        found += [_labelled(atoms, first_host) for atoms in frames]
        first_host = 1 + max(one.host for one in found)
    return found


def _labelled(atoms: Atoms, first_host: int) -> Labelled:
    known = atoms.calc is not None and "energies" in atoms.calc.results
    return Labelled(
        crystal=Crystal(atoms.numbers, atoms.positions, atoms.cell.array),
        energy=float(atoms.get_potential_energy()),
        forces=atoms.get_forces(),
        host=first_host + int(atoms.info["host"]),
        way=int(atoms.info["way"]),
        step=int(atoms.info["step"]),
        atomic=atoms.get_potential_energies() if known else np.full(len(atoms), np.nan),
    )


def atom_energies(counts: np.ndarray, energies: np.ndarray) -> np.ndarray:
    """Fit energies of structures as a sum of atomic energies.

    Args:
        counts: (n_structures, n_elements) number of atoms of each element.
        energies: (n_structures,) eV.

    Returns:
        (n_elements,) eV.
    """
    mean = energies.sum() / counts.sum()
    per_atom = counts / counts.sum(axis=1, keepdims=True)
    rest = energies / counts.sum(axis=1) - mean
    normal = per_atom.T @ per_atom + _RIDGE * np.eye(counts.shape[1])
    return mean + np.asarray(np.linalg.solve(normal, per_atom.T @ rest))


def usual_elements(labels: Sequence[Labelled], *, least: int) -> dict[int, float]:
    """Return mean atomic energies, eV, of the elements in at least `least` structures.

    Where the large potential does not tell atomic energies, they are fitted to the energies.
    """
    counts = np.array([np.bincount(one.crystal.numbers, minlength=119) for one in labels])
    kept = np.flatnonzero((counts > 0).sum(axis=0) >= least)
    usable = counts[:, kept].sum(axis=1) == counts.sum(axis=1)
    numbers = np.concatenate([one.crystal.numbers for one in labels])
    atomic = np.concatenate([one.atomic for one in labels])
    if np.isfinite(atomic).all():
        fitted = np.array([atomic[numbers == number].mean() for number in kept])
    else:
        energies = np.array([one.energy for one in labels])
        fitted = atom_energies(counts[usable][:, kept], energies[usable])
    return dict(zip(kept.tolist(), fitted.tolist(), strict=True))


class LabelSampler:
    """Draws batches of training structures: two of each host.

    Args:
        labels: Training structures.
        hosts: Number of hosts of a batch.
        seed: Seed; batch number i depends only on it and on i.
    """

    def __init__(self, labels: Sequence[Labelled], *, hosts: int, seed: int) -> None:
        self._labels, self._n_hosts, self._seed = labels, hosts, seed
        members: dict[int, list[int]] = {}
        for index, one in enumerate(labels):
            members.setdefault(one.host, []).append(index)
        self._members = list(members.values())
        # Frames of one host resemble each other: more of them count less than others.
        sizes = np.sqrt([len(group) for group in self._members])
        self._chance = sizes / sizes.sum()

    def batch(self, number: int, *, cutoff: float) -> LabelBatch:
        """Return batch `number` with all pairs of atoms within `cutoff`, Angstrom."""
        rng = np.random.default_rng([self._seed, number])
        hosts = rng.choice(len(self._members), size=self._n_hosts, p=self._chance, replace=False)
        drawn = [index for host in hosts for index in self._two(self._members[host], rng)]
        return collate([self._labels[index] for index in drawn], cutoff=cutoff)

    def _two(self, members: list[int], rng: np.random.Generator) -> list[int]:
        """Return two structures of a host, of different relaxations if there are."""
        chance = np.array(
            [_LATE_WEIGHT if self._labels[i].step >= _LATE_STEP else 1.0 for i in members]
        )
        first = int(rng.choice(members, p=chance / chance.sum()))
        others = np.array([self._labels[i].way != self._labels[first].way for i in members])
        if not others.any():
            return [first]
        chance = chance * others
        return [first, int(rng.choice(members, p=chance / chance.sum()))]


def collate(labels: Sequence[Labelled], *, cutoff: float) -> LabelBatch:
    """Return the tensors of some structures."""
    pairs, vectors = neighbour_graph([one.crystal for one in labels], cutoff)
    sizes = [len(one.crystal.numbers) for one in labels]
    hosts = np.array([one.host for one in labels])
    first, second = np.nonzero(np.triu(hosts[:, None] == hosts[None], k=1))
    return LabelBatch(
        numbers=torch.as_tensor(np.concatenate([one.crystal.numbers for one in labels])).long(),
        pairs=torch.from_numpy(pairs),
        vectors=torch.as_tensor(vectors, dtype=torch.float32),
        structure=torch.from_numpy(np.repeat(np.arange(len(labels)), sizes)),
        energies=torch.tensor([one.energy for one in labels], dtype=torch.float64),
        atomic=torch.as_tensor(np.concatenate([one.atomic for one in labels])),
        forces=torch.as_tensor(np.concatenate([one.forces for one in labels]), dtype=torch.float32),
        couples=torch.as_tensor(np.stack([first, second])),
    )


def in_batches(
    labels: Sequence[Labelled], *, cutoff: float, at_once: int
) -> Iterator[tuple[Sequence[Labelled], LabelBatch]]:
    """Yield all structures in batches of `at_once`."""
    for start in range(0, len(labels), at_once):
        some = labels[start : start + at_once]
        yield some, collate(some, cutoff=cutoff)
