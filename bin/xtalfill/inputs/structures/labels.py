"""Parse the label or type of a listed site: its element and its bonded hydrogens."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from ase.data import atomic_numbers

from xtalfill.core.errors import InputError
from xtalfill.core.text import one_line
from xtalfill.inputs.structures.entry import ISOTOPES

# The oxygen of a water molecule: Wat1; Ow2 and O-w, which may also mean tungsten.
_WATER = re.compile(r"wat", flags=re.IGNORECASE)
_WATER_OR_TUNGSTEN = re.compile(r"o[-_]?w", flags=re.IGNORECASE)
# An atom with hydrogens: O-H, OH, O(H), NH4. After a hyphen or bracket a number counts the sites,
# not the hydrogens.
_GROUP = re.compile(r"([BCNOPS])([-_(]?)H\)?(\d*)(?![a-z])", flags=re.IGNORECASE)
_CHARGE = re.compile(r"(\d+\.?\d*[+-]|[+-]\d*\.?\d*)$")
_HEAVIEST_KNOWN = 103
_NO_VALUE = {"", "?", "."}


@dataclass(frozen=True)
class LabelReading:
    """Content of a label or type.

    Attributes:
        number: Atomic number.
        fewest: Minimum number of hydrogens of the atom.
        most: Maximum number of hydrogens of the atom.
        isotope: "D" or "T" if stated, else "".
    """

    number: int
    fewest: int = 0
    most: int = 0
    isotope: str = ""


@lru_cache(maxsize=256)  # a file repeats few symbols in many rows
def read_type(symbol: str, *, known: frozenset[str]) -> LabelReading | None:
    """Parse a type symbol ("Al3+", "O2-", "OH", "NH4+", "Wat", "D").

    Args:
        symbol: As written; a charge at its end is ignored.
        known: Symbols in the formula; may be empty.

    Returns:
        Its content, or None if it has none ("?", ".").

    Raises:
        InputError: It does not start with an element.
    """
    if symbol in _NO_VALUE:
        return None
    group = _read_group(symbol.strip(), known=known, counts=True)
    if group is not None:
        return group
    letters = _letters(_CHARGE.sub("", symbol.strip()))
    # A type is an element symbol: two letters are one element unless only the first is known.
    two, one = letters[:2].capitalize(), letters[:1].upper()
    if len(letters) >= 2 and _is_element(two) and (two in known or one not in known):
        return LabelReading(atomic_numbers[two])
    return _one_letter(letters, symbol)


def read_label(label: str, *, known: frozenset[str]) -> LabelReading:
    """Parse a site label without a type ("Mg1", "O-h8", "HOh1", "Wat2").

    A two-letter element is used only if `known` contains it. If nothing is known, the usual
    spelling is required ("Mg", not "MG"), and labels that may mean hydrogen ("Ho") are ambiguous.

    Args:
        label: As written.
        known: Symbols in the formula, the types or the table of oxidation numbers.

    Raises:
        InputError: It does not start with an element, or two elements are possible.
    """
    group = _read_group(label, known=known, counts=False)
    if group is not None:
        return group
    letters = _letters(label)
    two, one = letters[:2].capitalize(), letters[:1].upper()
    if len(letters) < 2 or not _is_element(two):
        return _one_letter(letters, label)
    if known:
        if two in known:
            return LabelReading(atomic_numbers[two])
        if one in known or (one in ISOTOPES and "H" in known):
            return _one_letter(letters, label)
    usual = letters[1].islower() and atomic_numbers[two] <= _HEAVIEST_KNOWN and one != "H"
    if usual or (one == "H" and known) or not _is_element(one):
        return LabelReading(atomic_numbers[two])
    raise InputError(
        f"the label {one_line(label, limit=40)!r} may mean {two} or {one}; add "
        "_atom_site_type_symbol or _chemical_formula_sum"
    )


def _read_group(name: str, *, known: frozenset[str], counts: bool) -> LabelReading | None:
    """Parse the name of an atom with hydrogens; with `counts` a digit always counts hydrogens."""
    if _WATER.match(name) or (_WATER_OR_TUNGSTEN.match(name) and "W" not in known):
        return LabelReading(atomic_numbers["O"], 2, 2)
    found = _GROUP.match(name)
    if found is None or (found[2] and found[1].upper() != "O"):
        return None
    number = atomic_numbers[found[1].upper()]
    # In a type the first digit is the count, another belongs to the charge: NH41+.
    digits = int(found[3][: 1 if counts else None] or 1)
    if counts or (number == 7 and digits == 4):
        return LabelReading(number, digits, digits) if 1 <= digits <= 4 else None
    if found[2] or not 2 <= digits <= 3:
        return LabelReading(number, 1, 1)
    return LabelReading(number, 1, digits)


def _one_letter(letters: str, written: str) -> LabelReading:
    one = letters[:1].upper()
    if one == "D":
        return LabelReading(1, isotope="D")
    if not _is_element(one) or letters[:2].capitalize() in ("Va", "Lp"):
        raise InputError(
            f"unknown element {one_line(written, limit=40)!r}; use the symbols of the periodic "
            "table in _atom_site_type_symbol"
        )
    return LabelReading(atomic_numbers[one])


def _letters(name: str) -> str:
    found = re.match(r"[A-Za-z]+", name)
    return found[0] if found else ""


def _is_element(symbol: str) -> bool:
    return symbol in atomic_numbers and symbol != "X"
