#!/usr/bin/env python3
"""Fill the tables of the documentation from the JSON files in docs/benchmarks/data.

The text between `<!-- table: NAME -->` and `<!-- end -->` in a Markdown file becomes the table of
NAME.json; `<!-- commands: NAME -->` takes the commands that measured it. docs/benchmarks/README.md
defines the format of the JSON files. With --check nothing is written: the exit code is 1 if a file
is out of date.
"""

import argparse
import json
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

DATA = Path("docs", "benchmarks", "data")
DOCUMENTS = ("*.md", "docs/**/*.md", "assets/**/*.md", "containers/*.md")
OPENING = re.compile(r"^<!-- (table|commands): (.*) -->\n", re.MULTILINE)
CLOSING = "<!-- end -->"
MISSING = "–"
SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")

FILE_KEYS = {"title", "crystals", "label", "columns", "rows"}
OPTIONAL_KEYS = {"commands", "commands_from", "commit", "date", "machine", "transcribed"}
CELL_KEYS = {"value", "low", "high", "unit", "digits", "count", "of"}
SOURCE_KEYS = {"from", "row", "column"}

Number = int | float


class TableError(Exception):
    """A marker or a JSON file that cannot be used, in one line."""


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        key: Its name in the cells of a row.
        title: Its heading.
        unit: Unit of its numbers, shown in the heading; None: each number shows its own.
        digits: Decimals of its numbers; None: as in the JSON file.
    """

    key: str
    title: str
    unit: str | None = None
    digits: int | None = None

    @property
    def heading(self) -> str:
        """The title with the unit."""
        return f"{self.title}, {self.unit}" if self.unit else self.title


@dataclass(frozen=True)
class Row:
    """A row of a table.

    Attributes:
        key: Its name.
        label: Its first cell.
        cells: Column key -> cell.
        unit: Unit of its numbers, shown after each; None: that of the column.
        crystals: Number of crystals, where it differs from that of the table.
    """

    key: str
    label: str
    cells: dict[str, Any]
    unit: str | None = None
    crystals: int | None = None


@dataclass(frozen=True)
class Table:
    """What a JSON file holds."""

    title: str
    crystals: int | None
    label: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    commands: tuple[str, ...] = ()
    commands_from: str | None = None
    commit: str | None = None
    date: str | None = None
    machine: str | None = None
    transcribed: bool = False


@dataclass
class Library:
    """The tables of a folder, read when they are first asked for.

    Attributes:
        folder: Holds NAME.json.
        tables: Those that were read.
    """

    folder: Path
    tables: dict[str, Table] = field(default_factory=dict)

    def table(self, name: str) -> Table:
        """Return a table by its name.

        Raises:
            TableError: There is no such file, or it is not in the format.
        """
        if name not in self.tables:
            path = self.folder / f"{name}.json"
            try:
                self.tables[name] = parse(json.loads(path.read_text()))
            except (OSError, ValueError, KeyError, TypeError) as error:
                raise TableError(f"{path}: cannot be read as a table ({error})") from error
        return self.tables[name]

    def cell(self, cell: Any) -> tuple[Any, Column | None, Row | None]:
        """Follow a reference to a cell of another table; return cell, column and row."""
        if not (isinstance(cell, dict) and "from" in cell):
            return cell, None, None
        if set(cell) != SOURCE_KEYS:
            raise TableError(f"a reference needs the keys {sorted(SOURCE_KEYS)}: {cell}")
        source = self.table(cell["from"])
        column = next((c for c in source.columns if c.key == cell["column"]), None)
        row = next((r for r in source.rows if r.key == cell["row"]), None)
        if column is None or row is None or column.key not in row.cells:
            raise TableError(f"there is no such cell: {cell}")
        return row.cells[column.key], column, row

    def commands(self, name: str) -> tuple[str, ...]:
        """Return the commands that measured a table."""
        table = self.table(name)
        return self.commands(table.commands_from) if table.commands_from else table.commands


def parse(data: dict[str, Any]) -> Table:
    """Return a table from the content of its JSON file.

    Raises:
        ValueError: A key is missing or unknown, or a row has a cell of no column.
    """
    unknown = set(data) - FILE_KEYS - OPTIONAL_KEYS
    if unknown or FILE_KEYS - set(data):
        raise ValueError(
            f"keys: {sorted(unknown)} unknown, {sorted(FILE_KEYS - set(data))} missing"
        )
    columns = tuple(Column(**column) for column in data["columns"])
    rows = tuple(Row(**row) for row in data["rows"])
    known = {column.key for column in columns}
    for row in rows:
        if set(row.cells) - known:
            raise ValueError(f"row {row.key}: no column {sorted(set(row.cells) - known)}")
    parts = {key: data[key] for key in data if key not in {"columns", "rows", "commands"}}
    commands = tuple(data.get("commands", ()))
    return Table(**parts, columns=columns, rows=rows, commands=commands)


def shown(number: Number, digits: int | None) -> str:
    """Write a number: `digits` decimals, 12,000 with a comma, 7e-18 as a power of ten."""
    if digits is None and 0 < abs(number) < 1e-3:
        mantissa, exponent = f"{number:e}".split("e")
        power = str(int(exponent)).translate(SUPERSCRIPTS)
        return f"{float(mantissa):g}·10{power}".replace("-", "−")
    separator = "," if abs(number) >= 10_000 else ""
    decimals = "" if digits is None else f".{digits}f"
    return f"{number:{separator}{decimals}}".replace("-", "−")


def cell_text(cell: Any, *, digits: int | None, unit: str | None) -> str:
    """Write a cell: a number with interval and unit, a text, several of these, or nothing.

    Args:
        cell: From the JSON file, references followed.
        digits: Decimals, unless the cell has its own.
        unit: Written after a number; None where the heading has it.

    Raises:
        TableError: A key of the cell is unknown.
    """
    if cell is None or isinstance(cell, str):
        return MISSING if cell is None else cell
    if isinstance(cell, list):
        return ", ".join(cell_text(part, digits=digits, unit=unit) for part in cell)
    if not isinstance(cell, dict):
        cell = {"value": cell}
    if set(cell) - CELL_KEYS or "value" not in cell:
        raise TableError(f"a cell has the keys {sorted(CELL_KEYS)}, value at least: {cell}")
    digits = cell.get("digits", digits)
    text = shown(cell["value"], digits)
    unit = cell.get("unit", unit)
    if unit:
        text += f" {unit}"
    if "low" in cell:
        text += f" ({shown(cell['low'], digits)}–{shown(cell['high'], digits)})"
    if "count" in cell:
        text += f" ({cell['count']} of {cell['of']})"
    return text


def table_lines(library: Library, name: str) -> Iterator[str]:
    """Write a table in Markdown, line by line."""
    table = library.table(name)
    yield f"| {' | '.join([table.label, *(column.heading for column in table.columns)])} |"
    yield f"|{' --- |' * (len(table.columns) + 1)}"
    for row in table.rows:
        cells = [row.label]
        for column in table.columns:
            cell, source, source_row = library.cell(row.cells.get(column.key))
            digits = column.digits if source is None else source.digits
            unit = row.unit
            if source is not None and source_row is not None:
                theirs = source_row.unit or source.unit
                if theirs != (row.unit or column.unit):
                    raise TableError(f"{name}, row {row.key}: unit of the source is {theirs}")
            cells.append(cell_text(cell, digits=digits, unit=unit))
        yield f"| {' | '.join(cells)} |"


def command_lines(library: Library, name: str) -> Iterator[str]:
    """Write the commands of a table as a code block."""
    yield "```bash"
    yield from library.commands(name)
    yield "```"


def filled(text: str, library: Library) -> str:
    """Return a Markdown text with all of its tables written anew.

    Raises:
        TableError: A marker is not closed, or its table cannot be made.
    """
    parts, place = [], 0
    for marker in OPENING.finditer(text):
        end = text.find(CLOSING, marker.end())
        following = OPENING.search(text, marker.end())
        if marker.start() < place or end < 0 or (following and following.start() < end):
            raise TableError(f"{marker[0].strip()} has no {CLOSING}")
        lines = table_lines if marker[1] == "table" else command_lines
        parts += [text[place : marker.end()], *(f"{line}\n" for line in lines(library, marker[2]))]
        place = end
    return "".join([*parts, text[place:]])


def documents(root: Path) -> list[Path]:
    """Return the Markdown files of the repository that may hold tables."""
    return sorted({path for pattern in DOCUMENTS for path in root.glob(pattern)})


def main() -> int:
    """Write the tables, or check them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if out of date")
    parser.add_argument("--root", type=Path, default=Path(__file__).parents[1], help="repository")
    args = parser.parse_args()
    library = Library(args.root / DATA)
    stale = []
    for path in documents(args.root):
        before = path.read_text()
        try:
            after = filled(before, library)
        except TableError as error:
            print(f"{path}: {error}", file=sys.stderr)
            return 1
        if after != before:
            stale.append(path)
            if not args.check:
                path.write_text(after)
    for path in stale:
        print(f"{path}: {'out of date; run make tables' if args.check else 'written'}")
    return int(args.check and bool(stale))


if __name__ == "__main__":
    sys.exit(main())
