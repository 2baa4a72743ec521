"""A job of pw.x: one crystal, relaxed with its cell fixed."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from xtalfill.dft.jobfile import check_crystal, check_key, read_content, refusing, write_content
from xtalfill.dft.protocols import Protocol
from xtalfill.dft.pseudos import SAFE_NAME, Pseudo
from xtalfill.dft.system import System

FORMAT = "xtalfill-dft-job 1"
_ARRAYS = ("positions", "cell", "rotation", "origin")


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

    def system(self) -> System:
        """Return what pw.x calculates: every atom may move."""
        return System(
            name=self.id,
            key=self.key,
            atoms=self.seen_by_pw(self.positions),
            protocol=self.protocol,
            pseudos=self.pseudos,
            valence=self.valence,
            ecutwfc=self.ecutwfc,
            ecutrho=self.ecutrho,
            kpoints=self.kpoints,
            n_irreducible=self.n_irreducible,
            degauss=self.protocol.degauss,
            smearing=self.protocol.smearing,
            extra=0,
            free=np.ones(len(self.symbols), dtype=bool),
            spin=self.spin,
        )


def write_job(job: Job, path: Path) -> None:
    """Write a job as JSON."""
    content: dict[str, Any] = {item.name: getattr(job, item.name) for item in fields(Job)}
    content["protocol"] = asdict(job.protocol)
    content["pseudos"] = {symbol: asdict(one) for symbol, one in job.pseudos.items()}
    content |= {name: getattr(job, name).tolist() for name in _ARRAYS}
    write_content(content, path, FORMAT)


def read_job(path: Path) -> Job:
    """Read and check a job.

    Raises:
        InputError: It is not a job that `write_job` wrote.
    """
    with refusing(path, "a job of PLAN_DFT"):
        content = read_content(path, FORMAT, [item.name for item in fields(Job)])
        content["protocol"] = Protocol(**content["protocol"])
        content["pseudos"] = {name: Pseudo(**one) for name, one in content["pseudos"].items()}
        for name in ("symbols", "kpoints"):
            content[name] = tuple(content[name])
        for name in _ARRAYS:
            content[name] = np.asarray(content[name], dtype=np.float64)
        job = Job(**content)
        check_key(job.key)
        check_crystal(len(job.symbols), job.positions, job.cell)
        _check(job)
    return job


def _check(job: Job) -> None:
    """Refuse what could lead outside of the job's folder or is no crystal as pw.x sees it."""
    if not all(SAFE_NAME.fullmatch(one.filename) for one in job.pseudos.values()):
        raise ValueError("a pseudopotential is no plain file name")
    identity = job.rotation @ job.rotation.T
    if job.rotation.shape != (3, 3) or not np.allclose(identity, np.eye(3), rtol=0, atol=1e-9):
        raise ValueError("the rotation is none")
    if job.origin.shape != (3,) or not np.isfinite(job.origin).all():
        raise ValueError("the origin is not finite")
    if not set(job.symbols) <= set(job.pseudos) & set(job.valence):
        raise ValueError("an element has no pseudopotential")
