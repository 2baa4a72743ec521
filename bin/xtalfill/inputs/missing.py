"""Determine the number of missing sites of a structure from its input.

The order of the sources: a given number, the formula, attached hydrogens, group names in labels,
sites listed without coordinates, removed sites, and with `AUTO` charge balance and bond valences.
If sources contradict each other, a given number wins and a note is written; without a given number
the structure is refused.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols, covalent_radii
from matscipy.neighbours import neighbour_list

from xtalfill.core.errors import InputError
from xtalfill.core.text import one_line, shortened
from xtalfill.inputs.scan_valence import (
    HYDROGEN,
    charge_balance,
    counted_protons,
    site_valences,
)
from xtalfill.inputs.structures.evidence import Evidence, HydrogenCount
from xtalfill.inputs.structures.formula import formula_units, in_ratio
from xtalfill.inputs.structures.pairs import connected_groups

# Given in place of a number: the evidence decides.
AUTO = "auto"
# Begins the message where nothing gives a number.
NO_COUNT = "no n_missing"
# Tolerances within which a count from a formula and a sum of occupancies are whole numbers.
_WHOLE_FORMULA = 0.05
_WHOLE_OCCUPANCY = 0.02
# Two sites of an element closer than this share of a single bond cannot both be filled.
_SPLIT_SHARE = 0.6
# Distance of the two positions of a proton between two acceptors, and the longest covalent bond to
# hydrogen except for metals, Å.
_PROTON_PLACES = 1.0
_LONGEST_BOND = 1.25
_LARGEST_SUPERCELL = 12


@dataclass(frozen=True, kw_only=True)
class IncompleteStructure:
    """A structure whose missing sites are counted.

    Attributes:
        target: Atomic number of the element to fill.
        host: The host sites.
        removed: The removed sites of the element, with `arrays["occupancy"]` if some are below one.
        evidence: What the input states about missing sites.
    """

    target: int
    host: Atoms
    removed: Atoms
    evidence: Evidence

    @property
    def kept(self) -> int:
        """Number of sites of the element that remain in the host."""
        return int(np.count_nonzero(self.host.numbers == self.target))


@dataclass(frozen=True)
class CountSource:
    """A source of the number, with its lower and upper limit.

    Attributes:
        fewest: Minimum number of missing sites.
        most: Maximum number of missing sites.
        description: Description of the source, for messages.
    """

    fewest: int
    most: int
    description: str

    def __str__(self) -> str:
        count = f"{self.fewest}" if self.fewest == self.most else f"{self.fewest} to {self.most}"
        return f"{self.description}: {count}"


class UndecidedError(InputError):
    """`AUTO` was given, and the evidence decides no number."""


def is_auto(given: Any) -> bool:
    """Return whether a given number is `AUTO`."""
    return isinstance(given, str) and given.strip().lower() == AUTO


def count_missing(given: Any, *, structure: IncompleteStructure, notes: list[str]) -> int:
    """Return the number of missing sites.

    Args:
        given: The number given for this structure or for all, `AUTO`, or None.
        structure: The structure.
        notes: Gets the decision, and what contradicts it.

    Raises:
        InputError: No source gives a number, or sources contradict each other and none is given.
    """
    if given is not None and not is_auto(given):
        count = parse_count(given)
        notes.extend(
            f"n_missing {count} was given; {one}" for one in _contradictions(count, structure)
        )
        return count
    if problem := other_elements(structure):
        raise InputError(problem)
    sources = count_sources(structure)
    split = _simultaneous_sites(structure)
    if not sources and is_auto(given) and not len(structure.removed):
        return _balanced_count(structure, notes)
    if not sources:
        return _removed_count(structure, split, notes)
    first = sources[0]
    for other in sources[1:]:
        if other.fewest > first.most or other.most < first.fewest:
            raise InputError(f"sources contradict each other ({first}; {other}); give n_missing")
    return _checked_count(first, structure, split, notes)


def parse_count(value: Any) -> int:
    """Return a number of sites given as a number or as text.

    Raises:
        InputError: The value is not a whole number.
    """
    try:
        number = float(value)
        if isinstance(value, (bool, np.bool_)) or not math.isfinite(number) or number % 1:
            raise ValueError
    except (TypeError, ValueError, OverflowError) as error:
        found = one_line(value, limit=40)
        raise InputError(f"n_missing is {found!r}; give a whole number, 1 or more") from error
    return int(number)


def _contradictions(count: int, structure: IncompleteStructure) -> list[str]:
    """Return the sources that contradict a given number."""
    sources = [*count_sources(structure), *_unlocated(structure)]
    contradicting = [str(one) for one in sources if not one.fewest <= count <= one.most]
    problem = other_elements(structure)
    return [*dict.fromkeys(contradicting), *([problem] if problem else [])]


def count_sources(structure: IncompleteStructure) -> list[CountSource]:
    """Return the sources that can decide, in order of priority."""
    found = []
    formula = _by_formula(structure)
    if formula is not None:
        found.append(CountSource(formula, formula, "the declared formula"))
    if structure.target == 1:
        hydrogens = [
            (structure.evidence.attached, _occupied(structure)),
            (structure.evidence.named, -structure.kept),
        ]
        found += [_hydrogen_source(one, offset) for one, offset in hydrogens if one is not None]
    return [source for source in found if source.most > 0] or _unlocated(structure)


def _hydrogen_source(hydrogens: HydrogenCount, offset: float) -> CountSource:
    return CountSource(
        round(hydrogens.fewest + offset), round(hydrogens.most + offset), hydrogens.description
    )


def _unlocated(structure: IncompleteStructure) -> list[CountSource]:
    unlocated = structure.evidence.unlocated.get(structure.target, 0.0)
    if unlocated <= 0:
        return []
    count = round(unlocated + _occupied(structure))
    return [CountSource(count, count, "sites listed without coordinates")]


def _occupied(structure: IncompleteStructure) -> float:
    """Return the sum of the occupancies of the removed sites."""
    return float(structure.removed.arrays.get("occupancy", np.ones(len(structure.removed))).sum())


def _checked_count(
    source: CountSource, structure: IncompleteStructure, split: int, notes: list[str]
) -> int:
    """Return the count of a source after comparing it with removed and unlocated sites."""
    symbol = chemical_symbols[structure.target]
    if source.fewest != source.most:
        raise InputError(f"n_missing is ambiguous ({source}); give n_missing")
    count, occupied = source.fewest, _occupied(structure)
    notes.append(f"n_missing {count} taken from {source.description}")
    if occupied > count + _WHOLE_OCCUPANCY:
        if split != count:
            raise InputError(
                f"{source.description} gives {count} missing {symbol}, but {occupied:g} were "
                "removed; give n_missing"
            )
        notes.append(f"the {occupied:g} removed {symbol} are split positions of {split} sites")
    elif 0 < occupied < count - _WHOLE_OCCUPANCY:
        notes.append(f"{occupied:g} {symbol} were removed; the file does not list the others")
    formula = structure.evidence.formula
    if formula is not None and structure.target not in formula:
        notes.append(f"the declared formula has no {symbol}")
    notes.extend(
        f"{other} (their multiplicity may be lower)"
        for other in _unlocated(structure)
        if other.fewest != count
    )
    return count


def _balanced_count(structure: IncompleteStructure, notes: list[str]) -> int:
    """Return the number of protons that charge balance and bond valences agree on.

    Raises:
        UndecidedError: They do not decide.
        InputError: The element is not hydrogen.
    """
    if structure.target != HYDROGEN:
        symbol = chemical_symbols[structure.target]
        raise InputError(f"n_missing auto: nothing states the number of {symbol}; give n_missing")
    valences = site_valences(structure.host)
    count = counted_protons(structure.host.numbers, valences)
    if count is None:
        balance = charge_balance(structure.host.numbers, valences)
        lacking = float(valences.lacking.sum())
        charges = "undefined" if balance is None else f"{balance.fewest} to {balance.nearest}"
        raise UndecidedError(
            "n_missing auto: nothing states the number, and the evidence does not decide it "
            f"(missing charges {charges}, missing valences {lacking:.1f}); give n_missing"
        )
    notes.append(f"n_missing {count} taken from charge balance and bond valences")
    return count


def _removed_count(structure: IncompleteStructure, split: int, notes: list[str]) -> int:
    """Return the number of removed sites; used if no other source gives a number.

    Raises:
        InputError: No site was removed, or the occupancies do not sum to a whole number.
    """
    symbol, occupied = chemical_symbols[structure.target], _occupied(structure)
    if not len(structure.removed):
        if structure.kept:
            raise InputError(
                f"{NO_COUNT}: the file lists {structure.kept} {symbol} and no number of missing "
                "ones; give n_missing, or use --remove_existing to replace the listed ones"
            )
        raise InputError(
            f"{NO_COUNT}: nothing tells how many {symbol} are missing; write the number into the "
            "column n_missing of the sheet or the key n_missing of the frame or database row, or "
            "give --n_missing"
        )
    if "occupancy" not in structure.removed.arrays:
        if split < len(structure.removed):
            notes.append(
                f"the {len(structure.removed)} removed {symbol} are split positions of "
                f"{split} sites"
            )
        return split
    count = round(occupied)
    if abs(occupied - count) > _WHOLE_OCCUPANCY:
        cells = Fraction(occupied).limit_denominator(_LARGEST_SUPERCELL)
        raise InputError(
            f"the occupancies of {_labels(structure.removed)} sum to {occupied:.3g} {symbol} "
            f"per cell, not an integer; give n_missing, or a supercell of {cells.denominator} "
            f"cells, which has about {cells.numerator}"
        )
    if count < len(structure.removed):
        notes.append(f"n_missing {count} is the sum of the removed occupancies")
    return count


def _labels(atoms: Atoms) -> str:
    labels = atoms.arrays.get("label", np.array(list(atoms.symbols)))
    return shortened(list(dict.fromkeys(labels.tolist())))


def _simultaneous_sites(structure: IncompleteStructure) -> int:
    """Return how many of the removed sites can be filled at the same time, from their distances.

    Sites of one element closer than `_SPLIT_SHARE` of their bond length are alternative positions
    of one atom. So are two hydrogens closer than `_PROTON_PLACES` that are bonded to different
    atoms, on the two sides of a hydrogen bond.
    """
    atoms, hydrogen = structure.removed, structure.target == 1
    if len(atoms) < 2:
        return len(atoms)
    reach = 2 * covalent_radii[structure.target] * _SPLIT_SHARE
    periodic = Atoms(atoms.numbers, atoms.positions, cell=structure.host.cell, pbc=True)
    first, second, distance = neighbour_list("ijd", periodic, max(reach, _PROTON_PLACES))
    near = distance < reach
    if hydrogen:
        bonded = _is_bonded(structure)
        near |= (distance < _PROTON_PLACES) & bonded[first] & bonded[second]
    if not near.any():
        return len(atoms)
    count, _ = connected_groups(np.column_stack([first[near], second[near]]), len(atoms))
    return count


def _is_bonded(structure: IncompleteStructure) -> np.ndarray:
    """Return (n_removed,) True for hydrogen within a bond length of a host atom."""
    n_host = len(structure.host)
    both = Atoms(
        np.concatenate([structure.host.numbers, structure.removed.numbers]),
        np.concatenate([structure.host.positions, structure.removed.positions]),
        cell=structure.host.cell,
        pbc=True,
    )
    first, second = neighbour_list("ij", both, _LONGEST_BOND)
    bonded = np.zeros(len(both), dtype=bool)
    bonded[first[second < n_host]] = True
    return bonded[n_host:]


def _by_formula(structure: IncompleteStructure) -> int | None:
    """Return how many sites the declared formula has in addition to those of the host."""
    formula = structure.evidence.formula
    if formula is None or other_elements(structure) is not None:
        return None
    units = formula_units(structure.host.numbers, formula, without=structure.target)
    if not units:
        return None
    missing = formula.get(structure.target, 0.0) * sum(units) / len(units) - structure.kept
    count = round(missing)
    return count if count >= 1 and abs(missing - count) < _WHOLE_FORMULA else None


def other_elements(structure: IncompleteStructure) -> str | None:
    """Return how the other elements contradict the formula, or None."""
    formula = structure.evidence.formula
    if formula is None:
        return None
    declared = {z: count for z, count in formula.items() if z != structure.target and count > 0}
    present = Counter(int(z) for z in structure.host.numbers if z != structure.target)
    units = formula_units(structure.host.numbers, formula, without=structure.target)
    if declared.keys() == present.keys() and in_ratio(units):
        return None
    return (
        f"the file lists {_formula_text(present)} but declares {_formula_text(declared)} "
        "(_chemical_formula_sum, without the element to fill): the file is truncated, "
        "lacks sites or uses another origin; correct the sites, the operations or the formula"
    )


def _formula_text(counts: dict[int, Any]) -> str:
    return " ".join(f"{chemical_symbols[z]}{counts[z]:g}" for z in sorted(counts)) or "nothing"
