"""PW_RELAX: relax one crystal with pw.x and return the result."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from xtalfill.dft.failures import PwFailure, diagnose_electrons
from xtalfill.dft.job import PwJob
from xtalfill.dft.launch import Machine
from xtalfill.dft.pw_runner import Folders, Limits, PwRunner
from xtalfill.dft.result import PwResult
from xtalfill.dft.xmlfile import IonicStep

# These failures leave a meaningful geometry and energy.
_UNFINISHED = (PwFailure.IONIC_STEPS, PwFailure.BFGS, PwFailure.WALLTIME)


def relax_job(job: PwJob, machine: Machine, folders: Folders, limits: Limits) -> PwResult:
    """Relax a crystal at fixed cell; if no atom may move, calculate its energy and forces once.

    Args:
        job: The crystal.
        machine: Where pw.x runs.
        folders: Folders of the calculation.
        limits: Limits of the task.

    Raises:
        TryAgainError, MemoryNeededError, ConfigError: See `PwRunner.run`.
    """
    judge = None if job.system.relaxes else diagnose_electrons
    runner = PwRunner(job.system, machine, folders, limits, judge=judge)
    failure, message_of_pw = runner.run()
    if failure is None:
        return _result(job, runner, "ok", "")
    words = failure.value.replace("_", " ")
    message = f"dft: {words} after {len(runner.attempts)} attempt(s): {message_of_pw}"
    unfinished = failure in _UNFINISHED and runner.last is not None
    return _result(job, runner, "unconverged" if unfinished else "failed", message)


def _result(job: PwJob, runner: PwRunner, status: str, message: str) -> PwResult:
    nothing = np.full((len(job.system.atoms), 3), np.nan)
    first = _in_job_setting(job, runner.first)
    last = None if status == "failed" else _in_job_setting(job, runner.last)
    data = runner.last_run.data if runner.last_run is not None else None
    forces = None if last is None else last.forces
    return PwResult(
        key=job.system.key,
        status=status,
        message=message,
        energy=np.nan if last is None else last.energy,
        positions=nothing if last is None else last.scaled @ job.cell,
        forces=nothing if forces is None else forces,
        energy_start=np.nan if first is None else first.energy,
        forces_start=nothing if first is None or first.forces is None else first.forces,
        magnetization=0.0 if data is None else data.magnetization,
        n_symmetry=0 if data is None else data.n_symmetry,
        version="" if data is None else data.version,
        attempts=runner.attempts,
    )


def _in_job_setting(job: PwJob, step: IonicStep | None) -> IonicStep | None:
    """Return a step in the orientation and with the origin of the job's crystal."""
    if step is None:
        return None
    forces = None if step.forces is None else step.forces @ job.rotation
    return replace(step, scaled=step.scaled + job.origin, forces=forces)
