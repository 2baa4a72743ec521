"""Stages of a run: what is done, how fast, and how long the rest takes."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Container, Iterable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from xtalfill.monitor.run import Run
from xtalfill.monitor.tasks import COMPLETED, FAILED, RUNNING, WAITING, Task

# Every process, in the order of the pipeline.
ORDER = (
    "FETCH_INPUT", "FETCH_POTENTIAL", "COMPILE_POTENTIAL", "SHEET_FILES", "DIVIDE_INPUT",
    "JUDGE", "LIST_INCOMPLETE", "CHECK", "INPAINT",
    "PLAN_POTENTIAL", "PLACE_POTENTIAL", "GATHER_POTENTIAL", "RELAX", "SELECT", "PLAN_DFT",
    "PW_RELAX", "GATHER_DFT", "EVALUATE", "REGISTER", "STORE", "COLLECT", "REPORT", "TRAIN",
)  # fmt: skip
# The stages with a task for each batch whose cost the plan has, and those with one task.
PLANNED = ("INPAINT", "RELAX", "SELECT", "EVALUATE")
ONCE = ("CHECK", "COLLECT", "REPORT")


@dataclass(frozen=True)
class StageState:
    """One stage, i.e. one process of the pipeline.

    Attributes:
        name: Name of the process.
        done: Tasks that have ended with a result.
        total: Tasks that it will have; None where nobody knows yet.
        running: Tasks that run now.
        waiting: Tasks that the scheduler has not started.
        failed: Attempts that failed.
        structures: Structures of its finished batches.
        candidates: Candidates of its finished batches.
        statuses: Candidates by status after the stage, from the records of its tasks.
        per_minute: Candidates a minute since its first task; None without a finished task.
        core_seconds: Core time of its tasks, without those of the cache.
        left: Time left if it were alone, s; None where it is unknown.
    """

    name: str
    done: int
    total: int | None
    running: int
    waiting: int
    failed: int
    structures: int
    candidates: int
    statuses: Counter[str]
    per_minute: float | None
    core_seconds: float
    left: float | None


def stages_of(run: Run) -> list[StageState]:
    """Return the stages of a run, in the order of the pipeline."""
    seen = {task.process for task in [*run.tasks, *run.open]}
    coming = {*PLANNED, *ONCE} if run.batches else set()
    return [_stage(run, name) for name in ORDER if name in seen | coming]


def eta(run: Run, stages: Iterable[StageState]) -> float | None:
    """Return the time until the run ends, s; None if it has ended or nobody knows yet.

    The stages share the machine, so their times add up. DFT counts from its own plan on.
    """
    if not run.live or not run.batches:
        return None
    return sum(stage.left or 0.0 for stage in stages)


def slowest(run: Run, number: int) -> list[Task]:
    """Return the tasks of this run that took longest to end, the slowest first."""
    ended = [task for task in run.tasks if task.status == COMPLETED]
    return sorted(ended, key=lambda task: -task.elapsed(run.now))[:number]


def failures(run: Run) -> list[Task]:
    """Return the attempts that failed, the last first."""
    return [task for task in reversed(run.tasks) if task.status == FAILED]


def _stage(run: Run, name: str) -> StageState:
    tasks = [task for task in run.tasks if task.process == name]
    opened = [task for task in run.open if task.process == name]
    done = {task.tag: task for task in tasks if task.ended}
    batches = [run.batches[tag] for tag in done if tag in run.batches]
    candidates = sum(batch.candidates for batch in batches)
    computed = [task for task in done.values() if task.status == COMPLETED]
    used = (task.cpu_seconds for task in tasks if task.status in {COMPLETED, FAILED})
    return StageState(
        name=name,
        done=len(done),
        total=_total(run, name),
        running=sum(task.status == RUNNING for task in opened),
        waiting=sum(task.status == WAITING for task in opened),
        failed=sum(task.status == FAILED for task in tasks),
        structures=sum(batch.structures for batch in batches),
        candidates=candidates,
        statuses=_statuses(name, done.values()),
        per_minute=_rate(run, computed, opened),
        core_seconds=sum(seconds or 0.0 for seconds in used),
        left=_left(run, name, done, opened) if run.live else None,
    )


def _total(run: Run, name: str) -> int | None:
    if name in ONCE:
        return 1
    if name in PLANNED and run.batches:
        return len(run.batches)
    jobs = dft_jobs(run) if name == "PW_RELAX" else {}
    return len(jobs) or None


def dft_jobs(run: Run) -> dict[str, float]:
    """Return the core-seconds that PLAN_DFT expects of each job of pw.x; empty before it ended."""
    for task in run.tasks:
        if task.process == "PLAN_DFT" and task.ended:
            plan = _json(task.folder / "plan.json")
            jobs = plan.get("jobs", {})
            return {name: 3600.0 * one["core_hours"] for name, one in jobs.items()}
    return {}


def _statuses(name: str, tasks: Iterable[Task]) -> Counter[str]:
    """Sum the counts that the tasks of a stage have recorded in their folders."""
    counts: Counter[str] = Counter()
    for task in tasks:
        record = _json(task.folder / f"{name.lower()}_{task.tag}.json")
        counts.update(record.get("counts", {}))
    return counts


def _rate(run: Run, computed: list[Task], opened: list[Task]) -> float | None:
    candidates = sum(run.batches[t.tag].candidates for t in computed if t.tag in run.batches)
    if not candidates:
        return None
    begin = min(task.started for task in computed)
    end = max(task.started + timedelta(seconds=task.elapsed(run.now)) for task in computed)
    if opened:
        end = max(end, run.now)
    return 60 * candidates / max(1.0, (end - begin).total_seconds())


def _left(run: Run, name: str, done: Container[str], opened: list[Task]) -> float | None:
    """Return the time that the rest of a stage takes, s: its estimates, scaled to its speed.

    A stage without a finished task is scaled as the others are: the machine may be slow.
    """
    expected = _expected(run, name)
    if not expected:
        return None
    cores = _cores(run, name)
    own = _slowdown(run, [name])
    scale = (_slowdown(run, [*PLANNED, "PW_RELAX"]) or 1.0) / cores if own is None else own / cores
    begun = {task.tag: task.elapsed(run.now) for task in opened if task.status == RUNNING}
    rest = 0.0
    for tag, core_seconds in expected.items():
        if tag not in done:
            whole = scale * core_seconds
            rest += max(whole - begun.get(tag, 0.0), 0.1 * whole)
    seen = [task for task in run.tasks if task.process == name and task.status == COMPLETED]
    return rest / (_overlap([*seen, *opened], run) or max(1, int(run.record["cores"]) // cores))


def _slowdown(run: Run, names: Iterable[str]) -> float | None:
    """Return the time of tasks over their estimates; None without one.

    Tasks that have ended count, and running ones that already take longer than estimated.
    """
    seconds = estimate = 0.0
    for name in names:
        expected = _expected(run, name)
        for task in [*run.tasks, *run.open]:
            if task.process == name and task.tag in expected:
                planned = expected[task.tag] / _cores(run, name)
                late = task.status == RUNNING and task.elapsed(run.now) > planned
                if task.status == COMPLETED or late:
                    seconds += task.elapsed(run.now)
                    estimate += planned
    return seconds / estimate if estimate else None


def _cores(run: Run, name: str) -> int:
    """Return the cores of a task of a stage."""
    parameter = {"RELAX": "relax_cpus", "PW_RELAX": "dft_cpus"}.get(name)
    return min(int(run.record["settings"][parameter]), int(run.record["cores"])) if parameter else 1


def _expected(run: Run, name: str) -> dict[str, float]:
    if name == "PW_RELAX":
        return dft_jobs(run)
    return {
        tag: batch.core_seconds[name]
        for tag, batch in run.batches.items()
        if name in batch.core_seconds
    }


def _overlap(tasks: list[Task], run: Run) -> int:
    """Return the largest number of tasks that ran at the same time; 0 for no tasks."""
    events = []
    for task in tasks:
        if task.status != WAITING:
            end = task.started + timedelta(seconds=task.elapsed(run.now))
            events += [(task.started, 1), (end, -1)]
    most = now = 0
    for _, change in sorted(events):
        now += change
        most = max(most, now)
    return most


def _json(path: Path) -> dict:
    """Return the content of a file of a task; empty if its folder was removed."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
