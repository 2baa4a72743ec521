"""Where the structures come from: a CSV sample sheet, a folder, or one file of many."""

from __future__ import annotations

import csv
import difflib
import io
import re
from collections.abc import Iterator
from pathlib import Path

from xtalfill.core.errors import InputError
from xtalfill.inputs.structures.entry import Entry, one_line
from xtalfill.inputs.structures.formats import check_is_file, file_format, file_stem, read_file

SHEET_COLUMNS = ("id", "structure", "element", "n_missing")
_SHEET_SUFFIXES = {".csv", ".tsv"}


def read_structures(path: str | Path) -> list[Entry]:
    """Read all structures of an input.

    Args:
        path: A CSV sample sheet, a folder of CIF and POSCAR files, or one file: CIF, POSCAR,
            extended XYZ, ASE database (SQLite or JSON), JSON or JSON lines of pymatgen, OPTIMADE,
            the Materials Project or JARVIS.

    Returns:
        An entry a structure, in the order of the input. One that cannot be read is there
        too, with its error.

    Raises:
        InputError: The input as a whole cannot be read.
    """
    path = Path(path)
    if path.is_dir():
        return _read_folder(path)
    try:
        check_is_file(path)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    if path.suffix.lower() in _SHEET_SUFFIXES:
        return read_sheet(path)
    if file_format(path) is None:
        raise InputError(
            f"{path}: not an input that is read; give a .csv sheet, a folder of CIF or POSCAR "
            "files, or a .cif, .vasp, POSCAR*, .extxyz, .db, .json or .jsonl file"
        )
    return read_file(path)


def _read_folder(path: Path) -> list[Entry]:
    files = [
        item
        for item in sorted(path.iterdir())
        if not item.name.startswith(".") and file_format(item) in ("cif", "poscar")
    ]
    if not files:
        raise InputError(
            f"{path}: no CIF or POSCAR file in this folder (its subfolders are not searched); "
            "names are *.cif, *.vasp, *.poscar, POSCAR*, CONTCAR*, each also with .gz"
        )
    return [entry for file in files for entry in read_file(file)]


def read_sheet(path: Path) -> list[Entry]:
    """Read a sample sheet: a row a structure, paths relative to the sheet.

    The column `structure` is needed, `id`, `element` and `n_missing` are not; other columns
    are passed over, with a note. Comma, semicolon or tab separate, as the line `sep=` or the
    header shows. Lines that begin with # are comments.

    Args:
        path: The sheet. A link to it (as Nextflow makes) is followed, so that the paths in
            it keep their meaning.

    Returns:
        One entry for every row that is not blank.

    Raises:
        InputError: It is no sheet: not text, no column `structure`, or no row.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 text; save it as 'CSV UTF-8'") from error
    text, delimiter = _without_comments(text)
    rows = _rows(text, delimiter)
    columns = [cell.strip().lower() for cell in next((row for _, row, _ in rows), [])]
    unknown = [name for name in columns if name and name not in SHEET_COLUMNS]
    for name in unknown:
        nearest = difflib.get_close_matches(name, set(SHEET_COLUMNS) - set(columns), 1, 0.7)
        if nearest:
            raise InputError(
                f"{path}: unknown column {one_line(name, limit=40)!r}; if it is "
                f"{nearest[0]!r}, call it so"
            )
    if "structure" not in columns:
        raise InputError(
            f"{path}: the header has no column 'structure'; it reads {','.join(SHEET_COLUMNS)}"
        )
    if doubled := sorted({name for name in SHEET_COLUMNS if columns.count(name) > 1}):
        raise InputError(f"{path}: the header names {doubled[0]!r} twice; keep one")
    folder = path.resolve().parent
    entries = [_read_row(path, folder, columns, line, row, error) for line, row, error in rows]
    if not entries:
        raise InputError(f"{path}: has a header but no row; add a row a structure")
    if unknown:
        names = one_line(", ".join(unknown), limit=80)
        entries[0].notes.append(f"columns of {path.name} that are not used: {names}")
    return entries


def _without_comments(text: str) -> tuple[str, str]:
    """Return the sheet with comments and `sep=` as blank lines, and what separates its cells."""
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


def _read_row(
    sheet: Path, folder: Path, columns: list[str], line: int, row: list[str], error: str | None
) -> Entry:
    cells = dict.fromkeys(SHEET_COLUMNS, "")
    cells |= {name: cell.strip() for name, cell in zip(columns, row, strict=False)}
    where = f"{sheet.name} line {line}"
    entry = Entry(source=where, fallback_id=f"{sheet.stem}_line{line}")
    if error is not None:
        entry.error = f"the row cannot be read ({error}); check its quotes"
    elif len(row) > len(columns):
        entry.error = (
            f"the row has {len(row)} cells, the header {len(columns)}; "
            "quote a cell that holds the separator"
        )
    elif not cells["structure"]:
        entry.error = "the row names no structure; fill the column 'structure'"
    else:
        entry = _read_cell(folder, cells["structure"])
        entry.source = f"{where} ({one_line(cells['structure'], limit=120)})"
    entry.id = cells["id"] or entry.id
    entry.element = cells["element"] or entry.element
    entry.n_missing = cells["n_missing"] or entry.n_missing
    return entry


def _read_cell(folder: Path, cell: str) -> Entry:
    """Read the one structure that a cell of the sheet names."""
    target = folder / cell
    entries = read_file(target)
    if len(entries) == 1:
        return entries[0]
    return Entry(
        source=target.name,
        fallback_id=file_stem(target),
        error=f"the file holds {len(entries)} structures; a row names a file of one "
        "(or give the file itself as --input)",
    )
