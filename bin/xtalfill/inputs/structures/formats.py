"""Read one file of structures: POSCAR, extended XYZ, ASE database (cif.py, jsonrecords.py).

Extended XYZ, ASE databases (SQLite), JSON lines, lists in JSON, and HDF5 are read structure by
structure; other files are read whole. No reader evaluates or unpickles data.
"""

from __future__ import annotations

import io
import itertools
import re
import sqlite3
import warnings
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import ase.io
from ase import Atoms
from ase.db.row import AtomsRow
from ase.db.sqlite import SQLite3Database
from ase.io.jsonio import decode
from ase.io.vasp import read_vasp

from xtalfill.core.errors import InputError
from xtalfill.core.text import one_line
from xtalfill.inputs.structures.cif import read_cif
from xtalfill.inputs.structures.entry import (
    ID_KEYS,
    Entry,
    explain,
    fill_entry,
    fill_from_pymatgen,
    fill_keys,
    note_isotopes,
    open_text,
    read_text,
)
from xtalfill.inputs.structures.hdf5 import read_crystals
from xtalfill.inputs.structures.jsonrecords import (
    is_ase_database,
    parse_json,
    read_json,
    read_json_lines,
    read_json_list,
)

# Most atoms of a frame of extended XYZ; a larger number is no number of atoms of a crystal.
MAX_FRAME = 1_000_000
# A longer line is no line of extended XYZ.
_MAX_LINE = 1 << 20
_KINDS = {
    "cif": "CIF", "poscar": "POSCAR", "extxyz": "extended XYZ", "ase": "ASE database",
    "jsonlines": "JSON lines", "hdf5": "HDF5",
}  # fmt: skip


def file_format(path: Path) -> str | None:
    """Return a key of `_READERS` from the name of a file, or None."""
    name = path.name.lower().removesuffix(".gz")
    if name.endswith((".cif", ".mcif")):
        return "cif"
    if name.endswith((".vasp", ".poscar")) or re.match(r"(poscar|contcar)", name):
        return "poscar"
    if name.endswith((".xyz", ".extxyz")):
        return "extxyz"
    kinds = {
        ".db": "ase", ".json": "json", ".jsonl": "jsonlines", ".ndjson": "jsonlines",
        ".h5": "hdf5",
    }  # fmt: skip
    return kinds.get(Path(name).suffix)


def file_stem(path: Path) -> str:
    """Return the id suggested by a file name: Mg.cif.gz, POSCAR_Mg, Mg.vasp -> Mg."""
    name = re.sub(r"\.gz$", "", path.name, flags=re.IGNORECASE)
    bare = re.sub(
        r"\.(m?cif|vasp|poscar|xyz|extxyz|db|json|jsonl|ndjson|h5)$", "", name, flags=re.IGNORECASE
    )
    return re.sub(r"^(POSCAR|CONTCAR)[._-]+(?=.)", "", bare, flags=re.IGNORECASE)


def check_is_file(path: Path) -> None:
    """Check that a path is an ordinary file.

    Raises:
        InputError: The path is missing, a folder, a pipe or a device.
    """
    if path.is_dir():
        raise InputError("is a folder; name a file in it")
    if not path.exists():
        raise InputError("no such file; check the path")
    if not path.is_file():
        raise InputError("is a pipe or a device; write it to a file first")


def read_file(path: Path, *, source: str | None = None, stem: str | None = None) -> Iterator[Entry]:
    """Yield the structures of one file; what cannot be read is an entry with its error.

    Args:
        path: The file; its name determines the format.
        source: Its name in messages; by default the name of the file.
        stem: Start of the ids of its structures; by default from the name of the file.

    Yields:
        At least one entry. The structures before a damaged part of a file are kept.
    """
    source = path.name if source is None else source
    stem = file_stem(path) if stem is None else stem
    kind = file_format(path)
    found = False
    try:
        if kind is None:
            raise InputError(
                "the file name does not show the format; "
                "use .cif, .vasp, POSCAR*, .extxyz, .db or .json"
            )
        check_is_file(path)
        for entry in _READERS[kind](path, source, stem):
            found = True
            yield entry
        if not found:
            raise InputError("holds no structure")
    except Exception as error:  # noqa: BLE001 - one malformed file must not affect the others
        failed = Entry(source=source, fallback_id=f"{stem}_rest" if found else stem)
        failed.error = explain(error, kind=_KINDS.get(kind or "", kind or ""))
        yield failed


def _read_cif(path: Path, source: str, stem: str) -> list[Entry]:
    return read_cif(read_text(path), source=source, stem=stem)


def _read_poscar(path: Path, source: str, stem: str) -> list[Entry]:
    entry = Entry(source=source, fallback_id=stem)
    text = read_text(path)
    scale = text.splitlines()[1:2]
    if scale and len(scale[0].split()) == 3:
        # pymatgen supports only one scale factor; phonopy writes three.
        entry.atoms = read_vasp(io.StringIO(text))
        return [entry]
    from pymatgen.io.vasp import Poscar  # half of the imports of CHECK

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # Without symbols pymatgen would assign the elements H, He, Li, ...
        warnings.filterwarnings("error", message="Elements in POSCAR cannot be determined")
        try:
            structure = Poscar.from_str(text, read_velocities=False).structure
        except UserWarning as error:
            raise InputError(
                f"{one_line(error, limit=80)}; add the line with the element symbols"
            ) from error
    fill_from_pymatgen(entry, structure)
    return [entry]


