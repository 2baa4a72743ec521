"""Input sources: a CSV sample sheet, a folder, or a single file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from xtalfill.core.errors import InputError
from xtalfill.core.text import one_line
from xtalfill.inputs.sheet import Sheet, is_sheet, parse_sheet
from xtalfill.inputs.structures.entry import Entry
from xtalfill.inputs.structures.formats import check_is_file, file_format, file_stem, read_file


def read_structures(path: str | Path) -> list[Entry]:
    """Read all structures of an input.

    Args:
        path: A CSV sample sheet, a folder of CIF and POSCAR files, or one file: CIF, POSCAR,
            extended XYZ, ASE database (SQLite or JSON), JSON or JSON lines of pymatgen, OPTIMADE,
            the Materials Project or JARVIS.

    Returns:
        One entry per structure, in the order of the input. A structure that cannot be read has an
        entry with its error.

    Raises:
        InputError: The input as a whole cannot be read.
    """
    path = Path(path)
    if path.is_dir():
        return [entry for file in structure_files(path) for entry in read_file(file)]
    check_supported(path)
    return read_sheet(path) if is_sheet(path) else read_file(path)


def check_supported(path: Path, *, more: tuple[str, ...] = ()) -> None:
    """Check that a path is a file whose name shows a supported format.

    Args:
        path: The file.
        more: Further suffixes that the caller reads itself.

    Raises:
        InputError: It is not.
    """
    try:
        check_is_file(path)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    if not is_sheet(path) and file_format(path) is None and path.suffix.lower() not in more:
        suffixes = ", ".join([".cif", ".vasp", "POSCAR*", ".extxyz", ".db", ".json", *more])
        raise InputError(
            f"{path}: unsupported input; give a .csv sheet, a folder of CIF or POSCAR "
            f"files, or a {suffixes} or .jsonl file"
        )


def structure_files(path: Path) -> list[Path]:
    """Return the CIF and POSCAR files of a folder, sorted.

    Raises:
        InputError: There is none.
    """
    files = [
        item
        for item in sorted(path.iterdir())
        if not item.name.startswith(".") and file_format(item) in ("cif", "poscar")
    ]
    if not files:
        raise InputError(
            f"{path}: no CIF or POSCAR file in this folder (its subfolders are not searched); "
            "expected *.cif, *.vasp, *.poscar, POSCAR*, CONTCAR*, each also with .gz"
        )
    return files


def read_sheet(path: Path) -> list[Entry]:
    """Read a sample sheet: one row per structure, paths relative to the sheet.

    Args:
        path: The sheet. A symbolic link (as made by Nextflow) is resolved, so that relative paths
            stay valid.

    Returns:
        One entry for every row that is not blank.

    Raises:
        InputError: The file is not text, has no column `structure`, or has no row.
    """
    return [entry for entry, _ in sheet_entries(path)]


def sheet_entries(path: Path) -> Iterator[tuple[Entry, Path]]:
    """Yield the rows of a sample sheet one by one, each with the file that it names.

    Arguments and errors as `read_sheet`.
    """
    sheet = parse_sheet(path)
    folder = path.resolve().parent
    if not sheet.rows:
        raise InputError(f"{path}: has a header but no row; add one row per structure")
    for number, row in enumerate(sheet.rows):
        entry = _read_row(path, folder, sheet, row)
        if sheet.ignored and number == 0:
            names = one_line(", ".join(sheet.ignored), limit=80)
            entry.notes.append(f"unused columns of {path.name}: {names}")
        yield entry, folder / sheet.cells(row[1])["structure"]


def _read_row(
    path: Path, folder: Path, sheet: Sheet, row: tuple[int, list[str], str | None]
) -> Entry:
    line, values, error = row
    cells = sheet.cells(values)
    where = f"{path.name} line {line}"
    entry = Entry(source=where, fallback_id=f"{path.stem}_line{line}")
    if error is not None:
        entry.error = f"the row cannot be read ({error}); check its quotes"
    elif len(values) > len(sheet.columns):
        entry.error = (
            f"the row has {len(values)} cells, the header {len(sheet.columns)}; "
            "quote the cells that contain the separator"
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
    """Read the single structure that a cell of the sheet names."""
    target = folder / cell
    entries = read_file(target)
    if len(entries) == 1:
        return entries[0]
    return Entry(
        source=target.name,
        fallback_id=file_stem(target),
        error=f"the file holds {len(entries)} structures; name a file with one "
        "structure, or pass the file itself as --input",
    )
