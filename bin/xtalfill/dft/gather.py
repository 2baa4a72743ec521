"""GATHER_DFT: add the stage "dft" to a batch from the plan and the results of its jobs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from xtalfill.core.batch import Batch, Stage
from xtalfill.core.errors import InputError
from xtalfill.dft.job import SHIFTS
from xtalfill.dft.result import PwResult
from xtalfill.dft.serialization import JOB_KILLED, check_keys

STAGE = "dft"


def gather_dft(
    batch: Batch, name: str, plan: Mapping[str, Any], results: Sequence[PwResult]
) -> None:
    """Add the stage "dft".

    Systems that were not selected have the status "" and no numbers. A system that shares the
    calculation of an identical crystal gets the same numbers. A job without a result was killed:
    every other end of its task leaves a result or stops the run.

    Args:
        batch: A batch after SELECT.
        name: Name of the batch.
        plan: Content of plan.json.
        results: Results of the jobs of the batch.

    Raises:
        InputError: A result belongs to no job of the plan or to another crystal.
    """
    by_key = {result.key: result for result in results}
    check_keys(by_key, plan)
    arrays = _empty(batch)
    for one in plan["systems"]:
        if one["batch"] != name:
            continue
        index, calculation = int(one["system"]), int(one["calculation"])
        arrays["calculation"][index] = calculation
        if one["refused"]:
            arrays["status"][index], arrays["message"][index] = "refused", one["refused"]
            continue
        key = f"{name}.{calculation}"
        for kind in SHIFTS:
            arrays[f"symmetry_{kind}"][index] = one[kind]
        if key in by_key:
            _fill(batch, index, arrays, by_key[key])
        else:
            arrays["status"][index], arrays["message"][index] = "failed", f"dft: {JOB_KILLED}"
    versions = sorted({result.version for result in results} - {""})
    batch.stages[STAGE] = Stage(arrays, {**plan["parameters"], "pw": versions})


def _empty(batch: Batch) -> dict[str, np.ndarray]:
    n_atoms, n = batch.n_atoms, batch.n_systems
    arrays: dict[str, np.ndarray] = {
        key: np.full((n_atoms, 3), np.nan) for key in ("positions", "forces", "forces_start")
    }
    numbers = ("energy", "energy_start", "fmax", "fmax_start", "magnetization")
    shifts = (f"symmetry_{kind}" for kind in SHIFTS)
    arrays |= {key: np.full(n, np.nan) for key in (*numbers, *shifts)}
    counts = ("n_steps", "n_attempts", "n_symmetry")
    arrays |= {key: np.zeros(n, dtype=np.int32) for key in counts}
    arrays |= {key: np.full(n, "", dtype=object) for key in ("status", "message", "repairs")}
    arrays["calculation"] = np.full(n, -1, dtype=np.int32)
    arrays["converged"] = np.zeros(n, dtype=np.bool_)
    return arrays


def _fill(batch: Batch, index: int, arrays: dict[str, np.ndarray], result: PwResult) -> None:
    here = batch.atoms_slice(index)
    if result.positions.shape != batch.positions[here].shape:
        raise InputError(
            f"{batch.id[index]}: the result of {result.key} belongs to another crystal"
        )
    for key in ("positions", "forces", "forces_start"):
        arrays[key][here] = getattr(result, key)
    for key in ("energy", "energy_start", "magnetization", "n_symmetry", "status", "message"):
        arrays[key][index] = getattr(result, key)
    arrays["fmax"][index] = _largest(result.forces)
    arrays["fmax_start"][index] = _largest(result.forces_start)
    arrays["converged"][index] = result.status == "ok"
    # Each later attempt calculates the geometry again where the one before it stopped.
    arrays["n_steps"][index] = sum(one.n_steps for one in result.attempts)
    arrays["n_attempts"][index] = len(result.attempts)
    arrays["repairs"][index] = "; ".join(
        f"{one.failure} -> {one.action or 'no repair left'}"
        for one in result.attempts
        if one.failure
    )


def _largest(forces: np.ndarray) -> float:
    """Return the largest norm of a force in eV/Angstrom."""
    return float(np.linalg.norm(forces, axis=1).max())
