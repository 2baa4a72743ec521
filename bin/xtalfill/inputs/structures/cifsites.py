"""Read the atom-site loop of a CIF: elements, coordinates, occupancies, hydrogens."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from ase.data import chemical_symbols

from xtalfill.core.errors import InputError
from xtalfill.core.text import listed, one_line
from xtalfill.inputs.structures.cifblock import NO_VALUE, CifBlock, parse_number
from xtalfill.inputs.structures.expand import FULL_TOLERANCE, MAX_ATOMS
from xtalfill.inputs.structures.formula import parse_formula
from xtalfill.inputs.structures.labels import LabelReading, read_label, read_type

X_TAG = "_atom_site_fract_x"
_COORDINATES = (X_TAG, "_atom_site_fract_y", "_atom_site_fract_z")
_MULTIPLICITIES = ("_atom_site_site_symmetry_multiplicity", "_atom_site_symmetry_multiplicity")


@dataclass(frozen=True, kw_only=True)
class SiteRow:
    """One row of the atom-site loop.

    Attributes:
        label: Its label, or the number of its row.
        number: Atomic number.
        fractional: (3,) coordinates, or None for a site without coordinates.
        occupancy: As listed; 1 if it is one within its uncertainty or `FULL_TOLERANCE`.
        multiplicity: As listed, or None.
        attached: Number of unlisted hydrogens bonded to it, or None.
        fewest_hydrogens: Minimum number of its hydrogens, from its label or type.
        most_hydrogens: Maximum number of its hydrogens, from its label or type.
        isotope: "D" or "T", else "".
    """

    label: str
    number: int
    fractional: np.ndarray | None
    occupancy: float
    multiplicity: int | None
    attached: int | None
    fewest_hydrogens: int
    most_hydrogens: int
    isotope: str


def read_rows(block: CifBlock) -> tuple[list[SiteRow], list[str]]:
    """Read the atom-site loop; every ignored row gets a note.

    Returns:
        The rows, and notes for the user.

    Raises:
        InputError: A value cannot be read; the message names the label and the tag.
    """
    count = block.rows(X_TAG)
    if count > MAX_ATOMS:
        raise InputError(f"lists {count} sites, more than the limit of {MAX_ATOMS}")
    columns = _columns(block, count)
    known = _known_elements(block, columns["_atom_site_type_symbol"])
    rows, notes, nearly = [], [], []
    for index in range(count):
        cells = {tag: column[index] for tag, column in columns.items() if column is not None}
        written = cells.get("_atom_site_label", "?")
        label = written if written not in NO_VALUE else f"row {index + 1}"
        occupancy, rounded = _occupancy(cells, label)
        if occupancy == 0:
            notes.append(f"site {one_line(label, limit=40)} has occupancy 0 and is ignored")
            continue
        if rounded:
            nearly.append(label)
        try:
            rows.append(_row(cells, label, occupancy, known))
        except InputError:
            if not _is_dummy(cells):
                raise
            notes.append(f"dummy site {one_line(label, limit=40)} is ignored")
    if nearly:
        notes.append(f"occupancy rounded to 1: {listed(nearly)}")
    if not known:
        notes.append("no type symbols and no formula; elements are taken from the labels")
    return rows, notes


def _columns(block: CifBlock, count: int) -> dict[str, list[str] | None]:
    tags = (
        "_atom_site_label",
        "_atom_site_type_symbol",
        *_COORDINATES,
        "_atom_site_occupancy",
        *_MULTIPLICITIES,
        "_atom_site_attached_hydrogens",
        "_atom_site_calc_flag",
    )
    columns = {tag: block.column(tag) for tag in tags}
    for tag, column in columns.items():
        if column is not None and len(column) != count:
            raise InputError(f"{tag} has {len(column)} values for {count} sites; correct the loop")
        if column is None and tag in _COORDINATES:
            raise InputError(f"the atom sites have no {tag}; complete the CIF")
    if columns["_atom_site_label"] is None and columns["_atom_site_type_symbol"] is None:
        raise InputError("the atom sites have neither labels nor types; add _atom_site_type_symbol")
    return columns


def _known_elements(block: CifBlock, types: list[str] | None) -> frozenset[str]:
    """Return the symbols in the formula, the types of the sites, and the table of types."""
    formula = parse_formula(block.value("_chemical_formula_sum") or "?") or {}
    known = {chemical_symbols[number] for number in formula}
    for symbol in [*(types or ()), *(block.column("_atom_type_symbol") or ())]:
        try:
            reading = read_type(symbol, known=frozenset(known))
        except InputError:
            continue  # the row is refused later, with its label
        if reading is not None:
            known.add(chemical_symbols[reading.number])
    return frozenset(known)


def _row(cells: dict[str, str], label: str, occupancy: float, known: frozenset[str]) -> SiteRow:
    try:
        reading = _reading(cells, label, known)
    except InputError as error:
        raise InputError(f"site {one_line(label, limit=40)}: {error}") from error
    return SiteRow(
        label=one_line(label, limit=40),
        number=reading.number,
        fractional=_fractional(cells, label),
        occupancy=occupancy,
        multiplicity=_whole(cells, _MULTIPLICITIES, label),
        attached=_whole(cells, ("_atom_site_attached_hydrogens",), label),
        fewest_hydrogens=reading.fewest,
        most_hydrogens=reading.most,
        isotope=reading.isotope,
    )


def _reading(cells: dict[str, str], label: str, known: frozenset[str]) -> LabelReading:
    """Read type and label. The type determines the element; both may name bonded hydrogens."""
    by_type = read_type(cells.get("_atom_site_type_symbol", "?"), known=known)
    if by_type is None:
        return read_label(label, known=known)
    if by_type.most or cells.get("_atom_site_label", "?") in NO_VALUE:
        return by_type
    try:
        by_label = read_label(label, known=known)
    except InputError:
        return by_type  # with a type, any label is valid
    if by_label.number != by_type.number:
        return by_type
    return LabelReading(by_type.number, by_label.fewest, by_label.most, by_type.isotope)


def _fractional(cells: dict[str, str], label: str) -> np.ndarray | None:
    """Return the coordinates, or None for a site without coordinates."""
    texts = [cells[tag] for tag in _COORDINATES]
    if _is_dummy(cells) or any(text in NO_VALUE for text in texts):
        return None
    values = []
    for tag, text in zip(_COORDINATES, texts, strict=True):
        try:
            values.append(parse_number(text)[0])
        except ValueError as error:
            raise InputError(
                f"site {one_line(label, limit=40)}: {tag} is {one_line(text, limit=40)!r}; "
                "give a number"
            ) from error
    return None if all(value == -1 for value in values) else np.array(values)


def _is_dummy(cells: dict[str, str]) -> bool:
    return cells.get("_atom_site_calc_flag", "").lower() == "dum"


def _occupancy(cells: dict[str, str], label: str) -> tuple[float, bool]:
    """Return the occupancy, and whether it was rounded to 1."""
    text = cells.get("_atom_site_occupancy", ".")
    if text in NO_VALUE:
        return 1.0, False
    try:
        value, spread = parse_number(text)
    except ValueError as error:
        raise InputError(
            f"site {one_line(label, limit=40)}: _atom_site_occupancy is "
            f"{one_line(text, limit=40)!r}; give a number"
        ) from error
    if value < 0:
        raise InputError(
            f"site {one_line(label, limit=40)}: its occupancy is {value:g}; give 0 to 1"
        )
    if value != 1 and abs(value - 1) <= max(spread, FULL_TOLERANCE) + 1e-9:
        return 1.0, True
    return value, False


def _whole(cells: dict[str, str], tags: tuple[str, ...], label: str) -> int | None:
    for tag in tags:
        text = cells.get(tag, "?")
        if text in NO_VALUE:
            continue
        try:
            value = parse_number(text)[0]
        except ValueError as error:
            raise InputError(
                f"site {one_line(label, limit=40)}: {tag} is {one_line(text, limit=40)!r}; give a "
                "whole number"
            ) from error
        return round(value)
    return None
