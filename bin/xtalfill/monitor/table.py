"""The state of a run as tables for the terminal."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from xtalfill.monitor.run import Run
from xtalfill.monitor.stages import PLANNED, StageState, eta, failures, slowest, stages_of
from xtalfill.monitor.tasks import RUNNING, Task

_STYLES = {"finished": "green", "failed": "red", "stopped": "red", "silent": "yellow"}
_FRAME: dict[str, Any] = {"box": SIMPLE_HEAD, "pad_edge": False, "padding": (0, 1, 0, 0)}
_REPEAT = "; repeat the command with -resume: what has ended is kept"


def render(run: Run, *, number: int, batches: bool = False) -> RenderableType:
    """Return the state of a run for the terminal.

    Args:
        run: The run.
        number: Most tasks in the lists of slow, running and failed tasks.
        batches: Also a table with a row for each batch.
    """
    stages = stages_of(run)
    parts: list[RenderableType] = [_head(run, stages), _stage_table(stages)]
    if batches and run.batches:
        parts.append(_batch_table(run))
    working = [task for task in run.open if task.status == RUNNING] if run.live else []
    if working:
        parts.append(_task_table(f"running: {len(working)}", working[:number], run, Task.last_line))
    if slow := slowest(run, number):
        parts.append(_task_table("slowest tasks", slow, run))
    if failed := failures(run):
        title = f"failed attempts: {len(failed)}"
        parts.append(_task_table(title, failed[:number], run, Task.error))
    if run.tasks or run.open:
        parts.append(Text(f"folders: below {run.record['work']}"))
    return Group(*parts)


def readable(seconds: float) -> str:
    """Return a time for people: 40 s, 12 min, 3.5 h, 2.1 d."""
    for unit, size, most in (("s", 1, 90), ("min", 60, 5400), ("h", 3600, 172_800)):
        if seconds < most:
            return f"{seconds / size:.1f} h" if unit == "h" else f"{seconds / size:.0f} {unit}"
    return f"{seconds / 86400:.1f} d"


def _head(run: Run, stages: list[StageState]) -> Text:
    plan = run.record["plan"] or {}
    elapsed = readable((run.now - run.started).total_seconds())
    text = Text.assemble((run.state, _STYLES.get(run.state, "cyan")), f" {run.record['name']}")
    text.append(f", {'' if run.live else 'after '}{elapsed}")
    left = eta(run, stages)
    if left is not None:
        end = datetime.now().astimezone() + timedelta(seconds=left)
        text.append(f", about {readable(left)} left (until {end:%a %H:%M})")
    if plan:
        planned = sum(plan["core_seconds"].values()) / 3600
        used = sum(stage.core_seconds for stage in stages) / 3600
        text.append(
            f"\n{plan['structures']} structures ({plan['refused']} refused), {plan['candidates']} "
            f"candidates; {used:.2f} of about {planned:.2f} core-hours used"
        )
    if run.state == "failed":
        text.append(f"\n{run.record['message']}{_REPEAT}", style="red")
    elif run.state == "stopped":
        text.append(f"\nNextflow (process {run.record['pid']} on {run.record['host']}) is gone")
        text.append(_REPEAT)
    elif run.state == "silent":
        text.append(f"\nno file has changed for hours; is Nextflow on {run.record['host']} alive?")
    return text


def _stage_table(stages: list[StageState]) -> Table:
    table = Table(**_FRAME)
    table.add_column("stage", no_wrap=True)
    heads = ["tasks", "now", "struct.", "candid.", "failed", "unconv.", "candid./min", "left"]
    for head in heads:
        table.add_column(head, justify="right", no_wrap=True)
    for stage in stages:
        counted = stage.statuses
        table.add_row(
            stage.name,
            f"{stage.done}" if stage.total is None else f"{stage.done}/{stage.total}",
            f"{stage.running}+{stage.waiting}" if stage.waiting else str(stage.running or ""),
            str(stage.structures or ""),
            str(stage.candidates or ""),
            str(counted["failed"]) if counted else "",
            str(counted["unconverged"]) if counted else "",
            "" if stage.per_minute is None else f"{stage.per_minute:.3g}",
            readable(stage.left) if stage.left else "",
        )
    return table


def _batch_table(run: Run) -> Table:
    done = {(task.process, task.tag): task for task in run.tasks if task.ended}
    opened = {(task.process, task.tag): task for task in run.open}
    table = Table(**_FRAME)
    for head in ("batch", "struct.", "candid.", *PLANNED):
        table.add_column(head, justify="left" if head == "batch" else "right", no_wrap=True)
    for name, batch in run.batches.items():
        cells = []
        for stage in PLANNED:
            if (task := done.get((stage, name))) is not None:
                cells.append(readable(task.elapsed(run.now)))
            else:
                now = opened.get((stage, name))
                cells.append("" if now is None else now.status.lower())
        table.add_row(name, str(batch.structures), str(batch.candidates), *cells)
    return table


def _task_table(
    title: str, tasks: list[Task], run: Run, says: Callable[[Task], str] | None = None
) -> Table:
    """Return a list of tasks: what, how long, the start of its folder, and what it says."""
    table = Table(title=title, title_justify="left", **_FRAME)
    for name in ("task", "time", "folder", *([] if says is None else ["says"])):
        table.add_column(name, no_wrap=name != "says")
    for task in tasks:
        name = f"{task.process} {task.tag}".strip()
        short = f"{task.folder.parent.name}/{task.folder.name[:6]}"
        said = [] if says is None else [says(task)]
        table.add_row(name, readable(task.elapsed(run.now)), short, *said)
    return table
