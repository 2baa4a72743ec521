"""Batch format: the HDF5 file that the stages exchange.

A batch holds systems in flat arrays; a system is a candidate or a reference, each a complete
crystal. CHECK writes the missing sites as NaN. Every later stage copies the batch and adds a
group, so the last file contains the full history of its systems:

    batch = read_batch("batch_0000.h5")
    batch.stages["inpaint"] = Stage({"positions": positions}, {"method": "host"})
    write_batch(batch, "batch_0000.inpaint.h5")

Within a system the host sites come first, in input order. Rows of a cell are the lattice vectors
a, b, c. The file contains no time stamps: equal content gives equal bytes.

The HDF5 user block (512 bytes) holds format, version and the sha256 of the rest of the file, so
damage is detected before HDF5 parses the file.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from ase import Atoms

from xtalfill.core.errors import InputError
from xtalfill.core.io import replacing

FORMAT = "xtalfill-batch"
VERSION = 1
REFERENCE = "reference"
# "absent": the method has no further proposal; not a failure.
STATUSES = ("ok", "unconverged", "failed", "dropped", "absent")

UNITS = {
    "positions": "angstrom",
    "cell": "angstrom",
    "energy": "eV",
    "energy_start": "eV",
    "forces": "eV/angstrom",
    "forces_start": "eV/angstrom",
    "fmax": "eV/angstrom",
    "fmax_start": "eV/angstrom",
    "magnetization": "bohr magneton",
    "symmetry_shift_host": "angstrom",
    "symmetry_shift_filled": "angstrom",
    "host_shift": "angstrom",
    "largest_shift": "angstrom",
    "rmsd": "angstrom",
    "rmsd_per_site": "angstrom",
    "energy_gap": "eV",
    "energy_above_reference": "eV",
}

_ATOM_FIELDS = ("positions", "atomic_numbers", "system_idx", "is_host")
_SYSTEM_FIELDS = ("cell", "id", "method", "sample", "seed", "status", "message")
_DTYPES: dict[str, Any] = {
    "positions": np.float64,
    "atomic_numbers": np.int32,
    "system_idx": np.int64,
    "is_host": np.bool_,
    "cell": np.float64,
    "sample": np.int32,
    "seed": np.int64,
}
STAGE_ATOM_ARRAYS = ("positions", "forces", "forces_start")
_HEADER_SIZE = 512
# Exceptions that h5py raises for a damaged or forged file.
_HDF5_ERRORS: tuple[type[Exception], ...] = (
    ArithmeticError,
    AttributeError,
    LookupError,
    MemoryError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
)


@dataclass
class Stage:
    """Results of one stage.

    Attributes:
        arrays: Name -> array whose first axis is n_atoms or n_systems. Text arrays are
            numpy object arrays of str.
        attrs: Parameters of the stage; plain JSON values only.
    """

    arrays: dict[str, np.ndarray]
    attrs: dict[str, Any] = field(default_factory=dict)


@dataclass
class Batch:
    """Candidates of several structures, and their references, in flat arrays.

    Attributes:
        positions: (n_atoms, 3) Angstrom; NaN at the sites to fill.
        atomic_numbers: (n_atoms,) atomic numbers.
        system_idx: (n_atoms,) index of the system, ascending.
        is_host: (n_atoms,) True for a host site, False for a site to fill.
        cell: (n_systems, 3, 3) Angstrom; rows are a, b, c.
        id: (n_systems,) name of the structure, shared by its candidates.
        method: (n_systems,) proposal method, or "reference" for a reference structure.
        sample: (n_systems,) sample number, from 0.
        seed: (n_systems,) seed of the run; id, seed and sample determine the candidate.
        status: (n_systems,) one of `STATUSES`.
        message: (n_systems,) reason for the status in one line; empty if ok.
        stages: Group name -> results of the stage, in the order of execution.
    """

    positions: np.ndarray
    atomic_numbers: np.ndarray
    system_idx: np.ndarray
    is_host: np.ndarray
    cell: np.ndarray
    id: np.ndarray
    method: np.ndarray
    sample: np.ndarray
    seed: np.ndarray
    status: np.ndarray
    message: np.ndarray
    stages: dict[str, Stage] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Convert every field to its type and validate the batch."""
        for name in _ATOM_FIELDS + _SYSTEM_FIELDS:
            dtype = _DTYPES.get(name, object)
            setattr(self, name, np.asarray(getattr(self, name), dtype=dtype))
        self.validate()

    @property
    def n_systems(self) -> int:
        """Number of systems."""
        return len(self.id)

    @property
    def n_atoms(self) -> int:
        """Total number of atoms."""
        return len(self.atomic_numbers)

    def atoms_slice(self, index: int) -> slice:
        """Return the slice of the atoms of system `index` in the flat arrays."""
        start, stop = np.searchsorted(self.system_idx, [index, index + 1])
        return slice(int(start), int(stop))

    def groups(self) -> dict[str, list[int]]:
        """Return the candidates of each structure, ordered by method and sample.

        References are not included; see `reference_of`.
        """
        found: dict[str, list[int]] = {}
        for index in range(self.n_systems):
            if self.method[index] != REFERENCE:
                found.setdefault(self.id[index], []).append(index)
        return {
            name: sorted(members, key=lambda i: (self.method[i], self.sample[i]))
            for name, members in sorted(found.items())
        }

    def groups_by_method(self) -> list[list[int]]:
        """Return the candidates of each structure and method, ordered by sample."""
        found: dict[tuple[str, str], list[int]] = {}
        for structure_id, members in self.groups().items():
            for index in members:
                found.setdefault((structure_id, self.method[index]), []).append(index)
        return list(found.values())

    def reference_of(self, structure_id: str) -> int | None:
        """Return the reference system of `structure_id`, or None."""
        hits = np.flatnonzero((self.id == structure_id) & (self.method == REFERENCE))
        return int(hits[0]) if len(hits) else None

    def to_ase(self, index: int, *, stage: str | None = None, host_only: bool = False) -> Atoms:
        """Return system `index` as ASE atoms, periodic in all directions.

        Args:
            index: System.
            stage: Stage whose positions are used; None for the input positions.
            host_only: Omit the sites to fill.
        """
        here = self.atoms_slice(index)
        positions = self.positions if stage is None else self.stages[stage].arrays["positions"]
        atoms = Atoms(
            numbers=self.atomic_numbers[here],
            positions=positions[here],
            cell=self.cell[index],
            pbc=True,
        )
        return atoms[self.is_host[here]] if host_only else atoms

    def fail(self, index: int, message: str) -> None:
        """Mark system `index` as failed; `message` gives the reason, joined to one line."""
        self.status[index] = "failed"
        self.message[index] = " ".join(message.split())

    def mark_absent(self, index: int, message: str) -> None:
        """Mark system `index` as absent: its method has no further proposal."""
        self.status[index] = "absent"
        self.message[index] = message

    def subset(self, systems: Sequence[int]) -> Batch:
        """Return a batch of some systems, including their stage results.

        Args:
            systems: Indices, ascending.
        """
        chosen = np.asarray(systems, dtype=np.int64)
        atoms = np.isin(self.system_idx, chosen)
        fields = {name: getattr(self, name)[atoms] for name in _ATOM_FIELDS}
        fields |= {name: getattr(self, name)[chosen] for name in _SYSTEM_FIELDS}
        fields["system_idx"] = np.searchsorted(chosen, fields["system_idx"])
        stages = {
            stage_name: Stage(
                {
                    name: array[atoms if name in STAGE_ATOM_ARRAYS else chosen]
                    for name, array in stage.arrays.items()
                },
                stage.attrs,
            )
            for stage_name, stage in self.stages.items()
        }
        return Batch(**fields, stages=stages)

    def extend(self, other: Batch) -> None:
        """Append the systems of another batch with the same stages and arrays.

        Raises:
            InputError: Two systems share id, method and sample.
        """
        other_idx = other.system_idx + self.n_systems
        for name in _ATOM_FIELDS + _SYSTEM_FIELDS:
            theirs = other_idx if name == "system_idx" else getattr(other, name)
            setattr(self, name, np.concatenate([getattr(self, name), theirs]))
        for stage_name, stage in self.stages.items():
            arrays = other.stages[stage_name].arrays
            stage.arrays = {
                name: np.concatenate([array, arrays[name]]) for name, array in stage.arrays.items()
            }
        self.validate()

    def validate(self) -> None:
        """Check shapes, order and values.

        Raises:
            InputError: The batch is inconsistent.
        """
        n_atoms, n_systems = self.n_atoms, self.n_systems
        for name in _ATOM_FIELDS:
            shape: tuple[int, ...] = (n_atoms, 3) if name == "positions" else (n_atoms,)
            _require(getattr(self, name).shape == shape, f"{name} does not have shape {shape}")
        for name in _SYSTEM_FIELDS:
            shape = (n_systems, 3, 3) if name == "cell" else (n_systems,)
            _require(getattr(self, name).shape == shape, f"{name} does not have shape {shape}")
        idx = self.system_idx
        ordered = n_atoms == 0 or (
            idx[0] >= 0 and idx[-1] < n_systems and (np.diff(idx) >= 0).all()
        )
        _require(bool(ordered), "system_idx is not ascending within the systems")
        _require(bool(np.isfinite(self.cell).all()), "a cell is not finite")
        hosts_finite = bool(np.isfinite(self.positions[self.is_host]).all())
        _require(hosts_finite, "a host position is not finite")
        _require(bool(np.isin(self.status, STATUSES).all()), f"a status is not one of {STATUSES}")
        keys = set(zip(self.id, self.method, self.sample, strict=True))
        _require(len(keys) == n_systems, "two systems share id, method and sample")
        for stage_name, stage in self.stages.items():
            for name, array in stage.arrays.items():
                expected = n_atoms if name in STAGE_ATOM_ARRAYS else n_systems
                _require(len(array) == expected, f"{stage_name}/{name} has {len(array)} rows")


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise InputError(f"batch is inconsistent: {message}")


