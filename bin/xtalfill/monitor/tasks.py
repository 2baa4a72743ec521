"""The tasks of a run, from Nextflow's trace and, while they run, from their folders."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from xtalfill.core.errors import InputError

# Of a task that has ended, as Nextflow writes them; the others are those of a folder without end.
COMPLETED, CACHED, FAILED, ABORTED = "COMPLETED", "CACHED", "FAILED", "ABORTED"
RUNNING, WAITING = "RUNNING", "WAITING"

_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_PART = re.compile(r"([\d.]+)(ms|s|m|h|d)\b")
_NAME = re.compile(r"^(?:\S+:)?(?P<process>\w+)(?: \((?P<tag>.*)\))?$")
# "### name: 'RELAX (batch_5ece8140b267)'" in the first lines of .command.run
_HEADER = re.compile(r"^### name: '(?P<name>.*)'$", re.MULTILINE)
_HEADER_BYTES = 2000
_TAIL_BYTES = 4000


@dataclass(frozen=True)
class Task:
    """One task, or one attempt of it.

    Attributes:
        process: Name of the process without its subworkflow, e.g. "RELAX".
        tag: What it works on, e.g. the batch; "" for none.
        status: One of the constants of this module.
        started: When it began or, while it waits, when it was submitted.
        seconds: Its time, s; of a running one None.
        cpu_seconds: Core-seconds that it used; None where Nextflow did not measure them.
        exit: Exit code; None without one.
        folder: Its folder.
    """

    process: str
    tag: str
    status: str
    started: datetime
    seconds: float | None
    cpu_seconds: float | None
    exit: int | None
    folder: Path

    @property
    def ended(self) -> bool:
        """Whether its result is there."""
        return self.status in {COMPLETED, CACHED}

    def elapsed(self, now: datetime) -> float:
        """Return how long it took, or has taken until now, s."""
        if self.seconds is not None:
            return self.seconds
        return max(0.0, (now - self.started).total_seconds())

    def last_line(self) -> str:
        """Return the last line of its log, "" if there is none."""
        lines = [line.strip() for line in _tail(self.folder / ".command.log").splitlines()]
        return next((line for line in reversed(lines) if line), "")

    def error(self) -> str:
        """Return the message of its error, or the last line of its log."""
        lines = _tail(self.folder / ".command.log").splitlines()
        found = [line for line in lines if line.startswith("ERROR: ")]
        return found[-1].removeprefix("ERROR: ") if found else self.last_line()


def read_trace(path: Path) -> list[Task]:
    """Read the trace of a run; one without a trace has no tasks.

    Raises:
        InputError: The file is not such a trace.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return []
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not readable ({error}); it is Nextflow's trace") from error
    # Nextflow may be writing the last line.
    header, *lines = text[: text.rfind("\n") + 1].splitlines() or [""]
    names = header.split("\t")
    try:
        rows = [dict(zip(names, line.split("\t"), strict=True)) for line in lines]
        return [_of_row(row) for row in rows]
    except (KeyError, ValueError) as error:
        raise InputError(f"{path}: not a trace of this pipeline ({error})") from error


def read_unfinished(work: Path, known: Iterable[Path], since: datetime) -> list[Task]:
    """Return the tasks that the trace does not have, because they have not ended.

    Args:
        work: Work folder of the run.
        known: Folders of the tasks that have ended.
        since: Start of the run; older folders belong to other runs.
    """
    skipped = {folder.name for folder in known}
    begin = since.timestamp()
    found: list[Task | None] = []
    for group in _folders(work):
        # A new task changes the time of the folder that holds its own.
        if len(group.name) == 2 and group.stat().st_mtime >= begin:
            folders = (folder for folder in _folders(group) if folder.name not in skipped)
            found += [_of_folder(folder, begin) for folder in folders]
    tasks = [task for task in found if task is not None]
    return sorted(tasks, key=lambda task: (task.started, task.process, task.tag))


def seconds_of(text: str) -> float | None:
    """Return a time of the trace in s, e.g. of "1m 31s"; None for "-".

    Raises:
        ValueError: It is no time.
    """
    parts = _PART.findall(text)
    if parts:
        return float(sum(float(number) * _SECONDS[unit] for number, unit in parts))
    if text in {"-", "0"}:
        return None if text == "-" else 0.0
    raise ValueError(f"{text!r} is no time")


def _of_row(row: Mapping[str, str]) -> Task:
    process, tag = _split(row["name"])
    seconds = seconds_of(row["realtime"])
    share = row["%cpu"]
    begun = row["submit"] if row["start"] == "-" else row["start"]
    return Task(
        process=process,
        tag=tag,
        status=row["status"],
        started=datetime.fromisoformat(begun).astimezone(UTC),  # local time of the head node
        seconds=0.0 if seconds is None else seconds,
        cpu_seconds=None
        if share == "-" or seconds is None
        else seconds * float(share.removesuffix("%")) / 100,
        exit=None if row["exit"] == "-" else int(row["exit"]),
        folder=Path(row["workdir"]),
    )


def _of_folder(folder: Path, begin: float) -> Task | None:
    """Return the task of a folder; None if it has ended, is older, or is none."""
    script, start = folder / ".command.run", folder / ".command.begin"
    try:
        submitted = script.stat().st_mtime
        if submitted < begin or (folder / ".exitcode").exists():
            return None
        with script.open(encoding="utf-8") as file:
            header = _HEADER.search(file.read(_HEADER_BYTES))
        running = start.exists()
        began = start.stat().st_mtime if running else submitted
    except OSError:
        return None  # being made or removed
    if header is None:
        return None
    process, tag = _split(header["name"])
    status = RUNNING if running else WAITING
    started = datetime.fromtimestamp(began, UTC)
    return Task(process, tag, status, started, None, None, None, folder)


def _split(name: str) -> tuple[str, str]:
    match = _NAME.match(name)
    return (match["process"], match["tag"] or "") if match else (name, "")


def _folders(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if path.is_dir())
    except OSError:
        return []


def _tail(path: Path) -> str:
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - _TAIL_BYTES))
            return file.read().decode(errors="replace")
    except OSError:
        return ""
