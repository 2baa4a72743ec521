"""All checks of one restored crystal, as columns and in plain words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols

from xtalfill.checks.bonds import HYDROGEN, Bond, HydrogenBond, Surroundings
from xtalfill.checks.lengths import COVALENT, usual_lengths
from xtalfill.checks.symmetry import find_symmetry
from xtalfill.checks.valence import ValenceCheck, check_valences, unusual_valences
from xtalfill.core.text import listed
from xtalfill.relax.plausibility import host_shifts

# Å. A host atom that moved farther makes the host another one. Restored crystals of the training
# files that are right move theirs by less (docs/checks.md).
HOST_DRIFT = 0.5
_SHOWN_DRIFT = 0.1  # Å; smaller displacements are not listed
_MOST_NAMED = 4  # atoms, bonds or contacts in a list


@dataclass(frozen=True)
class Checks:
    """The checks of one restored crystal; docs/output.md describes each as a column.

    NaN and None mean that a check does not apply.
    """

    warnings: str
    bonds: str
    bond_misfit: float
    hydrogen_bonds: str
    n_clashes: int
    valence_misfit: float
    missing_charge: int | None
    host_moved: str
    host_rms: float
    host_space_group: str
    space_group: str
    symmetry_shift: float
    wyckoff: str
    n_special: int


def check_answer(atoms: Atoms, is_host: np.ndarray, *, given: np.ndarray) -> Checks:
    """Check a restored crystal.

    Args:
        atoms: The crystal after the last relaxation.
        is_host: (n,) bool; the other atoms are restored.
        given: (n_host, 3) positions of the host as given, Å, in the same cell.
    """
    around = Surroundings(atoms, np.flatnonzero(~is_host))
    valences = check_valences(atoms)
    shifts = host_shifts(given, atoms.positions[is_host])
    host = Atoms(atoms.numbers[is_host], given, cell=atoms.cell, pbc=True)
    symmetry = find_symmetry(atoms, is_host, host=host)
    warnings = [
        *_bond_warnings(around),
        *_clash_warnings(around),
        *_valence_warnings(atoms, valences),
        *_drift_warnings(atoms, is_host, shifts),
    ]
    misfits = [abs(bond.misfit) for bond in around.bonds if np.isfinite(bond.misfit)]
    return Checks(
        warnings="; ".join(warnings),
        bonds=_bonds_in_words(atoms, around.bonds),
        bond_misfit=max(misfits, default=float("nan")),
        hydrogen_bonds=_hydrogen_bonds_in_words(around),
        n_clashes=len(around.clashes),
        valence_misfit=valences.misfit,
        missing_charge=valences.missing_charge,
        host_moved=_moved(atoms, is_host, shifts),
        host_rms=float(np.sqrt(np.mean(shifts**2))) if len(shifts) else float("nan"),
        host_space_group=symmetry.host,
        space_group=symmetry.group,
        symmetry_shift=max(symmetry.shift_host, symmetry.shift_filled),
        wyckoff=", ".join(symmetry.wyckoff),
        n_special=symmetry.n_special,
    )


def name_of(atoms: Atoms, index: int) -> str:
    """Return the name of an atom in the CIF file: its symbol and its number among them, from 1."""
    number = int((atoms.numbers[: index + 1] == atoms.numbers[index]).sum())
    return f"{atoms.symbols[index]}{number}"


def _named(items: Sequence[str]) -> str:
    return listed(items, most=_MOST_NAMED)


def _range(values: Sequence[float], digits: int = 3) -> str:
    low, high = (f"{value:.{digits}f}" for value in (min(values), max(values)))
    return low if low == high else f"{low}–{high}"


def _bonds_in_words(atoms: Atoms, bonds: Sequence[Bond]) -> str:
    """Return the bonds by elements: "8 O-H 0.976–0.985 Å"."""
    lengths: dict[tuple[str, str], list[float]] = {}
    for bond in bonds:
        if bond.bonded:
            pair = atoms.symbols[bond.partner], atoms.symbols[bond.site]
            lengths.setdefault(pair, []).append(bond.length)
    return ", ".join(
        f"{len(values)} {a}-{b} {_range(values)} Å" for (a, b), values in sorted(lengths.items())
    )


def _hydrogen_bonds_in_words(around: Surroundings) -> str:
    """Return the hydrogen bonds by elements: "4 O-H...O 1.87–1.92 Å 165–171°"."""
    kinds: dict[tuple[str, str], list[HydrogenBond]] = {}
    for bond in around.hydrogen_bonds:
        pair = around.atoms.symbols[bond.donor], around.atoms.symbols[bond.acceptor]
        kinds.setdefault(pair, []).append(bond)
    return ", ".join(
        f"{len(found)} {donor}-H...{acceptor} {_range([one.length for one in found], 2)} Å "
        f"{_range([one.angle for one in found], 0)}°"
        for (donor, acceptor), found in sorted(kinds.items())
    )


def _bond_warnings(around: Surroundings) -> list[str]:
    atoms, found = around.atoms, []
    alone = [bond for bond in around.bonds if not bond.bonded]
    if alone:
        text = [
            f"{name_of(atoms, one.site)} ({one.length:.2f} Å from {name_of(atoms, one.partner)})"
            if np.isfinite(one.length)
            else name_of(atoms, one.site)
            for one in alone
        ]
        found.append(f"not bonded to any atom: {_named(text)}")
    molecules = [one for one in around.bonds if one.bonded and _is_molecule(atoms, one)]
    if molecules:
        pairs = {tuple(sorted((one.site, one.partner))): one for one in molecules}
        text = [
            f"{name_of(atoms, a)}-{name_of(atoms, b)} {one.length:.2f} Å"
            for (a, b), one in pairs.items()
        ]
        found.append(f"hydrogen molecules: {_named(text)}")
    odd = [one for one in around.bonds if abs(one.misfit) > 0 and one not in molecules]
    for number in sorted({int(atoms.numbers[one.partner]) for one in odd}):
        usual, symbol = usual_lengths()[number], chemical_symbols[number]
        lengths = [one.length for one in odd if atoms.numbers[one.partner] == number]
        found.append(
            f"unusual {symbol}-H length: {len(lengths)} of {_range(lengths)} Å "
            f"(usual: {usual.low:.2f}–{usual.high:.2f} Å)"
        )
    return [*found, *_split_hydrides(around)]


def _is_molecule(atoms: Atoms, bond: Bond) -> bool:
    return bool(atoms.numbers[bond.site] == atoms.numbers[bond.partner] == HYDROGEN)


def _split_hydrides(around: Surroundings) -> list[str]:
    """Return a warning if some hydrogens are on nonmetals and others are hydrides of metals."""
    numbers = around.atoms.numbers
    on = [bond for bond in around.bonds if bond.bonded and numbers[bond.site] == HYDROGEN]
    metal = [one for one in on if numbers[one.partner] not in COVALENT | {HYDROGEN}]
    if not metal or not any(numbers[one.partner] in COVALENT for one in on):
        return []
    text = [f"{name_of(around.atoms, b.site)} on {name_of(around.atoms, b.partner)}" for b in metal]
    return [f"hydrogen on a metal beside hydrogen on nonmetals: {_named(text)}"]


def _clash_warnings(around: Surroundings) -> list[str]:
    if not around.clashes:
        return []
    text = [
        f"{name_of(around.atoms, one.pair[0])}-{name_of(around.atoms, one.pair[1])} "
        f"{one.length:.2f} Å (at least {one.limit:.2f})"
        for one in sorted(around.clashes, key=lambda one: one.length - one.limit)
    ]
    return [f"too near: {_named(text)}"]


def _valence_warnings(atoms: Atoms, check: ValenceCheck) -> list[str]:
    found = []
    odd = unusual_valences(atoms.numbers, check)
    for sign, text in ((-1, "too little bond valence"), (1, "too much bond valence")):
        named = [
            f"{name_of(atoms, index)} ({check.deviation[index]:+.1f})"
            for index in odd
            if np.sign(check.deviation[index]) == sign
        ]
        if named:
            found.append(f"{text}: {_named(named)}")
    if charge := check.missing_charge:
        verb = "lack" if charge > 0 else "exceed"
        found.append(f"charges do not balance: the cations {verb} {abs(charge)} per cell")
    return found


def _drift_warnings(atoms: Atoms, is_host: np.ndarray, shifts: np.ndarray) -> list[str]:
    if shifts.max(initial=0.0) <= HOST_DRIFT:
        return []
    return [f"the host itself changed: {_moved(atoms, is_host, shifts, least=HOST_DRIFT)}"]


def _moved(
    atoms: Atoms, is_host: np.ndarray, shifts: np.ndarray, *, least: float = _SHOWN_DRIFT
) -> str:
    """Return the host atoms that moved farthest: "O5 0.42 Å, O6 0.40 Å"."""
    host = np.flatnonzero(is_host)
    order = [k for k in np.argsort(-shifts, kind="stable") if shifts[k] > least]
    return _named([f"{name_of(atoms, int(host[k]))} {shifts[k]:.2f} Å" for k in order])
