"""Read the structures of any input one by one, with bounded memory.

Extended XYZ, ASE databases (SQLite) and HDF5 are read structure by structure, folders and sheets
file by file. Other formats are read one file at a time, up to `entry.MAX_TEXT_BYTES`.
"""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
from ase import Atoms

from xtalfill.core.crystal import FRACTION_UNIT
from xtalfill.core.errors import InputError
from xtalfill.inputs.sheet import is_sheet
from xtalfill.inputs.structures.entry import Entry, explain
from xtalfill.inputs.structures.formats import (
    check_is_file,
    file_format,
    file_stem,
    frame_entries,
    read_file,
    row_entries,
)
from xtalfill.inputs.structures.sources import check_supported, sheet_entries, structure_files

# Crystals of an HDF5 file that are in memory at once.
_CHUNK = 1000
# A longer line is no line of extended XYZ.
_MAX_LINE = 1 << 20
_CRYSTALS = ("atomic_number", "frac_coords", "cell", "offset", "n_atoms")


@dataclass(frozen=True)
class Streamed:
    """A structure as read, and its file if that holds no other structure."""

    entry: Entry
    file: Path | None = None


def stream_structures(path: str | Path) -> Iterator[Streamed]:
    """Yield the structures of an input one by one.

    Args:
        path: As in `read_structures`; also HDF5 in the layout of the training files.

    Raises:
        InputError: The input as a whole cannot be read.
    """
    path = Path(path)
    if path.is_dir():
        for file in structure_files(path):
            yield from _stream_file(file)
        return
    check_supported(path, more=(".h5",))
    if is_sheet(path):
        for entry, file in sheet_entries(path):
            yield Streamed(entry, file if entry.error is None else None)
    else:
        yield from _stream_file(path)


def _stream_file(path: Path) -> Iterator[Streamed]:
    """Yield the structures of a file; what cannot be read is an entry with its error."""
    readers = {"extxyz": _frames, "ase": row_entries}
    kind = file_format(path)
    lazy = _crystals if path.suffix.lower() == ".h5" else readers.get(kind or "")
    if lazy is None:
        entries = read_file(path)
        alone = len(entries) == 1 and entries[0].error is None
        yield from (Streamed(entry, path if alone else None) for entry in entries)
        return
    stem = file_stem(path)
    found = False
    try:
        check_is_file(path)
        for entry in lazy(path, path.name, stem):
            found = True
            if entry.id_is_name:  # whether another structure shares it is not known yet
                entry.id, entry.id_is_name = None, False
            yield Streamed(entry)
        if not found:
            raise InputError("holds no structure")
    except Exception as error:  # noqa: BLE001 - as in read_file
        failed = Entry(source=path.name, fallback_id=f"{stem}_rest" if found else stem)
        failed.error = explain(error, kind=kind or "HDF5")
        yield Streamed(failed)


def _frames(path: Path, source: str, stem: str) -> Iterator[Entry]:
    opener = gzip.open if path.suffix.lower() == ".gz" else open
    with opener(path, "rt", encoding="utf-8-sig", errors="replace") as file:
        lines = iter(lambda: file.readline(_MAX_LINE), "")
        yield from frame_entries((line.rstrip("\r\n") for line in lines), source, stem)


def _crystals(path: Path, source: str, stem: str) -> Iterator[Entry]:
    """Yield the crystals of a training file (layout: `xtalfill.training.data.CrystalSet`)."""
    with h5py.File(path, "r") as file:
        if lacking := [name for name in _CRYSTALS if name not in file]:
            raise InputError(f"holds no dataset {lacking[0]!r}; give a file of crystals")
        numbers, fractions, cells, offsets, sizes = (file[name] for name in _CRYSTALS)
        names = file.get("material_id")
        for start in range(0, len(sizes), _CHUNK):
            part = slice(start, start + _CHUNK)
            begin, n_atoms = offsets[part], sizes[part].astype(int)
            first, last = int(begin.min()), int((begin + n_atoms).max())
            z, x = numbers[first:last], fractions[first:last] / FRACTION_UNIT
            lattice = cells[part].astype(float)
            ids = names[part] if names is not None else [None] * len(n_atoms)
            for index, name in enumerate(ids):
                here = slice(begin[index] - first, begin[index] - first + n_atoms[index])
                entry = Entry(f"{source} crystal {start + index}", f"{stem}_{start + index}")
                entry.id = name.decode(errors="replace") if name is not None else None
                cell: np.ndarray = lattice[index]
                entry.atoms = Atoms(z[here], x[here] @ cell, cell=cell, pbc=True)
                yield entry
