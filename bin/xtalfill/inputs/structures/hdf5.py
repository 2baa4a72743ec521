"""Read crystals from HDF5 in the layout of the training files, some at a time."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
from ase import Atoms

from xtalfill.core.crystal import FRACTION_UNIT
from xtalfill.core.errors import InputError
from xtalfill.inputs.structures.entry import Entry

# Crystals that are in memory at once.
_CHUNK = 1000
_CRYSTALS = ("atomic_number", "frac_coords", "cell", "offset", "n_atoms")


def read_crystals(path: Path, source: str, stem: str) -> Iterator[Entry]:
    """Yield the crystals of a training file (layout: `xtalfill.training.data.CrystalSet`).

    Args:
        path: HDF5 file.
        source: Its name, for messages.
        stem: Start of the ids of crystals without one.

    Raises:
        InputError: The file lacks a dataset.
    """
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
