"""The CSV sample sheet: its header, its separator and its rows."""

from __future__ import annotations

import csv
import difflib
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from xtalfill.core.errors import InputError
from xtalfill.core.text import one_line

COLUMNS = ("id", "structure", "element", "n_missing")
SUFFIXES = {".csv", ".tsv"}


@dataclass(frozen=True)
class Sheet:
    """A sample sheet whose header is valid.

    Attributes:
        columns: Names in the header, in lower case.
        rows: (line, cells, error) of every row that is not blank.
        ignored: Unused columns.
    """

    columns: list[str]
    rows: list[tuple[int, list[str], str | None]]
    ignored: list[str]

    def cells(self, row: list[str]) -> dict[str, str]:
        """Return the cells of a row by column; missing cells are empty."""
        found = {name: cell.strip() for name, cell in zip(self.columns, row, strict=False)}
        return dict.fromkeys(COLUMNS, "") | found


def is_sheet(path: Path) -> bool:
    """Return whether a file is read as a sample sheet."""
    return path.suffix.lower() in SUFFIXES


def parse_sheet(path: Path) -> Sheet:
    """Read the header and the cells of a sample sheet.

    The column `structure` is required; `id`, `element` and `n_missing` are optional. Other columns
    are ignored. The separator is comma, semicolon or tab, as in the line `sep=` or the header.
    Lines that start with # are comments.

    Raises:
        InputError: The file is not text or has no column `structure`.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 text; save it as 'CSV UTF-8'") from error
    text, delimiter = _without_comments(text)
    rows = list(_rows(text, delimiter))
    columns = [cell.strip().lower() for cell in (rows[0][1] if rows else [])]
    unknown = [name for name in columns if name and name not in COLUMNS]
    for name in unknown:
        nearest = difflib.get_close_matches(name, set(COLUMNS) - set(columns), 1, 0.7)
        if nearest:
            raise InputError(
                f"{path}: unknown column {one_line(name, limit=40)!r}; rename it if "
                f"{nearest[0]!r} is meant"
            )
    if "structure" not in columns:
        raise InputError(
            f"{path}: the header has no column 'structure'; the columns are {','.join(COLUMNS)}"
        )
    if doubled := sorted({name for name in COLUMNS if columns.count(name) > 1}):
        raise InputError(f"{path}: the header names {doubled[0]!r} twice; keep one")
    return Sheet(columns, rows[1:], unknown)


def named_files(sheet: Sheet) -> list[str]:
    """Return the distinct names in the column `structure`, in the order of the rows.

    Invalid path names (with NUL or a line break) are omitted; `read_structures` refuses them.
    """
    names = (sheet.cells(row)["structure"] for _, row, error in sheet.rows if error is None)
    return list(
        dict.fromkeys(name for name in names if name and not set(name) & {"\0", "\n", "\r"})
    )


def _without_comments(text: str) -> tuple[str, str]:
    """Return the sheet with comments and `sep=` as blank lines, and the separator."""
    lines = ["" if line.startswith("#") else line for line in text.split("\n")]
    first = next((index for index, line in enumerate(lines) if line.strip()), 0)
    if stated := re.fullmatch(r"\"?sep=(.)\"?[,;\s]*", lines[first].strip("\r"), re.IGNORECASE):
        lines[first] = ""
        return "\n".join(lines), stated[1]
    return "\n".join(lines), max(",;\t", key=lines[first].count)


def _rows(text: str, delimiter: str) -> Iterator[tuple[int, list[str], str | None]]:
    """Yield (line, cells, error) for every row that is not blank."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    while True:
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield reader.line_num, [], one_line(error)
            continue
        if any(cell.strip() for cell in row):
            yield reader.line_num, row, None
