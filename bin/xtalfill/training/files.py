"""Write training files: crystals as flat arrays in HDF5 (docs/training.md, Data)."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

import h5py
import numpy as np
from ase import Atoms
from ase.data import chemical_symbols

from xtalfill.core.crystal import FRACTION_UNIT, Crystal
from xtalfill.core.errors import InputError
from xtalfill.core.io import replacing
from xtalfill.training.split import sorted_system


def write_training_file(
    path: str | Path, crystals: Sequence[Atoms], *, held_out: Collection[str] = ()
) -> None:
    """Write complete crystals as a training file.

    Args:
        path: File to write.
        crystals: Periodic crystals with all of their sites; `info["id"]` becomes the material id.
        held_out: Chemical systems, e.g. "Mg-H-O", whose crystals are for validation only.

    Raises:
        InputError: There is no crystal, one is not periodic, or a held-out system has none.
    """
    if not crystals:
        raise InputError(f"{path}: no crystals; give at least one")
    for number, atoms in enumerate(crystals):
        if not (atoms.pbc.all() and atoms.cell.rank == 3):
            raise InputError(f"crystal {number} ({atoms.symbols}) is not periodic; give a cell")
    systems = [chemical_system(atoms.numbers) for atoms in crystals]
    wanted = set(map(sorted_system, held_out))
    if absent := sorted(wanted - set(systems)):
        raise InputError(f"held_out: no crystal has the system {absent[0]}; name one of the data")
    arrays = crystal_arrays(
        [Crystal(one.numbers, one.positions, one.cell.array) for one in crystals]
    )
    arrays["is_validation"] = np.array([system in wanted for system in systems])
    names = [str(atoms.info.get("id", "")) for atoms in crystals]
    arrays["material_id"] = np.array([name.encode() for name in names])
    write_arrays(Path(path), arrays)


def crystal_arrays(crystals: Sequence[Crystal]) -> dict[str, np.ndarray]:
    """Return the datasets of a training file; none of the crystals is held out."""
    n_atoms = np.array([len(crystal.numbers) for crystal in crystals], dtype=np.int64)
    fractions = [crystal.positions @ np.linalg.inv(crystal.cell) for crystal in crystals]
    fixed_point = np.round(np.concatenate([f % 1.0 for f in fractions]) * FRACTION_UNIT)
    return {
        "atomic_number": np.concatenate([one.numbers for one in crystals]).astype(np.uint8),
        "frac_coords": (fixed_point % FRACTION_UNIT).astype(np.uint16),
        "cell": np.stack([crystal.cell for crystal in crystals]).astype(np.float32),
        "offset": np.cumsum(n_atoms) - n_atoms,
        "n_atoms": n_atoms,
        "is_validation": np.zeros(len(crystals), dtype=bool),
    }


def write_arrays(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """Write the datasets of a training file in one step."""
    with replacing(path) as temporary, h5py.File(temporary, "w") as file:
        for name, values in arrays.items():
            file[name] = values


def chemical_system(numbers: np.ndarray) -> str:
    """Return the elements of atomic numbers, sorted by symbol and joined by "-"."""
    return "-".join(sorted(chemical_symbols[number] for number in np.unique(numbers)))
