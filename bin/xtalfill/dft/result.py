"""The result of a PW_RELAX job, stored as JSON."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np

from xtalfill.dft.serialization import input_errors, read_content, write_content

FORMAT = "xtalfill-dft-result 1"
STATUSES = ("ok", "unconverged", "failed")


@dataclass(frozen=True)
class Attempt:
    """One run of pw.x.

    Attributes:
        settings: Settings of the run (`xtalfill.dft.system.PwSettings`).
        failure: Kind of failure; empty on success.
        said: Error message of pw.x.
        action: Change for the next attempt; empty if there is none.
        n_steps: Number of ionic steps.
        n_scf: Total number of SCF steps; 0 if unknown.
        seconds: Wall time.
        cpu_seconds: CPU time summed over cores.
    """

    settings: dict[str, Any]
    failure: str
    said: str
    action: str
    n_steps: int
    n_scf: int
    seconds: float
    cpu_seconds: float


@dataclass(frozen=True)
class PwResult:
    """The result of a job; energies in eV per cell, lengths in Angstrom, forces in eV/Angstrom.

    Attributes:
        key: Key of the job.
        status: "ok", "unconverged" (the energy is that of the last step) or "failed".
        message: Reason in one line; empty if ok.
        energy: Energy of the last geometry; NaN if failed.
        positions: (n_atoms, 3); NaN if failed.
        forces: (n_atoms, 3); NaN if failed.
        energy_start: Energy at the minimum of the interatomic potential.
        forces_start: (n_atoms, 3) forces there.
        magnetization: Bohr magnetons per cell.
        n_symmetry: Number of symmetry operations that pw.x used; 0 if unknown.
        version: Version of pw.x; empty without a data file.
        attempts: All runs, in order.
    """

    key: str
    status: str
    message: str
    energy: float
    positions: np.ndarray
    forces: np.ndarray
    energy_start: float
    forces_start: np.ndarray
    magnetization: float
    n_symmetry: int
    version: str
    attempts: list[Attempt] = field(default_factory=list)


_ARRAYS = ("positions", "forces", "forces_start")
_NUMBERS = ("energy", "energy_start", "magnetization")


def write_result(result: PwResult, path: Path) -> None:
    """Write a result as strict JSON; NaN becomes null."""
    content = asdict(result)
    content |= {name: _plain(getattr(result, name)) for name in (*_ARRAYS, *_NUMBERS)}
    write_content(content, path, FORMAT)


def _plain(value: Any) -> Any:
    array = np.asarray(value, dtype=np.float64)
    return array.tolist() if np.isfinite(array).all() else _nulls(array)


def _nulls(array: np.ndarray) -> Any:
    return None if array.ndim == 0 else [[None] * array.shape[1] for _ in array]


def read_result(path: Path) -> PwResult:
    """Read and check a result.

    Raises:
        InputError: The file is not a result that `write_result` wrote.
    """
    with input_errors(path, "a result of PW_RELAX"):
        names = [item.name for item in fields(PwResult)]
        content = read_content(path, FORMAT, names)
        if content["status"] not in STATUSES:
            raise ValueError("lacks a known status")
        for name in _ARRAYS:
            content[name] = np.array(content[name], dtype=np.float64).reshape(-1, 3)
        for name in _NUMBERS:
            content[name] = math.nan if content[name] is None else float(content[name])
        content["attempts"] = [Attempt(**one) for one in content["attempts"]]
        return PwResult(**content)
