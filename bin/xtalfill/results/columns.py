"""Columns of the result tables: name, type, unit, meaning and value of each in one place.

A table is a dataclass whose fields are made with `column`. The name and the type of a column
are those of the field. ``tools/make_docs.py`` writes the tables of docs/output.md from here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import MISSING, dataclass, field, fields
from typing import Any, TypeVar

Row = TypeVar("Row")


@dataclass(frozen=True)
class Column:
    """What a reader of a table needs to know of a column.

    Attributes:
        name: Heading of the column.
        unit: Empty for a column without one.
        meaning: One sentence in plain English.
    """

    name: str
    unit: str
    meaning: str


def column(
    *,
    meaning: str,
    unit: str = "",
    value: Callable[[Any], Any] | None = None,
    default: Any = MISSING,
) -> Any:
    """Declare a column as a field of a dataclass.

    Args:
        meaning: One sentence in plain English.
        unit: Of its numbers.
        value: Computes the cell from the source of a row; None where the rows are not made by
            `make_row`.
        default: Of the field; none if left out.
    """
    return field(default=default, metadata={"meaning": meaning, "unit": unit, "value": value})


def make_row(kind: type[Row], source: Any) -> Row:
    """Compute every column of a row.

    Args:
        kind: A dataclass whose fields were all made by `column` with a value.
        source: What the values are computed from.
    """
    items = fields(kind)  # type: ignore[arg-type]
    return kind(**{item.name: item.metadata["value"](source) for item in items})


def columns_of(kind: type) -> list[Column]:
    """Return the columns of a table, in order."""
    return [
        Column(item.name, item.metadata["unit"], item.metadata["meaning"]) for item in fields(kind)
    ]
