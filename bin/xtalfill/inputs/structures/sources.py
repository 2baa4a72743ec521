"""Input sources: a server, a CSV sample sheet, a folder, or a single file.

`stream_structures` is the one way to read an input: structure by structure, so that memory does
not grow with a database.
"""

from __future__ import annotations

import itertools
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from xtalfill.core.errors import InputError
from xtalfill.core.text import one_line
from xtalfill.inputs.sheet import Sheet, is_sheet, parse_sheet
from xtalfill.inputs.structures.entry import Entry, drop_shared_names
from xtalfill.inputs.structures.formats import check_is_file, file_format, file_stem, read_file
from xtalfill.inputs.structures.jsonrecords import read_records
from xtalfill.inputs.structures.servers import is_server, server_name, server_records

# So many structures of a file are read to say that a row needs a file with one.
_MOST_IN_ROW = 100


@dataclass(frozen=True)
class Streamed:
    """A structure as read, and its file if that holds no other structure."""

    entry: Entry
    file: Path | None = None


@dataclass(frozen=True)
class UnreadFile:
    """A file of a tree that is still to be read.

    Attributes:
        path: The file.
        source: Its name for messages: the path below the tree.
        stem: Start of the ids of its structures.
    """

    path: Path
    source: str
    stem: str

    def read(self) -> Iterator[Streamed]:
        """Yield the structures of the file, with the file if it holds one."""
        entries = read_file(self.path, source=self.source, stem=self.stem)
        first, second = next(entries), next(entries, None)
        yield Streamed(first, self.path if second is None and first.error is None else None)
        if second is not None:
            yield Streamed(second)
            yield from (Streamed(entry) for entry in entries)


def read_structures(source: str | Path) -> list[Entry]:
    """Read all structures of an input; arguments and errors as `stream_structures`.

    Returns:
        One entry per structure, in the order of the input. A name that several structures share
        is not used as an id.
    """
    entries = [streamed.entry for streamed in stream_structures(source)]
    drop_shared_names(entries)
    return entries


def stream_structures(source: str | Path) -> Iterator[Streamed]:
    """Yield the structures of an input one by one; arguments and errors as `list_structures`."""
    for one in list_structures(source):
        if isinstance(one, UnreadFile):
            yield from one.read()
        else:
            yield one


def list_structures(source: str | Path) -> Iterator[Streamed | UnreadFile]:
    """Yield the structures of an input one by one, of a tree its files without reading them.

    Args:
        source: The URL of a server (`servers.server_records`), a CSV sample sheet, a tree of CIF
            and POSCAR files, or one file: CIF, POSCAR, extended XYZ, ASE database (SQLite or
            JSON), JSON or JSON lines of pymatgen, OPTIMADE, the Materials Project or JARVIS, or
            HDF5 in the layout of the training files.

    Yields:
        The structures in the order of the input. One that cannot be read has an entry with its
        error.

    Raises:
        InputError: The input as a whole cannot be read.
    """
    if is_server(source):
        name = server_name(str(source))
        for entry in read_records(server_records(str(source)), name, name):
            yield Streamed(entry)
        return
    path = Path(source)
    if path.is_dir():
        yield from _list_tree(path)
        return
    check_supported(path)
    if is_sheet(path):
        for entry, file in sheet_entries(path):
            yield Streamed(entry, file if entry.error is None else None)
    else:
        yield from UnreadFile(path, path.name, file_stem(path)).read()


def _list_tree(path: Path) -> Iterator[Streamed | UnreadFile]:
    """Yield the CIF and POSCAR files of a tree, and folders that cannot be read.

    The order: the files of a folder by name, then its subfolders by name. An id is the path below
    `path`; the checksum that `hosts.safe_id` adds to one with a slash keeps it distinct.

    Raises:
        InputError: There is no such file.
    """
    found, closed = False, list[OSError]()
    for parent, folders, names in os.walk(path, onerror=closed.append):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        files = [
            Path(parent, name)
            for name in sorted(names)
            if not name.startswith(".") and file_format(Path(name)) in ("cif", "poscar")
        ]
        stems = Counter(file_stem(file) for file in files)
        for file in files:
            found = True
            below = file.relative_to(path)
            stem = file_stem(file) if stems[file_stem(file)] == 1 else file.name
            yield UnreadFile(file, str(below), str(below.with_name(stem)))
    for error in closed:
        name = str(Path(error.filename).relative_to(path))
        problem = f"the folder cannot be read ({error.strerror}); change its permissions"
        yield Streamed(Entry(source=name, fallback_id=name, error=problem))
    if not found:
        raise InputError(
            f"{path}: no CIF or POSCAR file in this folder or below; "
            "expected *.cif, *.vasp, *.poscar, POSCAR*, CONTCAR*, each also with .gz"
        )


def check_supported(path: Path) -> None:
    """Check that a path is a file whose name shows a supported format.

    Raises:
        InputError: It is not.
    """
    try:
        check_is_file(path)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    if not is_sheet(path) and file_format(path) is None:
        raise InputError(
            f"{path}: unsupported input; give a .csv sheet, a folder of CIF or POSCAR "
            "files, the URL of a server, or a .cif, .vasp, POSCAR*, .extxyz, .db, .json, .jsonl or "
            ".h5 file"
        )


def sheet_entries(path: Path) -> Iterator[tuple[Entry, Path]]:
    """Yield the rows of a sample sheet one by one, each with the file that it names.

    Args:
        path: The sheet: one row per structure, paths relative to the sheet. A symbolic link (as
            made by Nextflow) is resolved, so that relative paths stay valid.

    Yields:
        An entry for every row that is not blank.

    Raises:
        InputError: The file is not text, has no column `structure`, or has no row.
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
    if cells["id"]:
        entry.id, entry.id_is_name = cells["id"], False
    entry.element = cells["element"] or entry.element
    entry.n_missing = cells["n_missing"] or entry.n_missing
    return entry


def _read_cell(folder: Path, cell: str) -> Entry:
    """Read the single structure that a cell of the sheet names."""
    target = folder / cell
    entries = list(itertools.islice(read_file(target), _MOST_IN_ROW))
    if len(entries) == 1:
        return entries[0]
    several = str(len(entries)) if len(entries) < _MOST_IN_ROW else f"{_MOST_IN_ROW} or more"
    return Entry(
        source=target.name,
        fallback_id=file_stem(target),
        error=f"the file holds {several} structures; name a file with one "
        "structure, or pass the file itself as --input",
    )
