"""A job of pw.x: one crystal, relaxed with its cell fixed, and the settings a repair may change."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from xtalfill.dft.protocols import Protocol
from xtalfill.dft.pseudos import Pseudo
from xtalfill.errors import InputError

FORMAT = "xtalfill-dft-job"
VERSION = 1
_ARRAYS = ("positions", "cell", "rotation", "origin")
_KEY = re.compile(r"[A-Za-z0-9_]+\.\d{1,9}")
_FILE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,120}")


@dataclass(frozen=True)
class Settings:
    """What the corrective actions change between attempts; the rest of a job never changes.

    Attributes:
        mixing_beta: Share of the new density in each step of the self-consistency.
        mixing_mode: "plain" or "local-TF".
        mixing_ndim: Densities that the mixing remembers.
        electron_maxstep: Steps that one self-consistency may take.
        diagonalization: "david", "paro" or "cg".
        diago_david_ndim: Size of Davidson's workspace, in bands.
        nstep: Ionic steps.
        ion_dynamics: "bfgs" or "damp".
        trust_radius_min: bohr; smallest step of BFGS.
        nbnd: Bands; None leaves them to pw.x.
        ranks: MPI processes.
        pools: Groups of processes that share the k-points.
        density_from_file: Start from the density of the last attempt.
    """

    mixing_beta: float
    electron_maxstep: int
    nstep: int
    mixing_mode: str = "plain"
    mixing_ndim: int = 8
    diagonalization: str = "david"
    diago_david_ndim: int = 2
    ion_dynamics: str = "bfgs"
    trust_radius_min: float = 1e-3
    nbnd: int | None = None
    ranks: int = 1
    pools: int = 1
    density_from_file: bool = False


@dataclass(frozen=True)
class Job:
    """One crystal to relax.

    Attributes:
        key: "<batch>.<system>", unique in a run; a safe file name.
        id: The structure's name.
        method: Proposal method, or "reference".
        sample: Number of the candidate.
        protocol: How accurate.
        symbols: (n_atoms,) of the elements.
        positions: (n_atoms, 3) Angstrom.
        cell: (3, 3) Angstrom; rows are a, b, c.
        pseudos: Element -> its pseudopotential.
        valence: Element -> valence electrons of its pseudopotential.
        ecutwfc: Ry.
        ecutrho: Ry.
        kpoints: Divisions of the Gamma-centred mesh.
        n_irreducible: k-points that symmetry leaves.
        n_symmetry: Symmetry operations of the crystal.
        rotation: (3, 3) orthogonal R; pw.x gets the lattice vectors as cell @ R.T.
        origin: (3,) fractional; pw.x gets the crystal with its origin there.
        shift: Angstrom; the farthest that an atom was moved to restore its symmetry.
        spin: Whether the calculation is spin-polarised (collinear).
    """

    key: str
    id: str
    method: str
    sample: int
    protocol: Protocol
    symbols: tuple[str, ...]
    positions: np.ndarray
    cell: np.ndarray
    pseudos: dict[str, Pseudo]
    valence: dict[str, float]
    ecutwfc: float
    ecutrho: float
    kpoints: tuple[int, int, int]
    n_irreducible: int
    n_symmetry: int
    rotation: np.ndarray
    origin: np.ndarray
    shift: float = 0.0
    spin: bool = False

    def atoms(self, positions: np.ndarray | None = None) -> Atoms:
        """Return the crystal, at other positions where they are given, (n_atoms, 3) Angstrom."""
        where = self.positions if positions is None else positions
        return Atoms(list(self.symbols), positions=where, cell=self.cell, pbc=True)

    def seen_by_pw(self, positions: np.ndarray) -> Atoms:
        """Return the crystal as pw.x gets it, from its positions, (n_atoms, 3) Angstrom."""
        scaled = np.linalg.solve(self.cell.T, positions.T).T - self.origin
        cell = self.cell @ self.rotation.T
        return Atoms(list(self.symbols), scaled_positions=scaled, cell=cell, pbc=True)

    @property
    def n_electrons(self) -> float:
        """Valence electrons of the cell."""
        return sum(self.valence[symbol] for symbol in self.symbols)

    def first_settings(self) -> Settings:
        """Return the settings of the first attempt."""
        return Settings(
            mixing_beta=self.protocol.mixing_beta,
            electron_maxstep=self.protocol.electron_maxstep,
            nstep=self.protocol.nstep,
        )


def write_job(job: Job, path: Path) -> None:
    """Write a job as JSON."""
    content: dict[str, Any] = {"format": FORMAT, "version": VERSION}
    content |= {item.name: getattr(job, item.name) for item in fields(Job)}
    content["protocol"] = asdict(job.protocol)
    content["pseudos"] = {symbol: asdict(one) for symbol, one in job.pseudos.items()}
    content |= {name: getattr(job, name).tolist() for name in _ARRAYS}
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def read_job(path: Path) -> Job:
    """Read and check a job.

    Raises:
        InputError: It is not a job that `write_job` wrote.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if (content.pop("format"), content.pop("version")) != (FORMAT, VERSION):
            raise ValueError(f"not of format {FORMAT} {VERSION}")
        content["protocol"] = Protocol(**content["protocol"])
        content["pseudos"] = {name: Pseudo(**one) for name, one in content["pseudos"].items()}
        content["symbols"], content["kpoints"] = (
            tuple(content["symbols"]),
            tuple(content["kpoints"]),
        )
        for name in _ARRAYS:
            content[name] = np.asarray(content[name], dtype=np.float64)
        job = Job(**content)
        _check(job)
    except (OSError, ValueError, TypeError, LookupError, AttributeError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{path.name}: not a job of PLAN_DFT ({reason}); run it again") from error
    return job


def _check(job: Job) -> None:
    """Refuse what could lead outside of the job's folder or is no crystal."""
    if not _KEY.fullmatch(job.key):
        raise ValueError(f"key {job.key!r} is unsafe")
    if not all(_FILE.fullmatch(one.filename) for one in job.pseudos.values()):
        raise ValueError("a pseudopotential is no plain file name")
    if job.positions.shape != (len(job.symbols), 3) or job.cell.shape != (3, 3):
        raise ValueError("positions or cell are not of their shape")
    if not (np.isfinite(job.positions).all() and np.isfinite(job.cell).all()):
        raise ValueError("positions or cell are not finite")
    identity = job.rotation @ job.rotation.T
    if job.rotation.shape != (3, 3) or not np.allclose(identity, np.eye(3), rtol=0, atol=1e-9):
        raise ValueError("the rotation is none")
    if job.origin.shape != (3,) or not np.isfinite(job.origin).all():
        raise ValueError("the origin is not finite")
    if not set(job.symbols) <= set(job.pseudos) & set(job.valence):
        raise ValueError("an element has no pseudopotential")