def _frames(lines: Iterable[str]) -> Iterator[tuple[str, str | None]]:
    """Split extended XYZ into frames: (text, None), or ("", error) for an invalid rest."""
    numbered = enumerate(lines, start=1)
    for number, line in numbered:
        count = line.strip()
        if not count:
            continue
        if not re.fullmatch(r"\d{1,9}", count):
            found = one_line(count, limit=40)
            yield "", f"line {number}: expected the number of atoms, found {found!r}"
            return
        if int(count) > MAX_FRAME:
            yield "", f"line {number}: {count} atoms declared, more than the limit of {MAX_FRAME}"
            return
        rest = [text for _, text in itertools.islice(numbered, 1 + int(count))]
        if len(rest) < 1 + int(count):
            left = max(len(rest) - 1, 0)
            yield "", f"truncated: {count} atoms declared, {left} lines left"
            return
        yield "\n".join([line, *rest]) + "\n", None


def _read_extxyz(path: Path, source: str, stem: str) -> Iterator[Entry]:
    with open_text(path) as file:
        lines = iter(lambda: file.readline(_MAX_LINE), "")
        yield from frame_entries((line.rstrip("\r\n") for line in lines), source, stem)


def frame_entries(lines: Iterable[str], source: str, stem: str) -> Iterator[Entry]:
    """Yield an entry for each frame of extended XYZ.

    Args:
        lines: Lines of the file, without their ends.
        source: Its name, for messages.
        stem: The stem of the ids.
    """
    for number, (frame, problem) in enumerate(_frames(lines)):
        entry = Entry(source=f"{source} frame {number}", fallback_id=f"{stem}_{number}")
        if problem:
            entry.error = f"{problem}; the rest of the file is not read"
        else:
            fill_entry(entry, _fill_from_frame, frame, kind="extended XYZ")
        yield entry


def _fill_from_frame(entry: Entry, frame: str) -> None:
    head, comment, *rows = frame.splitlines()
    isotopes: set[str] = set()
    if re.search(r"Properties\s*=\s*\"?species:S:1", comment) or "Properties" not in comment:
        isotopes = {row.split()[0].upper() for row in rows if row.split()} & {"D", "T"}
        # ASE does not support isotopes.
        rows = [re.sub(r"^(\s*)[DTdt](?=\s)", r"\1H", row) for row in rows]
    text = "\n".join([head, comment, *rows]) + "\n"
    try:
        atoms = ase.io.read(io.StringIO(text), index=0, format="extxyz")
    except KeyError as error:
        raise InputError(
            f"unknown element {one_line(error.args[0])!r}; use the symbols of the periodic table"
        ) from error
    info = dict(atoms.info)
    for key in ID_KEYS:
        # Use the raw text: ASE turns id=007 into 7 and id=T into True.
        raw = re.search(rf"(?:^|\s){key}=(?:\"([^\"]*)\"|([^\s\"'{{\[]\S*))", comment)
        if raw and key in info:
            info[key] = raw[1] if raw[1] is not None else raw[2]
    fill_keys(entry, info)
    entry.atoms = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
    note_isotopes(entry, isotopes)


class _ReadOnlyDatabase(SQLite3Database):
    """ASE's database, opened read-only; it is never created."""

    def _connect(self) -> sqlite3.Connection:
        uri = f"file:{quote(str(self.filename))}?mode=ro"
        return sqlite3.connect(uri, uri=True, timeout=20)


def _read_ase(path: Path, source: str, stem: str) -> Iterator[Entry]:
    database = _ReadOnlyDatabase(str(path.resolve()), create_indices=False, use_lock_file=False)
    with database as connected:
        rows = connected.connection.execute("SELECT id FROM systems ORDER BY id").fetchall()
        for (row_id,) in rows:
            entry = Entry(source=f"{source} row {row_id}", fallback_id=f"{stem}_{row_id}")
            fill_entry(entry, _fill_from_database, connected, row_id, kind="ASE database row")
            yield entry


def _fill_from_database(entry: Entry, database: SQLite3Database, row_id: int) -> None:
    _fill_from_row(entry, database.get(id=row_id))


def _fill_from_row(entry: Entry, row: AtomsRow) -> None:
    # row.toatoms() would also build the constraints and a calculator.
    fill_keys(entry, {key: row.get(key) for key in (*ID_KEYS[1:], "element", "n_missing")})
    entry.atoms = Atoms(row.numbers, row.positions, cell=row.cell, pbc=row.pbc)


def _read_json(path: Path, source: str, stem: str) -> Iterator[Entry]:
    with open_text(path) as file:
        if (listed := read_json_list(file, source, stem)) is not None:
            yield from listed
            return
    text = read_text(path)
    data = parse_json(text)
    if is_ase_database(data):
        yield from _read_ase_json(text, source, stem)
    else:
        yield from read_json(data, source, stem)


def _read_json_lines(path: Path, source: str, stem: str) -> Iterator[Entry]:
    with open_text(path) as file:
        yield from read_json_lines(file, source, stem)


def _read_ase_json(text: str, source: str, stem: str) -> Iterator[Entry]:
    data = decode(text)
    for row_id in [int(number) for number in data["ids"]]:
        entry = Entry(source=f"{source} row {row_id}", fallback_id=f"{stem}_{row_id}")
        fill_entry(entry, _fill_from_ase_json, data.get(row_id), kind="ASE database row")
        yield entry


def _fill_from_ase_json(entry: Entry, row: dict[str, Any]) -> None:
    _fill_from_row(entry, AtomsRow(row))


_READERS: dict[str, Callable[[Path, str, str], Iterable[Entry]]] = {
    "cif": _read_cif,
    "poscar": _read_poscar,
    "extxyz": _read_extxyz,
    "ase": _read_ase,
    "json": _read_json,
    "jsonlines": _read_json_lines,
    "hdf5": read_crystals,
}
