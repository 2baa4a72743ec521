"""PW_RELAX: relax one crystal with pw.x, repairing what can be repaired.

    result = Relaxation(job, machine, folders, limits).run()

Each attempt runs in a scratch folder of its own job; after it, the output goes to the task's
folder and the state to `checkpoint`, from where a task that is started again goes on.
"""

from __future__ import annotations

import gzip
import json
import shutil
import sys
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from ase.units import Bohr, Rydberg

from xtalfill.dft.failures import Failure, Run, diagnose, explain
from xtalfill.dft.inputs import OUTDIR, PREFIX, PSEUDO_DIR, write_input
from xtalfill.dft.job import Job, Settings
from xtalfill.dft.launch import Machine, layout, run_pw
from xtalfill.dft.output import last_geometry, read_run, steps_of
from xtalfill.dft.repair import MAX_ATTEMPTS, Repair, Situation, repair
from xtalfill.dft.result import Attempt, Result
from xtalfill.dft.xmlfile import IonicStep
from xtalfill.errors import ConfigError, MemoryNeededError, TryAgainError

STATE, DENSITY = "state.json", "density"
SHARE_OF_TIME = 0.95  # of what is left to the task: the rest is for ending in order
LEAST_SECONDS = 60.0  # less is not worth starting an attempt
_NO_DENSITY = ("wfc*", "*.UPF", "*.upf")


@dataclass(frozen=True)
class Folders:
    """Where a job works.

    Attributes:
        pseudos: Holds the pseudopotentials.
        scratch: For pw.x; emptied at the end.
        kept: Gets inputs and outputs.
        checkpoint: Gets the state after each attempt.
        previous: A checkpoint to go on from; None or not there to begin anew.
    """

    pseudos: Path
    scratch: Path
    kept: Path
    checkpoint: Path
    previous: Path | None = None


@dataclass(frozen=True)
class Limits:
    """What the task was given.

    Attributes:
        seconds: Until it is killed; None without a limit.
        last_chance: Nothing starts it again: what it cannot do is then a failure of the job.
    """

    seconds: float | None = None
    last_chance: bool = True


