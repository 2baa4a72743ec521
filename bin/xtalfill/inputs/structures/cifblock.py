"""A data block of a CIF parsed by gemmi: tags are case-insensitive, values unquoted."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from fractions import Fraction
from typing import Any

import gemmi
from gemmi import cif

from xtalfill.core.errors import InputError
from xtalfill.core.text import one_line

NO_VALUE = {"", "?", "."}
_LOOKALIKES = str.maketrans({"\u00a0": " ", "\u2010": "-", "\u2013": "-", "\u2212": "-"})
_NUMBER = re.compile(r"([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)(?:\((\d+)\))?")
_FRACTION = re.compile(r"([+-]?\d+)/([1-9]\d*)")


class CifBlock:
    """Tags and loops of one data block.

    Tags are compared in lower case, with "_" for the "." of newer dictionaries.
    """

    def __init__(self, block: cif.Block) -> None:
        """Index the tags of `block`."""
        item: Any  # gemmi types it as object
        self.name = block.name
        self._pairs: dict[str, str] = {}
        self._loops: dict[str, tuple[cif.Loop, int]] = {}
        for item in block:
            if item.pair is not None:
                self._pairs.setdefault(_plain(item.pair[0]), item.pair[1])
            elif item.loop is not None:
                for index, tag in enumerate(item.loop.tags):
                    self._loops.setdefault(_plain(tag), (item.loop, index))

    def has(self, tag: str) -> bool:
        """Return whether a tag is present, alone or in a loop."""
        return tag in self._pairs or tag in self._loops

    def column(self, tag: str) -> list[str] | None:
        """Return the values of a tag as text, one per row of its loop; None without the tag."""
        if tag in self._loops:
            loop, index = self._loops[tag]
            width = loop.width()
            values: Iterable[str] = list(loop.values)[index::width]
        elif tag in self._pairs:
            values = [self._pairs[tag]]
        else:
            return None
        return [cif.as_string(value).strip() if not cif.is_null(value) else value
                for value in values]  # fmt: skip

    def value(self, tag: str) -> str | None:
        """Return the first value of a tag, or None if it is absent, "?" or "."."""
        values = [value for value in self.column(tag) or () if value not in NO_VALUE]
        return values[0] if values else None

    def first(self, tags: Sequence[str]) -> tuple[str | None, str]:
        """Return the value of the first tag with one, and that tag."""
        for tag in tags:
            if (value := self.value(tag)) is not None:
                return value, tag
        return None, tags[0]

    def rows(self, tag: str) -> int:
        """Return the number of rows in the loop of a tag."""
        if tag in self._loops:
            return int(self._loops[tag][0].length())
        return int(tag in self._pairs)


def parse_document(text: str) -> list[CifBlock]:
    """Parse a CIF.

    Raises:
        InputError: The syntax is wrong; the message names the line.
    """
    try:
        # 0: duplicate tags are allowed; the first counts.
        document = cif.read_string(_ascii(text), 0)
    except (ValueError, RuntimeError) as error:
        raise InputError(_syntax(str(error))) from error
    return [CifBlock(block) for block in document]


def _ascii(text: str) -> str:
    """Return a text in the characters of CIF 1.1; names and comments may contain others."""
    return re.sub(r"[^\x00-\x7f]", "_", text.translate(_LOOKALIKES))


def _syntax(reason: str) -> str:
    found = re.match(r"string:(\d+):\d+(?:\(\d+\))?: ?(.*)", reason, flags=re.DOTALL)
    line, what = (found[1], found[2]) if found else ("?", reason)
    if "expected block header" in what:
        return f"line {line}: data_NAME is missing; add it as the first line"
    return f"line {line}: invalid CIF syntax ({one_line(what, limit=120)}); correct the line"


def parse_number(text: str) -> tuple[float, float]:
    """Return a number and its standard uncertainty: "0.25(3)" -> 0.25, 0.03; "1/4" -> 0.25, 0.

    Raises:
        ValueError: The text is not a number.
    """
    if _FRACTION.fullmatch(text):
        return float(Fraction(text)), 0.0
    found = _NUMBER.fullmatch(text)
    if found is None:
        raise ValueError(f"{text!r} is not a number")
    spread = 0.0
    if found[2]:
        mantissa = re.split("[eE]", found[1])[0]
        decimals = len(mantissa.partition(".")[2])
        spread = int(found[2]) * 10.0**-decimals
    return float(found[1]), spread


def unit_cell(block: CifBlock) -> gemmi.UnitCell | None:
    """Return the cell of a block, or None if it gives none.

    Raises:
        InputError: A length or angle is missing or invalid, or the cell has no volume.
    """
    tags = [f"_cell_length_{axis}" for axis in "abc"]
    tags += [f"_cell_angle_{angle}" for angle in ("alpha", "beta", "gamma")]
    values = [block.value(tag) for tag in tags]
    if all(value is None for value in values):
        return None
    numbers = []
    for tag, value in zip(tags, values, strict=True):
        try:
            numbers.append(parse_number(value or "nothing")[0])
        except ValueError as error:
            raise InputError(f"{tag} is {one_line(value or '?', limit=40)!r}; give a number") from (
                error
            )
    cell = gemmi.UnitCell(*numbers)
    if not (min(numbers) > 0 and cell.volume > 1e-6):
        raise InputError(
            "the cell has no volume; give three lengths (Å) and three angles (degrees)"
        )
    return cell


def _plain(tag: str) -> str:
    return tag.lower().replace(".", "_")
