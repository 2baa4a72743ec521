"""Compare a potential with DFT on pairs of distinct minima of one host.

A pair is two crystals of the same host and composition with DFT energies and forces. Its difference
is the energy of the second minus that of the first. The potential is evaluated at the same
geometries, without relaxation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import ase.io
import numpy as np
from ase import Atoms

from xtalfill.core.crystal import Crystal
from xtalfill.core.errors import InputError
from xtalfill.evaluate.metrics import bootstrap_interval, wilson_interval, won_lost
from xtalfill.relax.interface import Evaluation, Potential

TIE = 1e-4  # eV per atom; DFT gives no order to a smaller difference
CLEAR = 5e-3  # eV per atom; the order of a larger difference is clear
_AT_ONCE = 30  # crystals in one evaluation


@dataclass(frozen=True)
class MinimaPair:
    """Two minima of one host.

    Attributes:
        name: Name of the pair.
        group: Class of its hydrogen sites, see `xtalfill.evaluate.match.site_class`.
        relaxed_by: Potential whose minima they are.
        members: The two crystals, with DFT energies and forces.
    """

    name: str
    group: str
    relaxed_by: str
    members: tuple[Atoms, Atoms]

    @property
    def difference(self) -> float:
        """DFT energy of the second minus that of the first, eV per atom."""
        first, second = (atoms.get_potential_energy() for atoms in self.members)
        return float(second - first) / len(self.members[0])


@dataclass(frozen=True)
class PairErrors:
    """Differences of pairs by DFT and by a potential.

    Attributes:
        dft: (n_pairs,) eV per atom.
        potential: (n_pairs,) eV per atom.
        force: (n_pairs,) mean absolute error of the force components in eV/Angstrom.
    """

    dft: np.ndarray
    potential: np.ndarray
    force: np.ndarray

    def subset(self, keep: np.ndarray) -> PairErrors:
        """Return the pairs with `keep` (n_pairs,) true."""
        return PairErrors(self.dft[keep], self.potential[keep], self.force[keep])

    def order(self, *, above: float = TIE) -> tuple[int, int]:
        """Return how many pairs are in the order of DFT, and of how many.

        A pair to which the potential gives exactly equal energies is not in order.

        Args:
            above: Only pairs with a larger DFT difference count, eV per atom.
        """
        ordered = np.abs(self.dft) > above
        return int((ordered & self.right).sum()), int(ordered.sum())

    @property
    def right(self) -> np.ndarray:
        """(n_pairs,) whether the potential has the sign of the DFT difference."""
        return np.sign(self.dft) == np.sign(self.potential)


Cell = dict[str, float | int]


def order_cell(errors: PairErrors, *, above: float = TIE) -> Cell | None:
    """Return the share of pairs in the right order in percent, with its Wilson interval."""
    right, n = errors.order(above=above)
    if not n:
        return None
    low, high = wilson_interval(right, n)
    return {"value": 100 * right / n, "low": 100 * low, "high": 100 * high}


def paired_text(errors: PairErrors, baseline: PairErrors) -> str:
    """Return on how many pairs one potential alone has the right order, and the McNemar test.

    Args:
        errors: Of a potential.
        baseline: Of another one on the same pairs.

    Returns:
        "won : lost, p = ..." of pairs that have an order.
    """
    ordered = np.abs(errors.dft) > TIE
    return won_lost(errors.right[ordered], baseline.right[ordered])


def difference_cell(errors: PairErrors) -> Cell:
    """Return the mean absolute error of the difference in meV per atom, with its interval."""
    return _mean_cell(1e3 * np.abs(errors.potential - errors.dft))


def force_cell(errors: PairErrors) -> Cell:
    """Return the mean absolute error of the force components in eV/Angstrom, with its interval."""
    return _mean_cell(errors.force)


def _mean_cell(values: np.ndarray) -> Cell:
    low, high = bootstrap_interval(values, generator=np.random.default_rng(0))
    return {"value": float(values.mean()), "low": float(low), "high": float(high)}


def read_pairs(path: Path) -> list[MinimaPair]:
    """Read a table of pairs: an extxyz file with two successive frames per pair.

    Raises:
        InputError: The file cannot be read, or two frames do not make a pair.
    """
    try:
        frames = ase.io.read(path, ":", format="extxyz")
        names = [str(atoms.info["pair"]) for atoms in frames]
    except (OSError, ValueError, LookupError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{path}: not a table of pairs ({reason})") from error
    pairs = []
    for start in range(0, len(frames), 2):
        members = frames[start : start + 2]
        same = len(members) == 2 and names[start] == names[start + 1]
        if not same or not np.array_equal(members[0].numbers, members[1].numbers):
            raise InputError(f"{path}: pair {names[start]} is not two frames of the same atoms")
        info = members[0].info
        named = (names[start], str(info["class"]), str(info["made_by"]))
        pairs.append(MinimaPair(*named, members=(members[0], members[1])))
    return pairs


def evaluate_pairs(pairs: Sequence[MinimaPair], potential: Potential) -> PairErrors:
    """Evaluate a potential at all geometries of some pairs.

    Raises:
        InputError: The potential does not know an element.
    """
    frames = [atoms for pair in pairs for atoms in pair.members]
    for atoms in frames:
        if not potential.elements.issuperset(atoms.numbers.tolist()):
            formula = atoms.get_chemical_formula()
            raise InputError(f"{potential.name} lacks an element of {formula}; remove the pair")
    found: list[Evaluation] = []
    for start in range(0, len(frames), _AT_ONCE):
        some = frames[start : start + _AT_ONCE]
        crystals = [Crystal(a.numbers, a.positions, a.cell.array) for a in some]
        found += potential.evaluate(crystals)
    sizes = np.array([len(pair.members[0]) for pair in pairs])
    energies = np.array([one.energy for one in found]).reshape(-1, 2)
    forces = [
        float(np.abs(one.forces - atoms.get_forces(apply_constraint=False)).mean())
        for one, atoms in zip(found, frames, strict=True)
    ]
    return PairErrors(
        dft=np.array([pair.difference for pair in pairs]),
        potential=(energies[:, 1] - energies[:, 0]) / sizes,
        force=np.array(forces).reshape(-1, 2).mean(axis=1),
    )