class Relaxation:
    """One job and how far it is.

    Args:
        job: What to relax.
        machine: Where pw.x runs.
        folders: Where it works.
        limits: What the task was given.
    """

    def __init__(self, job: Job, machine: Machine, folders: Folders, limits: Limits) -> None:
        self.job, self.machine, self.folders, self.limits = job, machine, folders, limits
        self.begin = time.monotonic()
        self.attempts: list[Attempt] = []
        self.positions = job.positions
        ranks, pools = layout(machine.ranks, job.n_irreducible)
        self.settings = replace(job.first_settings(), ranks=ranks, pools=pools)
        self.first: IonicStep | None = None
        self.last: IonicStep | None = None
        self.run_of_last: Run | None = None

    def run(self) -> Result:
        """Relax until it converges, nothing is left to repair, or the attempts are used up.

        Raises:
            TryAgainError: The time is up; the checkpoint says where to go on.
            MemoryNeededError: The memory does not suffice and the task may be given more.
            ConfigError: pw.x or a pseudopotential is not there.
        """
        self._prepare()
        try:
            while True:
                failure, run = self._attempt()
                if failure is None:
                    return self._result("ok", "")
                said = explain(run, failure)
                step = self._next(failure, run)
                self._note(failure, said, "" if step is None else step.action)
                self._save()
                if step is None:
                    return self._give_up(failure, said)
                self.settings = replace(step.settings, density_from_file=step.keep_density)
                self._clean(keep_density=step.keep_density)
        finally:
            shutil.rmtree(self.folders.scratch, ignore_errors=True)

    @property
    def _max_seconds(self) -> float | None:
        if self.limits.seconds is None:
            return None
        return SHARE_OF_TIME * (self.limits.seconds - (time.monotonic() - self.begin))

    def _prepare(self) -> None:
        """Make the folders, go on from a checkpoint if there is one, link the pseudopotentials."""
        folders = self.folders
        for folder in (folders.scratch / PSEUDO_DIR, folders.kept, folders.checkpoint):
            folder.mkdir(parents=True, exist_ok=True)
        for pseudo in self.job.pseudos.values():
            file = (folders.pseudos / pseudo.filename).resolve()
            if not file.is_file():
                raise ConfigError(f"--pseudo_dir lacks {pseudo.filename}; give the right folder")
            (folders.scratch / PSEUDO_DIR / pseudo.filename).symlink_to(file)
        if folders.previous is not None and (folders.previous / STATE).is_file():
            self._restore(folders.previous)

    def _attempt(self) -> tuple[Failure | None, Run]:
        """Run pw.x once and judge it."""
        seconds = self._max_seconds
        if seconds is not None and seconds < LEAST_SECONDS and self.attempts:
            self._save()
            self._stop_for_time()
        name, scratch = f"pw.{len(self.attempts) + 1}", self.folders.scratch
        text = write_input(self.job, self.settings, positions=self.positions, max_seconds=seconds)
        (scratch / f"{name}.in").write_text(text, encoding="utf-8")
        begin = time.monotonic()
        code = run_pw(self.machine, self.settings, scratch, name=name)
        run = read_run(scratch, name, code)
        protocol = self.job.protocol
        failure = diagnose(run, max_force=protocol.force_threshold * Rydberg / Bohr)
        self._learn(run, seconds=time.monotonic() - begin)
        self._keep(name)
        return failure, run

    def _learn(self, run: Run, *, seconds: float) -> None:
        """Take over from an attempt what it found, whether or not it failed."""
        steps = [self._turned_back(step) for step in steps_of(run)]
        if steps and self.first is None:
            self.first = steps[0]
        if steps:
            self.last = steps[-1]
        if run.data is not None:
            self.run_of_last = run
        scaled = last_geometry(run)
        if scaled is not None and scaled.shape == self.positions.shape:
            self.positions = (scaled + self.job.origin) @ self.job.cell
        n_scf = sum(step.n_scf for step in steps)
        self.attempts.append(
            Attempt(asdict(self.settings), "", "", "", len(steps), n_scf, round(seconds, 3))
        )

    def _turned_back(self, step: IonicStep) -> IonicStep:
        """Return a step in the orientation of the job's cell, and with its origin."""
        forces = None if step.forces is None else step.forces @ self.job.rotation
        return replace(step, scaled=step.scaled + self.job.origin, forces=forces)

    def _note(self, failure: Failure, said: str, action: str) -> None:
        last = self.attempts[-1]
        self.attempts[-1] = replace(last, failure=failure.value, said=said, action=action)
        print(f"{self.job.id}: {failure} ({said}); {action or 'nothing left'}", file=sys.stderr)

    def _next(self, failure: Failure, run: Run) -> Repair | None:
        """Return the corrective action; None where there is none or the attempts are used up."""
        failed = [one for one in self.attempts if one.failure != Failure.WALLTIME]
        if failure is Failure.WALLTIME or len(failed) >= MAX_ATTEMPTS:
            return None
        bands = None if run.data is None else run.data.n_bands
        first = self.job.protocol.electron_maxstep
        return repair(failure, Situation(self.settings, bands, self.job.n_electrons, first))

    def _give_up(self, failure: Failure, said: str) -> Result:
        """Stop for Nextflow to start the task again, or say what is wrong with the structure."""
        if failure is Failure.WALLTIME and not self.limits.last_chance:
            self._stop_for_time()
        if failure is Failure.MEMORY and not self.limits.last_chance:
            raise MemoryNeededError(
                f"{self.job.id}: pw.x needs more memory than this task has ({said})"
            )
        message = f"dft: {failure.value.replace('_', ' ')} after {len(self.attempts)} attempt(s): "
        unfinished = failure in (Failure.IONIC_STEPS, Failure.BFGS, Failure.WALLTIME)
        status = "unconverged" if unfinished and self.last is not None else "failed"
        return self._result(status, message + said)

    def _stop_for_time(self) -> None:
        raise TryAgainError(f"{self.job.id}: the time is nearly up; goes on from its last geometry")

    def _result(self, status: str, message: str) -> Result:
        shutil.rmtree(self.folders.checkpoint, ignore_errors=True)  # nothing goes on from it
        nothing = np.full(self.job.positions.shape, np.nan)
        last = None if status == "failed" else self.last
        data = self.run_of_last.data if self.run_of_last is not None else None
        forces = None if last is None else last.forces
        first = self.first
        return Result(
            key=self.job.key,
            status=status,
            message=message,
            energy=np.nan if last is None else last.energy,
            positions=nothing if last is None else last.scaled @ self.job.cell,
            forces=nothing if forces is None else forces,
            energy_start=np.nan if first is None else first.energy,
            forces_start=nothing if first is None or first.forces is None else first.forces,
            magnetization=0.0 if data is None else data.magnetization,
            n_symmetry=0 if data is None else data.n_symmetry,
            version="" if data is None else data.version,
            attempts=self.attempts,
        )

    def _keep(self, name: str) -> None:
        """Copy input and output of an attempt to the task's folder, and its data file."""
        scratch, kept = self.folders.scratch, self.folders.kept
        shutil.copyfile(scratch / f"{name}.in", kept / f"{name}.in")
        _pack(scratch / f"{name}.out", kept / f"{name}.out.gz")
        _pack(scratch / OUTDIR / f"{PREFIX}.xml", kept / f"{name}.xml.gz")

    def _clean(self, *, keep_density: bool) -> None:
        """Remove what an attempt left for pw.x, except the density where it serves again."""
        out = self.folders.scratch / OUTDIR
        saved = out / f"{PREFIX}.save"
        for path in out.iterdir() if out.is_dir() else ():
            if path != saved or not keep_density:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        (self.folders.scratch / "CRASH").unlink(missing_ok=True)

    def _save(self) -> None:
        """Write the checkpoint: the state last, so that it is only found when all is there."""
        saved = self.folders.scratch / OUTDIR / f"{PREFIX}.save"
        target = self.folders.checkpoint / DENSITY
        if saved.is_dir():
            shutil.rmtree(target, ignore_errors=True)
            shutil.copytree(saved, target, ignore=shutil.ignore_patterns(*_NO_DENSITY))
        state: dict[str, Any] = {
            "key": self.job.key,
            "positions": self.positions.tolist(),
            "settings": asdict(self.settings),
            "attempts": [asdict(one) for one in self.attempts],
            "first": _step_as_json(self.first),
        }
        path = self.folders.checkpoint / STATE
        temporary = path.with_suffix(".tmp")
        temporary.write_text(json.dumps(state) + "\n", encoding="utf-8")
        temporary.replace(path)

    def _restore(self, folder: Path) -> None:
        """Go on from a checkpoint of an earlier task."""
        state = json.loads((folder / STATE).read_text(encoding="utf-8"))
        if state["key"] != self.job.key:
            raise ConfigError(f"{folder}: is the checkpoint of {state['key']}, not of this job")
        self.positions = np.asarray(state["positions"], dtype=np.float64)
        self.attempts = [Attempt(**one) for one in state["attempts"]]
        self.first = _step_from_json(state["first"])
        saved = self.folders.scratch / OUTDIR / f"{PREFIX}.save"
        density = (folder / DENSITY).is_dir()
        if density:
            shutil.copytree(folder / DENSITY, saved)
        # Processes are those of this machine; all else is as the last attempt left it.
        ranks, pools = self.settings.ranks, self.settings.pools
        kept = Settings(**state["settings"])
        self.settings = replace(kept, ranks=ranks, pools=pools, density_from_file=density)


def _pack(source: Path, target: Path) -> None:
    """Compress a file, if it is there; without a time stamp, so that equal ones stay equal."""
    if source.is_file():
        target.write_bytes(gzip.compress(source.read_bytes(), mtime=0))


def _step_as_json(step: IonicStep | None) -> dict[str, Any] | None:
    if step is None or step.forces is None:
        return None
    return {
        "scaled": step.scaled.tolist(),
        "energy": step.energy,
        "forces": step.forces.tolist(),
        "scf_converged": step.scf_converged,
        "n_scf": step.n_scf,
    }


def _step_from_json(content: dict[str, Any] | None) -> IonicStep | None:
    if content is None:
        return None
    arrays = {name: np.asarray(content[name]) for name in ("scaled", "forces")}
    return IonicStep(**{**content, **arrays})
