"""Read one file of structures: POSCAR, extended XYZ, ASE database (cif.py, jsonrecords.py).

No reader evaluates or unpickles data.
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
from pymatgen.io.vasp import Poscar

from xtalfill.core.errors import InputError
from xtalfill.core.text import one_line
from xtalfill.inputs.structures.cif import read_cif
from xtalfill.inputs.structures.entry import (
    ID_KEYS,
    Entry,
    drop_shared_names,
    explain,
    fill_entry,
    fill_from_pymatgen,
    fill_keys,
    note_isotopes,
    read_text,
)
from xtalfill.inputs.structures.jsonrecords import is_ase_database, parse_json, read_json

# Most atoms of a frame of extended XYZ; a larger number is no number of atoms of a crystal.
MAX_FRAME = 1_000_000
_KINDS = {"cif": "CIF", "poscar": "POSCAR", "extxyz": "extended XYZ", "ase": "ASE database"}


def file_format(path: Path) -> str | None:
    """Return "cif", "poscar", "extxyz", "ase" or "json" from the name of a file, or None."""
    name = path.name.lower().removesuffix(".gz")
    if name.endswith((".cif", ".mcif")):
        return "cif"
    if name.endswith((".vasp", ".poscar")) or re.match(r"(poscar|contcar)", name):
        return "poscar"
    if name.endswith((".xyz", ".extxyz")):
        return "extxyz"
    kinds = {".db": "ase", ".json": "json", ".jsonl": "json", ".ndjson": "json"}
    return kinds.get(Path(name).suffix)


def file_stem(path: Path) -> str:
    """Return the id suggested by a file name: Mg.cif.gz, POSCAR_Mg, Mg.vasp -> Mg."""
    name = re.sub(r"\.gz$", "", path.name, flags=re.IGNORECASE)
    bare = re.sub(
        r"\.(m?cif|vasp|poscar|xyz|extxyz|db|json|jsonl|ndjson)$", "", name, flags=re.IGNORECASE
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


def read_file(path: Path) -> list[Entry]:
    """Read all structures of one file; a failure becomes an entry with its error.

    Args:
        path: The file; its name determines the format.

    Returns:
        At least one entry.
    """
    source, stem = path.name, file_stem(path)
    kind = file_format(path)
    failed = Entry(source=source, fallback_id=stem)
    if kind is None:
        failed.error = (
            "the file name does not show the format; "
            "use .cif, .vasp, POSCAR*, .extxyz, .db or .json"
        )
        return [failed]
    try:
        check_is_file(path)
        entries = _READERS[kind](path, source, stem)
        if not entries:
            raise InputError("holds no structure")
        drop_shared_names(entries)
    except Exception as error:  # noqa: BLE001 - one malformed file must not affect the others
        failed.error = explain(error, kind=_KINDS.get(kind, kind))
        return [failed]
    return entries


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


def _read_extxyz(path: Path, source: str, stem: str) -> list[Entry]:
    return list(frame_entries(read_text(path).splitlines(), source, stem))


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


def _read_ase(path: Path, source: str, stem: str) -> list[Entry]:
    return list(row_entries(path, source, stem))


def row_entries(path: Path, source: str, stem: str) -> Iterator[Entry]:
    """Yield an entry for each row of an ASE database (SQLite); arguments as `frame_entries`."""
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


def _read_json(path: Path, source: str, stem: str) -> list[Entry]:
    text = read_text(path)
    data = parse_json(text)
    if is_ase_database(data):
        return _read_ase_json(text, source, stem)
    return read_json(data, source, stem)


def _read_ase_json(text: str, source: str, stem: str) -> list[Entry]:
    data = decode(text)
    entries = []
    for row_id in [int(number) for number in data["ids"]]:
        entry = Entry(source=f"{source} row {row_id}", fallback_id=f"{stem}_{row_id}")
        fill_entry(entry, _fill_from_ase_json, data.get(row_id), kind="ASE database row")
        entries.append(entry)
    return entries


def _fill_from_ase_json(entry: Entry, row: dict[str, Any]) -> None:
    _fill_from_row(entry, AtomsRow(row))


_READERS: dict[str, Callable[[Path, str, str], list[Entry]]] = {
    "cif": _read_cif,
    "poscar": _read_poscar,
    "extxyz": _read_extxyz,
    "ase": _read_ase,
    "json": _read_json,
}
