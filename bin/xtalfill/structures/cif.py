"""Read CIF: pymatgen parses; what it would pass over in silence is checked here."""

from __future__ import annotations

import re
import warnings

from pymatgen.core import Composition, Element, Structure
from pymatgen.io.cif import CifBlock, CifFile, CifParser

from xtalfill.errors import InputError
from xtalfill.structures.entry import Entry, explain, fill_from_pymatgen, one_line

_COORDINATES = ("_atom_site_fract_x", "_atom_site_fract_y", "_atom_site_fract_z")
_NO_VALUE = {"", "?", "."}


def read_cif(text: str, *, source: str, stem: str) -> list[Entry]:
    """Read every data block of a CIF that lists atom sites.

    Symmetry is expanded to the cell that the CIF gives; the cell is not reduced.

    Args:
        text: The file.
        source: Its name, for the user.
        stem: The id of its structure, or with several blocks the stem of their ids.

    Raises:
        InputError: No block lists atom sites.
    """
    blocks = re.split(r"^[ \t]*(?=data_)", text, flags=re.MULTILINE | re.IGNORECASE)
    blocks = [block for block in blocks if _COORDINATES[0] in block]
    if not blocks:
        raise InputError(
            "lists no atom sites (_atom_site_fract_x); the CIF is truncated or holds no crystal"
        )
    entries = []
    for number, block in enumerate(blocks):
        several = len(blocks) > 1
        entry = Entry(
            source=f"{source} block {number}" if several else source,
            fallback_id=f"{stem}_{number}" if several else stem,
        )
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                _read_block(entry, block)
        except Exception as error:  # noqa: BLE001 - a hostile text makes a parser raise anything
            entry.error = explain(error, kind="CIF")
        entries.append(entry)
    return entries


def _read_block(entry: Entry, text: str) -> None:
    block = next(iter(CifFile.from_str(text).data.values()))
    entry.unlocated = _drop_unlocated(block)
    if entry.unlocated:
        text = str(block)
    fill_from_pymatgen(entry, _parse_structure(block, text))
    entry.formula = _declared_formula(block)


def _parse_structure(block: CifBlock, text: str) -> Structure:
    parser = CifParser.from_str(text)
    operations = parser.get_symops(block)
    if not parser.feature_flags["magcif"]:
        _check_symmetry(block, parser.warnings)
        if len(operations) == 1:
            # Without symmetry no coordinate needs rounding to 1/3: keep each as it is given.
            parser = CifParser.from_str(text, frac_tolerance=0.0)
    return parser.parse_structures(primitive=False, on_error="raise")[0]


def _check_symmetry(block: CifBlock, messages: list[str]) -> None:
    """Refuse a space group that pymatgen could not expand and would take for P1."""
    if not any("Defaulting to P1" in message for message in messages):
        return
    for key, value in block.data.items():
        declares_group = re.fullmatch(
            r"_(symmetry|space_group)_(name_H-?_?M.*|name_Hall|IT_number|Int_Tables_number"
            r"|space_group_name_(H-M|Hall).*)",
            key,
            flags=re.IGNORECASE,
        )
        group = re.sub(r"[\s'\"_]", "", value) if isinstance(value, str) else ""
        if declares_group and group.upper() not in _NO_VALUE | {"P1", "1"}:
            raise InputError(
                f"space group {one_line(value)!r} cannot be expanded; "
                "add its operations (_symmetry_equiv_pos_as_xyz) or write the CIF in P1"
            )


def _drop_unlocated(block: CifBlock) -> tuple[str, ...]:
    """Take the sites without coordinates out of `block` and return their symbols.

    pymatgen reads "." as 0.0, which would put such an atom on the origin.
    """
    labels = block.data.get("_atom_site_label")
    columns = [block.data.get(key) for key in _COORDINATES]
    if not isinstance(labels, list) or not all(isinstance(column, list) for column in columns):
        raise InputError("the atom sites are not one loop with labels and three coordinates")
    bad = [
        index
        for index, row in enumerate(zip(*columns, strict=True))
        if any(value.strip() in _NO_VALUE for value in row)
    ]
    symbols = block.data.get("_atom_site_type_symbol", labels)
    dropped = tuple(_symbol(symbols[index]) for index in bad)
    loop = next(columns for columns in block.loops if "_atom_site_label" in columns)
    for key in loop:
        block.data[key] = [v for index, v in enumerate(block.data[key]) if index not in set(bad)]
    if dropped and not block.data["_atom_site_label"]:
        raise InputError("no site has coordinates; complete the CIF")
    return dropped


def _symbol(label: str) -> str:
    letters = "".join(re.findall(r"^[A-Za-z]{1,2}", label)).title()
    symbol = letters if Element.is_valid_symbol(letters) else letters[:1]
    return "H" if symbol in ("D", "T") else symbol or one_line(label)


def _declared_formula(block: CifBlock) -> dict[int, float] | None:
    text = block.data.get("_chemical_formula_sum")
    if not isinstance(text, str) or text.strip() in _NO_VALUE:
        return None
    try:
        composition = Composition(text.replace("'", " ").replace('"', " "))
        counts: dict[int, float] = {}
        for element, amount in composition.items():
            counts[Element(element.symbol).Z] = counts.get(Element(element.symbol).Z, 0) + amount
    except (ValueError, KeyError, TypeError, AttributeError):
        return None  # free text such as "K0.5 - x Na x": nothing to learn from it
    return counts or None