def content_sha256(batch: Batch) -> str:
    """Return a checksum of the content of a batch, independent of the HDF5 layout."""
    digest = hashlib.sha256()

    def add(name: str, array: np.ndarray) -> None:
        if array.dtype == object:
            payload = json.dumps([str(item) for item in array]).encode()
        else:
            payload = np.ascontiguousarray(array).tobytes()
        digest.update(f"{name}|{array.dtype.str}|{array.shape}|{len(payload)}|".encode())
        digest.update(payload)

    for name in _ATOM_FIELDS + _SYSTEM_FIELDS:
        add(name, getattr(batch, name))
    for stage_name, stage in batch.stages.items():
        digest.update(f"{stage_name}|{_dump(stage.attrs)}|".encode())
        for name in sorted(stage.arrays):
            add(f"{stage_name}/{name}", stage.arrays[name])
    return digest.hexdigest()


def _dump(attrs: dict[str, Any]) -> str:
    return json.dumps(attrs, sort_keys=True)


def write_batch(batch: Batch, path: str | Path) -> None:
    """Write a batch atomically.

    Args:
        batch: Batch to validate and write.
        path: HDF5 file; an existing file is replaced.
    """
    batch.validate()
    path = Path(path)
    # Build the file in memory: HDF5 may crash the process when the disk is full.
    content = BytesIO()
    with h5py.File(content, "w", libver=("v110", "v110"), userblock_size=_HEADER_SIZE) as file:
        file.attrs["stages"] = json.dumps(list(batch.stages))
        for name in _ATOM_FIELDS + _SYSTEM_FIELDS:
            _write_array(file, name, getattr(batch, name))
        for stage_name, stage in batch.stages.items():
            group = file.create_group(stage_name)
            group.attrs["parameters"] = _dump(stage.attrs)
            for name in sorted(stage.arrays):
                _write_array(group, name, stage.arrays[name])
    with replacing(path) as temporary:
        temporary.write_bytes(content.getbuffer())
        seal(temporary)


