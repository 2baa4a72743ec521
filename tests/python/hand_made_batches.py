"""Batches made by hand from real crystals, with known answers, for the tests after SELECT."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.spacegroup import crystal

from dft_examples import protocol
from xtalfill.core.batch import REFERENCE, Batch, Stage

SEED = 42
STIFFNESS = 2.0  # eV/A^2 of the harmonic well that stands for the potential


def brucite() -> Atoms:
    """Mg(OH)2, P-3m1, a = 3.150, c = 4.770 A (neutron diffraction of brucite); H last."""
    cell = [3.150, 3.150, 4.770, 90, 90, 120]
    basis = [(0, 0, 0), (1 / 3, 2 / 3, 0.2203), (1 / 3, 2 / 3, 0.4130)]
    return crystal(("Mg", "O", "H"), basis, spacegroup=164, cellpar=cell)


def lithium_hydride() -> Atoms:
    """LiH, rock salt, a = 4.083 A, cubic cell; H last."""
    return crystal(
        ("Li", "H"), [(0, 0, 0), (0.5, 0.5, 0.5)], spacegroup=225, cellpar=[4.083] * 3 + [90] * 3
    )


@dataclass
class Made:
    """One candidate: displacements in Angstrom of its missing sites from the true ones.

    Attributes:
        proposed: (3,) or (n_missing, 3), before the relaxation.
        relaxed: The same after it.
        energy: eV above the reference; None takes the harmonic well.
    """

    proposed: Sequence = (0.1, 0.0, 0.0)
    relaxed: Sequence = (0.0, 0.0, 0.0)
    energy: float | None = None
    status: str = "ok"
    message: str = ""
    method: str = "host"


@dataclass
class Case:
    """One structure: the true crystal with its missing sites last, and its candidates.

    The reference is the true crystal repeated `reference_repeat` times.
    """

    id: str
    atoms: Atoms
    n_missing: int
    candidates: list[Made] = field(default_factory=list)
    with_reference: bool = True
    reference_status: str = "ok"
    reference_repeat: tuple[int, int, int] = (1, 1, 1)


@dataclass
class _System:
    case: Case
    atoms: Atoms
    n_missing: int
    method: str
    sample: int
    proposed: np.ndarray
    relaxed: np.ndarray
    energy: float
    status: str
    message: str


def _systems(case: Case) -> list[_System]:
    n_host = len(case.atoms) - case.n_missing
    systems, numbers = [], {}
    for made in case.candidates:
        proposed, relaxed = case.atoms.positions.copy(), case.atoms.positions.copy()
        proposed[n_host:] += np.asarray(made.proposed)
        relaxed[n_host:] += np.asarray(made.relaxed)
        away = relaxed[n_host:] - case.atoms.positions[n_host:]
        energy = STIFFNESS / 2 * float((away**2).sum()) if made.energy is None else made.energy
        if made.status == "failed":
            relaxed, energy = np.full_like(relaxed, np.nan), np.nan
        sample = numbers.setdefault(made.method, 0)
        numbers[made.method] += 1
        systems.append(
            _System(
                case,
                case.atoms,
                case.n_missing,
                made.method,
                sample,
                proposed,
                relaxed,
                energy - 10.0,
                made.status,
                made.message,
            )
        )
    if case.with_reference:
        systems.append(_reference(case))
    return systems


def _reference(case: Case) -> _System:
    times = int(np.prod(case.reference_repeat))
    atoms = case.atoms.repeat(case.reference_repeat)
    missing = np.tile(np.arange(len(case.atoms)) >= len(case.atoms) - case.n_missing, times)
    atoms = atoms[np.argsort(missing, kind="stable")]
    message = "" if case.reference_status == "ok" else "relax_positions: not converged"
    return _System(
        case,
        atoms,
        times * case.n_missing,
        REFERENCE,
        0,
        atoms.positions,
        atoms.positions,
        -10.0 * times,
        case.reference_status,
        message,
    )


def _ranks(systems: list[_System]) -> dict[str, np.ndarray]:
    """Rank the usable candidates of each structure and method; every one is its own minimum."""
    n = len(systems)
    rank, rank_of_all, gap = np.full(n, -1), np.full(n, -1), np.full(n, np.nan)
    groups: dict[tuple[str, ...], list[int]] = {}
    for index, system in enumerate(systems):
        if system.method != REFERENCE:
            groups.setdefault((system.case.id, system.method), []).append(index)
            groups.setdefault((system.case.id,), []).append(index)
    for key, members in groups.items():
        usable = [index for index in members if systems[index].status == "ok"]
        usable.sort(key=lambda i: (systems[i].energy, systems[i].sample, systems[i].method))
        ranks = rank_of_all if len(key) == 1 else rank
        ranks[usable] = np.arange(len(usable))
        if len(usable) > 1 and ranks is rank:
            gap[members] = systems[usable[1]].energy - systems[usable[0]].energy
    found = {"rank": rank, "minimum": rank.copy(), "selected": rank == 0, "energy_gap": gap}
    together = {"rank_of_all": rank_of_all, "minimum_of_all": rank_of_all.copy()}
    return found | together | {"best_of_all": rank_of_all == 0}


def build(cases: Sequence[Case]) -> Batch:
    """Return a batch as SELECT leaves it."""
    systems = [system for case in cases for system in _systems(case)]
    size = [len(system.atoms) for system in systems]
    is_host = [np.arange(len(s.atoms)) < len(s.atoms) - s.n_missing for s in systems]
    given = [
        np.where(host[:, None] | (s.method == REFERENCE), s.atoms.positions, np.nan)
        for s, host in zip(systems, is_host, strict=True)
    ]
    ok = np.array([s.status == "ok" for s in systems])
    relaxed = np.concatenate([s.relaxed for s in systems])
    energy = np.array([s.energy for s in systems])
    numbers = {
        "energy": energy,
        "forces": np.where(np.isfinite(relaxed), 0.0, np.nan),
        "fmax": np.where(np.isfinite(energy), np.where(ok, 0.04, 0.2), np.nan),
        "n_steps": np.where(np.isfinite(energy), 12, 0),
        "converged": ok,
    }
    host_given = np.where(np.concatenate(is_host)[:, None], np.concatenate(given), relaxed)
    return Batch(
        positions=np.concatenate(given),
        atomic_numbers=np.concatenate([s.atoms.numbers for s in systems]),
        system_idx=np.repeat(np.arange(len(systems)), size),
        is_host=np.concatenate(is_host),
        cell=np.stack([s.atoms.cell.array for s in systems]),
        id=np.array([s.case.id for s in systems], dtype=object),
        method=np.array([s.method for s in systems], dtype=object),
        sample=np.array([s.sample for s in systems]),
        seed=np.full(len(systems), SEED),
        status=np.array([s.status for s in systems], dtype=object),
        message=np.array([s.message for s in systems], dtype=object),
        stages={
            "inpaint": Stage({"positions": np.concatenate([s.proposed for s in systems])}),
            "relax_sites": Stage({"positions": host_given, **numbers}),
            "relax_positions": Stage({"positions": relaxed, **numbers}),
            "select": Stage(_ranks(systems)),
        },
    )


def write_check(path: Path, cases: Sequence[Case], failures: Sequence[dict] = ()) -> Path:
    """Write the check.json that belongs to the cases."""
    structures = [
        {
            "id": case.id,
            "batch": "batch_0000.h5",
            "formula": case.atoms.get_chemical_formula(),
            "n_atoms": len(case.atoms),
            "element": case.atoms.get_chemical_symbols()[-1],
            "n_missing": case.n_missing,
            "source": f"{case.id}.cif",
            "reference": "true.extxyz" if case.with_reference else None,
            "notes": [],
        }
        for case in cases
    ]
    methods = sorted({made.method for case in cases for made in case.candidates})
    content = {
        "structures": structures,
        "failures": list(failures),
        "reference_failures": [],
        "parameters": {"methods": methods},
        "n_batches": 1,
    }
    path.write_text(json.dumps(content))
    return path


def add_dft(batch: Batch, *, message: str) -> None:
    """Give every system that has an energy one by DFT, 1.5 times as far from its reference."""
    relaxed, n = batch.stages["relax_positions"].arrays, batch.n_systems
    known = np.isfinite(relaxed["energy"])
    arrays = {name: relaxed[name] for name in ("positions", "forces")}
    arrays |= {name: np.where(known, 0.2, np.nan) for name in ("fmax_start", "fmax")}
    arrays["energy"] = -100.0 + 1.5 * (relaxed["energy"] + 10.0)
    arrays["status"] = np.where(known, "ok", "failed").astype(object)
    arrays["message"] = np.where(known, "", message).astype(object)
    arrays["n_attempts"] = np.full(n, 2, dtype=np.int32)
    arrays["symmetry_shift_host"] = np.where(known, 0.02, np.nan)
    arrays["symmetry_shift_filled"] = np.where(known, 0.01, np.nan)
    arrays["calculation"] = np.arange(n, dtype=np.int32)
    arrays["converged"] = known
    attrs = {"protocol": asdict(protocol("balanced")), "spin": False}
    attrs |= {"table": "sssp_1.3.0.json", "library": "SSSP 1.3.0 PBE efficiency"}
    attrs |= {"functional": "PBE"} | {"window": 0.01, "candidates": 3, "pw": ["6.7MaX"]}
    batch.stages["dft"] = Stage(arrays, attrs)
