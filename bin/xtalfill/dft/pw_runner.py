"""Run one pw.x calculation: attempt, diagnose, repair if possible, and try again.

    failure, message = PwRunner(system, machine, folders, limits).run()

Each attempt runs in the scratch folder. Its inputs and outputs are copied to the folder of the
task. After a failure the state is written to `checkpoint`, from which a restarted task continues.
"""

from __future__ import annotations

import gzip
import json
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from ase.units import Bohr, Rydberg

from xtalfill.core.errors import ConfigError, MemoryNeededError, TryAgainError
from xtalfill.core.io import write_json
from xtalfill.dft.failures import PwFailure, PwOutput, diagnose, explain
from xtalfill.dft.inputs import OUTDIR, PREFIX, PSEUDO_DIR, write_input
from xtalfill.dft.launch import Machine, Stopwatch, layout, run_pw
from xtalfill.dft.output import last_geometry, read_output, steps_of
from xtalfill.dft.repair import MAX_ATTEMPTS, FailedAttempt, Repair, repair
from xtalfill.dft.result import Attempt
from xtalfill.dft.system import PwSettings, PwSystem
from xtalfill.dft.xmlfile import IonicStep

STATE, DENSITY, KEPT = "state.json", "density", "kept"
SHARE_OF_TIME = 0.95  # of the remaining time; the rest is for an orderly end
MIN_SECONDS = 60.0  # an attempt with less time is not useful
_NO_DENSITY = ("wfc*", "*.UPF", "*.upf")

Judge = Callable[[PwOutput], PwFailure | None]


@dataclass(frozen=True)
class Folders:
    """Folders of a calculation.

    Attributes:
        pseudos: Contains the pseudopotentials.
        scratch: Working folder of pw.x; emptied first.
        kept: Gets inputs and outputs.
        checkpoint: Gets the state after each failure.
        previous: Checkpoint to continue from; None or a missing folder starts from the beginning.
    """

    pseudos: Path
    scratch: Path
    kept: Path
    checkpoint: Path
    previous: Path | None = None


@dataclass(frozen=True)
class Limits:
    """Limits of the task.

    Attributes:
        seconds: Time until the task is killed; None for no limit.
        last_chance: Whether this is the last attempt; a failure is then final for the structure.
        begin: Start of the task, by `time.monotonic`.
    """

    seconds: float | None = None
    last_chance: bool = True
    begin: float = field(default_factory=time.monotonic)

    def left(self) -> float | None:
        """Return the seconds that pw.x may use."""
        if self.seconds is None:
            return None
        return SHARE_OF_TIME * (self.seconds - (time.monotonic() - self.begin))

    def too_late(self) -> bool:
        """Return whether too little time is left for an attempt; a new task always runs one."""
        left = self.left()
        if left is None or self.seconds is None:
            return False
        return left < min(MIN_SECONDS, self.seconds / 2)


