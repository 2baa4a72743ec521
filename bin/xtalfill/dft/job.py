"""A pw.x job: one crystal to relax at fixed cell."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from xtalfill.dft.protocols import Protocol
from xtalfill.dft.pseudos import SAFE_NAME, Pseudo
from xtalfill.dft.serialization import (
    check_crystal,
    check_key,
    input_errors,
    read_content,
    write_content,
)
from xtalfill.dft.system import PwSystem

FORMAT = "xtalfill-dft-job 3"
SHIFTS = ("shift_host", "shift_filled")
_ARRAYS = ("rotation", "origin")


@dataclass(frozen=True)
class PwJob:
    """One crystal to relax, and the transformation back to the crystal's own setting.

    Attributes:
        system: The calculation.
        rotation: (3, 3) orthogonal R; pw.x gets the lattice vectors cell @ R.T.
        origin: (3,) fractional; pw.x gets the crystal with its origin there.
        n_symmetry: Number of symmetry operations of the crystal.
        shift_host: Largest displacement of a host atom by symmetrisation, in Angstrom.
        shift_filled: Largest displacement of a filled site by symmetrisation, in Angstrom.
    """

    system: PwSystem
    rotation: np.ndarray
    origin: np.ndarray
    n_symmetry: int
    shift_host: float = 0.0
    shift_filled: float = 0.0

    @property
    def cell(self) -> np.ndarray:
        """Lattice vectors of the crystal as rows, (3, 3) Angstrom."""
        return np.asarray(self.system.atoms.cell.array @ self.rotation)


def write_job(job: PwJob, path: Path) -> None:
    """Write a job as JSON."""
    system, atoms = job.system, job.system.atoms
    inner: dict[str, Any] = {item.name: getattr(system, item.name) for item in fields(PwSystem)}
    inner["atoms"] = {
        "symbols": system.symbols,
        "positions": atoms.positions.tolist(),
        "cell": atoms.cell.array.tolist(),
    }
    inner["protocol"] = asdict(system.protocol)
    inner["pseudos"] = {symbol: asdict(one) for symbol, one in system.pseudos.items()}
    inner["free"] = system.free.tolist()
    content: dict[str, Any] = {item.name: getattr(job, item.name) for item in fields(PwJob)}
    content["system"] = inner
    content |= {name: getattr(job, name).tolist() for name in _ARRAYS}
    write_content(content, path, FORMAT)


def read_job(path: Path) -> PwJob:
    """Read and check a job.

    Raises:
        InputError: The file is not a job that `write_job` wrote.
    """
    with input_errors(path, "a job of PLAN_DFT"):
        content = read_content(path, FORMAT, [item.name for item in fields(PwJob)])
        content["system"] = _system(content["system"])
        for name in _ARRAYS:
            content[name] = np.asarray(content[name], dtype=np.float64)
        job = PwJob(**content)
        _check(job)
    return job


def _system(content: dict[str, Any]) -> PwSystem:
    """Return the system stored in a job file."""
    atoms = content["atoms"]
    symbols = [str(symbol) for symbol in atoms["symbols"]]
    positions, cell = (np.asarray(atoms[name], dtype=np.float64) for name in ("positions", "cell"))
    check_crystal(len(symbols), positions, cell)
    content["atoms"] = Atoms(symbols, positions=positions, cell=cell, pbc=True)
    content["protocol"] = Protocol(**content["protocol"])
    content["pseudos"] = {name: Pseudo(**one) for name, one in content["pseudos"].items()}
    content["kpoints"] = tuple(content["kpoints"])
    content["free"] = np.asarray(content["free"], dtype=bool)
    return PwSystem(**content)


def _check(job: PwJob) -> None:
    """Check that a job stays inside its folder and describes a crystal that pw.x can run."""
    system = job.system
    check_key(system.key)
    if not all(SAFE_NAME.fullmatch(one.filename) for one in system.pseudos.values()):
        raise ValueError("a pseudopotential is not a plain file name")
    identity = job.rotation @ job.rotation.T
    if job.rotation.shape != (3, 3) or not np.allclose(identity, np.eye(3), rtol=0, atol=1e-9):
        raise ValueError("the rotation is not orthogonal")
    if job.origin.shape != (3,) or not np.isfinite(job.origin).all():
        raise ValueError("the origin is not finite")
    if system.free.shape != (len(system.atoms),):
        raise ValueError("free has the wrong shape")
    if not set(system.symbols) <= set(system.pseudos) & set(system.valence):
        raise ValueError("an element has no pseudopotential")
