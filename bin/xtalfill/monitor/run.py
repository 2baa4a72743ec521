"""A run and its tasks: `.xtalfill/run.json`, which Nextflow's side writes, and the trace."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from xtalfill.core.errors import InputError
from xtalfill.core.io import read_json
from xtalfill.monitor.tasks import Task, read_trace, read_unfinished

RECORD = Path(".xtalfill", "run.json")
# RELAX and INPAINT write a line every 30 s, and a scheduler may let all tasks wait for hours.
SILENT = timedelta(hours=6)


@dataclass(frozen=True)
class Batch:
    """What the plan says of a batch.

    Attributes:
        structures: Number of its structures.
        candidates: Number of its candidates.
        core_seconds: Estimate for each stage.
    """

    structures: int
    candidates: int
    core_seconds: Mapping[str, float]


@dataclass(frozen=True)
class Run:
    """A run at one moment.

    Attributes:
        record: What run.json says.
        batches: The plan; empty before CHECK has ended, and for a training.
        tasks: The tasks that have ended, each attempt.
        open: The tasks that run or wait.
        state: "running", "finished", "failed", "stopped" (it died), or "silent" (perhaps).
        now: The moment; of a run that has ended, its end.
    """

    record: Mapping[str, Any]
    batches: Mapping[str, Batch]
    tasks: list[Task]
    open: list[Task]
    state: str
    now: datetime

    @property
    def started(self) -> datetime:
        """When the run began."""
        return datetime.fromisoformat(self.record["started"])

    @property
    def live(self) -> bool:
        """Whether tasks may still end."""
        return self.state in {"running", "silent"}


def read_run(outdir: Path, *, now: datetime | None = None) -> Run:
    """Read the state of a run from its files.

    Args:
        outdir: The --outdir of the run.
        now: The moment; None for the present one.

    Raises:
        InputError: No run wrote there, or a file of it is damaged.
    """
    path = outdir / RECORD
    if not path.is_file():
        raise InputError(
            f"{outdir}: no run here (no {RECORD}); give the --outdir of a run of this release"
        )
    record = read_json(path)
    trace = Path(record["trace"])
    tasks = read_trace(trace if trace.is_file() else outdir / "pipeline_info" / "trace.txt")
    now = now or datetime.now(UTC)
    begun = datetime.fromisoformat(record["started"])
    unfinished = []
    if record["ended"] is None:
        unfinished = read_unfinished(Path(record["work"]), [task.folder for task in tasks], begun)
    state = _state(record, outdir, _last_sign([path, trace], unfinished), now)
    if state not in {"running", "silent"}:
        now = _end(record, tasks, begun)
    plan = record["plan"] or {"batches": {}}
    batches = {name: Batch(**one) for name, one in plan["batches"].items()}
    return Run(record, batches, tasks, unfinished, state, now)


def _state(record: Mapping[str, Any], outdir: Path, sign: datetime, now: datetime) -> str:
    if record["ended"] is not None:
        return "finished" if record["success"] else "failed"
    if not (outdir / ".xtalfill" / "lock").exists():
        return "stopped"  # a run removes its lock whenever it can
    if record["host"] == socket.gethostname():
        return "running" if _alive(record["pid"]) else "stopped"
    return "silent" if now - sign > SILENT else "running"


def _alive(pid: int) -> bool:
    """Return whether a process of this machine is there and is a Java one."""
    try:
        return b"java" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        pass  # gone, or no /proc here
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return not Path("/proc/self").exists()


def _last_sign(files: list[Path], tasks: list[Task]) -> datetime:
    logs = [task.folder / ".command.log" for task in tasks]
    times = [path.stat().st_mtime for path in (*files, *logs) if path.exists()]
    return datetime.fromtimestamp(max(times), UTC)


def _end(record: Mapping[str, Any], tasks: list[Task], begun: datetime) -> datetime:
    """Return when a run ended: what it noted, or the end of its last task."""
    if record["ended"] is not None:
        return datetime.fromisoformat(record["ended"])
    ends = [task.started + timedelta(seconds=task.elapsed(task.started)) for task in tasks]
    return max((end for end in ends if end >= begun), default=begun)