class PwRunner:
    """A calculation and its progress.

    Args:
        system: The calculation.
        machine: Where pw.x runs.
        folders: Folders of the calculation.
        limits: Limits of the task.
        judge: Diagnoses a run; by default with the force threshold of the protocol.

    Attributes:
        attempts: All runs of pw.x, in order.
        scaled: (n_atoms, 3) fractional coordinates of the last geometry.
        first: Result at the initial geometry; None if no run reached it.
        last: Result at the last geometry with an energy.
        last_run: Output of the last run with a data file.
    """

    def __init__(
        self,
        system: PwSystem,
        machine: Machine,
        folders: Folders,
        limits: Limits,
        *,
        judge: Judge | None = None,
    ) -> None:
        self.system, self.machine, self.folders, self.limits = system, machine, folders, limits
        self._judge = judge or self._by_forces
        ranks, pools = layout(machine.ranks, system.n_irreducible)
        self.settings = replace(system.first_settings(), ranks=ranks, pools=pools)
        self.attempts: list[Attempt] = []
        self.scaled = np.asarray(system.atoms.get_scaled_positions(wrap=False))
        self.first: IonicStep | None = None
        self.last: IonicStep | None = None
        self.last_run: PwOutput | None = None

    def run(self) -> tuple[PwFailure | None, str]:
        """Run pw.x until it converges, no repair is left, or the attempts are used up.

        Returns:
            The failure and the message of pw.x; (None, "") on success.

        Raises:
            TryAgainError: The time limit is reached; the checkpoint allows to continue.
            MemoryNeededError: The memory is too small and the task can get more.
            ConfigError: pw.x or a pseudopotential is missing.
        """
        self._prepare()
        while not self.limits.too_late():
            failure, run = self._attempt()
            if failure is None:
                shutil.rmtree(self.folders.checkpoint, ignore_errors=True)
                return None, ""
            message = explain(run, failure)
            step = self._next(failure, run)
            self._record_failure(failure, message, "" if step is None else step.action)
            if step is not None:
                self.settings = replace(step.settings, density_from_file=step.keep_density)
                self._clean(keep_density=step.keep_density)
            self._save()
            if step is None:
                return self._stop(failure, message)
        self._save()
        return self._stop(PwFailure.WALLTIME, "no time is left for another attempt")

    def _prepare(self) -> None:
        """Create the folders, link the pseudopotentials, and restore a checkpoint if present."""
        folders = self.folders
        shutil.rmtree(folders.scratch, ignore_errors=True)
        for folder in (folders.scratch / PSEUDO_DIR, folders.kept, folders.checkpoint):
            folder.mkdir(parents=True, exist_ok=True)
        for pseudo in self.system.pseudos.values():
            file = (folders.pseudos / pseudo.filename).resolve()
            if not file.is_file():
                raise ConfigError(
                    f"--pseudo_dir lacks {pseudo.filename}; give the folder that has it"
                )
            (folders.scratch / PSEUDO_DIR / pseudo.filename).symlink_to(file)
        if folders.previous is not None and (folders.previous / STATE).is_file():
            self._restore(folders.previous)

    def _attempt(self) -> tuple[PwFailure | None, PwOutput]:
        """Run pw.x once and diagnose the result."""
        name, scratch = f"pw.{len(self.attempts) + 1}", self.folders.scratch
        text = write_input(
            self.system, self.settings, scaled=self.scaled, max_seconds=self.limits.left()
        )
        (scratch / f"{name}.in").write_text(text, encoding="utf-8")
        watch = Stopwatch()
        code = run_pw(self.machine, self.settings, scratch, name=name)
        run = read_output(scratch, name, code)
        self._update(run, watch)
        self._archive(name)
        return self._judge(run), run

    def _by_forces(self, run: PwOutput) -> PwFailure | None:
        return diagnose(run, max_force=self.system.protocol.force_threshold * Rydberg / Bohr)

    def _update(self, run: PwOutput, watch: Stopwatch) -> None:
        """Update the state with the results of an attempt, failed or not."""
        steps = steps_of(run)
        if steps and self.first is None:
            self.first = steps[0]
        if steps:
            self.last = steps[-1]
        if run.data is not None:
            self.last_run = run
        scaled = last_geometry(run)
        if scaled is not None and scaled.shape == self.scaled.shape:
            self.scaled = scaled
        n_scf = sum(step.n_scf for step in steps)
        took = (watch.seconds, watch.cpu_seconds)
        self.attempts.append(Attempt(asdict(self.settings), "", "", "", len(steps), n_scf, *took))

    def _record_failure(self, failure: PwFailure, message: str, action: str) -> None:
        last = self.attempts[-1]
        self.attempts[-1] = replace(last, failure=failure.value, said=message, action=action)
        print(
            f"{self.system.name}: {failure} ({message}); {action or 'no corrective action left'}",
            file=sys.stderr,
        )

    def _next(self, failure: PwFailure, run: PwOutput) -> Repair | None:
        """Return the corrective action; None if there is none or no attempt is left."""
        failed = [one for one in self.attempts if one.failure != PwFailure.WALLTIME]
        if failure is PwFailure.WALLTIME or len(failed) >= MAX_ATTEMPTS:
            return None
        bands = None if run.data is None else run.data.n_bands
        first = self.system.protocol.electron_maxstep
        return repair(failure, FailedAttempt(self.settings, bands, self.system.n_electrons, first))

    def _stop(self, failure: PwFailure, message: str) -> tuple[PwFailure, str]:
        """Stop the task so that Nextflow restarts it, or return the failure."""
        name, again = self.system.name, not self.limits.last_chance
        if failure is PwFailure.WALLTIME and again:
            raise TryAgainError(
                f"{name}: time limit nearly reached; "
                "the next attempt resumes from the last geometry"
            )
        if failure is PwFailure.MEMORY and again:
            raise MemoryNeededError(
                f"{name}: pw.x needs more memory than this task has ({message})"
            )
        shutil.rmtree(self.folders.checkpoint, ignore_errors=True)  # no longer needed
        return failure, message

    def _archive(self, name: str) -> None:
        """Copy input, output and data file of an attempt to the folder of the task."""
        scratch, kept = self.folders.scratch, self.folders.kept
        shutil.copyfile(scratch / f"{name}.in", kept / f"{name}.in")
        pack(scratch / f"{name}.out", kept / f"{name}.out.gz")
        pack(scratch / OUTDIR / f"{PREFIX}.xml", kept / f"{name}.xml.gz")

    def _clean(self, *, keep_density: bool) -> None:
        """Remove the files of an attempt, except the density if the next attempt uses it."""
        out = self.folders.scratch / OUTDIR
        saved = out / f"{PREFIX}.save"
        for path in out.iterdir() if out.is_dir() else ():
            if path != saved or not keep_density:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        (self.folders.scratch / "CRASH").unlink(missing_ok=True)

    def _save(self) -> None:
        """Write the checkpoint. The state is written last and marks the checkpoint as complete."""
        saved = self.folders.scratch / OUTDIR / f"{PREFIX}.save"
        target, path = self.folders.checkpoint / DENSITY, self.folders.checkpoint / STATE
        path.unlink(missing_ok=True)
        shutil.rmtree(target, ignore_errors=True)
        # A run that was stopped early may have no density.
        if any(saved.glob("charge-density.*")):
            shutil.copytree(saved, target, ignore=shutil.ignore_patterns(*_NO_DENSITY))
        shutil.copytree(self.folders.kept, self.folders.checkpoint / KEPT, dirs_exist_ok=True)
        state: dict[str, Any] = {
            "key": self.system.key,
            "scaled": self.scaled.tolist(),
            "settings": asdict(self.settings),
            "attempts": [asdict(one) for one in self.attempts],
            "first": _step_as_json(self.first),
            "last": _step_as_json(self.last),
        }
        write_json(path, state)

    def _restore(self, folder: Path) -> None:
        """Continue from a checkpoint of an earlier task."""
        state = json.loads((folder / STATE).read_text(encoding="utf-8"))
        if state["key"] != self.system.key:
            raise ConfigError(
                f"{folder}: this is the checkpoint of {state['key']}; give that of this job"
            )
        self.scaled = np.asarray(state["scaled"], dtype=np.float64)
        self.attempts = [Attempt(**one) for one in state["attempts"]]
        self.first, self.last = (_step_from_json(state[name]) for name in ("first", "last"))
        shutil.copytree(folder / KEPT, self.folders.kept, dirs_exist_ok=True)
        saved = self.folders.scratch / OUTDIR / f"{PREFIX}.save"
        density = (folder / DENSITY).is_dir()
        if density:
            shutil.copytree(folder / DENSITY, saved)
        # Processes are those of this machine; everything else is as in the last attempt.
        ranks, pools = self.settings.ranks, self.settings.pools
        kept = PwSettings(**state["settings"])
        self.settings = replace(kept, ranks=ranks, pools=pools, density_from_file=density)


def pack(source: Path, target: Path) -> None:
    """Compress a file if it exists, without a time stamp, so that equal files stay equal."""
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