def seal(path: Path) -> None:
    """Write format, version and checksum of an HDF5 file into its user block."""
    digest = hashlib.sha256(path.read_bytes()[_HEADER_SIZE:]).hexdigest()
    line = f"{FORMAT} {VERSION} {digest}\n".encode()
    with path.open("r+b") as file:
        file.write(line.ljust(_HEADER_SIZE, b"\0"))


def _check_seal(path: Path) -> None:
    """Raise `InputError` unless a file is an undamaged batch of this version; no parsing."""
    content = path.read_bytes()
    name, version, digest = [*content[:_HEADER_SIZE].rstrip(b"\0").split(), b"", b"", b""][:3]
    if name != FORMAT.encode():
        raise InputError(f"{path}: not an {FORMAT} file; give an HDF5 file written by CHECK")
    if version != str(VERSION).encode():
        raise InputError(
            f"{path}: batch version {version.decode(errors='replace')} is not supported (this "
            f"release reads version {VERSION}); use the release that wrote it, or rerun CHECK"
        )
    if digest != hashlib.sha256(content[_HEADER_SIZE:]).hexdigest().encode():
        raise InputError(f"{path}: checksum mismatch, the file is damaged; {_remedy(path)}")


def _remedy(path: Path) -> str:
    """Return how to write a batch again; Nextflow reuses files in a task folder unchecked."""
    file = path.resolve()
    for folder in file.parents:
        if (folder / ".command.run").is_file() and folder != Path.cwd():
            return (
                f"remove the folder of the task that wrote it (rm -r '{folder}') and repeat the "
                "command with -resume"
            )
    return "rerun the stage that wrote it"


def _write_array(group: h5py.Group, name: str, array: np.ndarray) -> None:
    text = array.dtype == object
    dataset = group.create_dataset(
        name,
        data=array,
        dtype=h5py.string_dtype() if text else array.dtype,
        track_times=False,
    )
    if name in UNITS:
        dataset.attrs["units"] = UNITS[name]


def read_batch(path: str | Path) -> Batch:
    """Read and validate a batch.

    Args:
        path: HDF5 file written by `write_batch`.

    Raises:
        InputError: The file is missing, damaged, not a batch, or of another version.
    """
    path = Path(path)
    try:
        _check_seal(path)
        with h5py.File(path, "r") as file:
            fields = {name: _read_array(file[name]) for name in _ATOM_FIELDS + _SYSTEM_FIELDS}
            stages = {
                name: Stage(
                    {key: _read_array(item) for key, item in file[name].items()},
                    json.loads(file[name].attrs["parameters"]),
                )
                for name in json.loads(file.attrs["stages"])
            }
    except _HDF5_ERRORS as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{path}: not a readable batch ({reason}); {_remedy(path)}") from error
    try:
        return Batch(**fields, stages=stages)
    except (InputError, ValueError, TypeError) as error:
        raise InputError(f"{path}: {error}; {_remedy(path)}") from error


def _read_array(dataset: h5py.Dataset) -> np.ndarray:
    if h5py.check_string_dtype(dataset.dtype):
        return np.asarray(dataset.asstr()[()], dtype=object)
    return np.asarray(dataset[()])
