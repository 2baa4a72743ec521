"""Decide how many sites a structure lacks, from all that its input says of them.

The order: a number given, the formula, attached hydrogens, names of groups in labels, sites
listed without coordinates, sites that were removed. Sources that contradict each other are told:
in a note where a number is given, else the structure is refused.
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
from ase.neighborlist import neighbor_list

from xtalfill.core.errors import InputError
from xtalfill.core.text import one_line, shortened
from xtalfill.inputs.structures.evidence import Evidence, HydrogenCount
from xtalfill.inputs.structures.formula import formula_units, in_ratio
from xtalfill.inputs.structures.pairs import connected_groups

# A count from a formula, and a sum of occupancies, is a whole number within these.
_WHOLE_FORMULA = 0.05
_WHOLE_OCCUPANCY = 0.02
# Two sites of an element nearer than this share of a single bond's length cannot both be filled.
_SPLIT_SHARE = 0.6
# Places of one proton between two acceptors, and the longest covalent bond to hydrogen but for
# metals, Å.
_PROTON_PLACES = 1.0
_LONGEST_BOND = 1.25
_LARGEST_SUPERCELL = 12


@dataclass(frozen=True, kw_only=True)
class IncompleteStructure:
    """What is known of one structure when its missing sites are counted.

    Attributes:
        target: Nuclear charge of the element to fill.
        host: The sites that stay.
        removed: The sites of the element that were taken out, with `arrays["occupancy"]` where
            some are below one.
        evidence: What the input says.
    """

    target: int
    host: Atoms
    removed: Atoms
    evidence: Evidence

    @property
    def kept(self) -> int:
        """Sites of the element that stay in the host."""
        return int(np.count_nonzero(self.host.numbers == self.target))


@dataclass(frozen=True)
class CountSource:
    """One source of the number: it lies between two counts.

    Attributes:
        fewest: Missing sites, at least.
        most: Missing sites, at most.
        words: What told it, for the user.
    """

    fewest: int
    most: int
    words: str

    def __str__(self) -> str:
        count = f"{self.fewest}" if self.fewest == self.most else f"{self.fewest} to {self.most}"
        return f"{self.words}: {count}"


def count_missing(given: Any, *, structure: IncompleteStructure, notes: list[str]) -> int:
    """Return the number of missing sites.

    Args:
        given: As given for this structure or for all, or None.
        structure: What is known.
        notes: Gets what was decided, and what contradicts it.

    Raises:
        InputError: No source tells a number, or sources contradict each other and none is given.
    """
    if given is not None:
        count = parse_count(given)
        notes.extend(f"n_missing {count} was given; {one}" for one in _against(count, structure))
        return count
    if problem := _other_elements(structure):
        raise InputError(problem)
    sources = _sources(structure)
    split = _split(structure)
    if not sources:
        return _removed(structure, split, notes)
    first = sources[0]
    for other in sources[1:]:
        if other.fewest > first.most or other.most < first.fewest:
            raise InputError(f"sources contradict each other ({first}; {other}); give n_missing")
    return _checked(first, structure, split, notes)


def parse_count(value: Any) -> int:
    """Return a number of sites given as a number or as text.

    Raises:
        InputError: It is not a whole number.
    """
    try:
        number = float(value)
        if isinstance(value, (bool, np.bool_)) or not math.isfinite(number) or number % 1:
            raise ValueError
    except (TypeError, ValueError, OverflowError) as error:
        found = one_line(value, limit=40)
        raise InputError(f"n_missing is {found!r}; give a whole number, 1 or more") from error
    return int(number)


def _against(count: int, structure: IncompleteStructure) -> list[str]:
    """Return what speaks against a number that was given."""
    sources = [*_sources(structure), *_unlocated(structure)]
    against = [str(one) for one in sources if not one.fewest <= count <= one.most]
    problem = _other_elements(structure)
    return [*dict.fromkeys(against), *([problem] if problem else [])]


def _sources(structure: IncompleteStructure) -> list[CountSource]:
    """Return the sources that can decide, in their order."""
    found = []
    formula = _by_formula(structure)
    if formula is not None:
        found.append(CountSource(formula, formula, "the declared formula"))
    if structure.target == 1:
        carried = [
            (structure.evidence.attached, _occupied(structure)),
            (structure.evidence.named, -structure.kept),
        ]
        found += [_carried(one, beside) for one, beside in carried if one is not None]
    return [source for source in found if source.most > 0] or _unlocated(structure)


def _carried(carried: HydrogenCount, beside: float) -> CountSource:
    return CountSource(round(carried.fewest + beside), round(carried.most + beside), carried.words)


def _unlocated(structure: IncompleteStructure) -> list[CountSource]:
    unlocated = structure.evidence.unlocated.get(structure.target, 0.0)
    if unlocated <= 0:
        return []
    count = round(unlocated + _occupied(structure))
    return [CountSource(count, count, "sites listed without coordinates")]


def _occupied(structure: IncompleteStructure) -> float:
    """Return how many sites were removed, each counted by its occupancy."""
    return float(structure.removed.arrays.get("occupancy", np.ones(len(structure.removed))).sum())


def _checked(
    source: CountSource, structure: IncompleteStructure, split: int, notes: list[str]
) -> int:
    """Return the count of a source, compared with what was removed and what was not located."""
    symbol = chemical_symbols[structure.target]
    if source.fewest != source.most:
        raise InputError(f"n_missing is ambiguous ({source}); give n_missing")
    count, occupied = source.fewest, _occupied(structure)
    notes.append(f"n_missing {count} taken from {source.words}")
    if occupied > count + _WHOLE_OCCUPANCY:
        if split != count:
            raise InputError(
                f"{source.words} gives {count} missing {symbol}, but {occupied:g} were removed; "
                "give n_missing"
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


def _removed(structure: IncompleteStructure, split: int, notes: list[str]) -> int:
    """Return the number of removed sites, where nothing else tells one.

    Raises:
        InputError: None was removed, or the occupancies sum to not an integer.
    """
    symbol, occupied = chemical_symbols[structure.target], _occupied(structure)
    if not len(structure.removed):
        if structure.kept:
            raise InputError(
                f"no n_missing: the file lists {structure.kept} {symbol} and no number of missing "
                "ones; give n_missing, or use --remove_existing to replace the listed ones"
            )
        raise InputError(
            f"no n_missing: give the number of missing {symbol} in the sheet's column, the "
            "frame's key or --n_missing"
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


def _split(structure: IncompleteStructure) -> int:
    """Return how many of the removed sites can be filled at once, by their distances.

    Sites of one element that are nearer than `_SPLIT_SHARE` of the bond between them are places
    of one atom; hydrogens on two sides of a hydrogen bond, each bound to an atom of its own,
    nearer than `_PROTON_PLACES`.
    """
    atoms, hydrogen = structure.removed, structure.target == 1
    if len(atoms) < 2:
        return len(atoms)
    reach = 2 * covalent_radii[structure.target] * _SPLIT_SHARE
    periodic = Atoms(atoms.numbers, atoms.positions, cell=structure.host.cell, pbc=True)
    first, second, distance = neighbor_list("ijd", periodic, max(reach, _PROTON_PLACES))
    near = distance < reach
    if hydrogen:
        bound = _bound(structure)
        near |= (distance < _PROTON_PLACES) & bound[first] & bound[second]
    count, _ = connected_groups(np.column_stack([first[near], second[near]]), len(atoms))
    return count


def _bound(structure: IncompleteStructure) -> np.ndarray:
    """Return (n_removed,) True for hydrogen within a bond's length of a host atom."""
    n_host = len(structure.host)
    both = Atoms(
        np.concatenate([structure.host.numbers, structure.removed.numbers]),
        np.concatenate([structure.host.positions, structure.removed.positions]),
        cell=structure.host.cell,
        pbc=True,
    )
    first, second = neighbor_list("ij", both, _LONGEST_BOND)
    bound = np.zeros(len(both), dtype=bool)
    bound[first[second < n_host]] = True
    return bound[n_host:]


def _by_formula(structure: IncompleteStructure) -> int | None:
    """Return how many sites the declared formula has beyond the host's."""
    formula = structure.evidence.formula
    if formula is None or _other_elements(structure) is not None:
        return None
    units = formula_units(structure.host.numbers, formula, without=structure.target)
    if not units:
        return None
    missing = formula.get(structure.target, 0.0) * sum(units) / len(units) - structure.kept
    count = round(missing)
    return count if count >= 1 and abs(missing - count) < _WHOLE_FORMULA else None


def _other_elements(structure: IncompleteStructure) -> str | None:
    """Say how the other elements contradict the formula: sites are missing or doubled."""
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
