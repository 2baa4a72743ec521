"""`xtalfill status` on recorded runs of the demo: running, killed, and finished."""

from __future__ import annotations

import json
import os
import socket
import time
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from nextflow_project import REPOSITORY
from xtalfill.cli.parser import main
from xtalfill.core.errors import InputError
from xtalfill.monitor.run import SILENT, Run, read_run
from xtalfill.monitor.stages import ORDER, PLANNED, StageState, eta, slowest, stages_of
from xtalfill.monitor.table import readable, render
from xtalfill.monitor.tasks import RUNNING, read_trace, seconds_of

RECORDED = REPOSITORY / "tests" / "fixtures" / "runs"


@pytest.fixture(autouse=True)
def utc(monkeypatch: pytest.MonkeyPatch) -> None:
    """The runs were recorded where the local time is UTC."""
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()


class Recorded:
    """A recorded run, written where a test can change it."""

    def __init__(self, name: str, root: Path, **changes: Any) -> None:
        text = (RECORDED / f"{name}.json").read_text(encoding="utf-8")
        host = changes.pop("host", socket.gethostname())
        content = json.loads(text.replace("ROOT", str(root)).replace("HOST", host))
        self.now = datetime.fromisoformat(content["now"])
        self.outdir = root / "res"
        own = self.outdir / ".xtalfill"
        own.mkdir(parents=True)
        run = {**content["run"], "pid": os.getpid(), **changes}
        (own / "run.json").write_text(json.dumps(run), encoding="utf-8")
        if content["locked"]:
            (own / "lock").touch()
        self.trace = Path(run["trace"])
        self.trace.parent.mkdir()
        self.trace.write_text("\n".join(content["trace"]) + "\n", encoding="utf-8")
        os.utime(self.trace, (self.now.timestamp(),) * 2)
        os.utime(own / "run.json", (self.now.timestamp(),) * 2)
        for folder, files in content["folders"].items():
            path = root / "work" / folder
            path.mkdir(parents=True)
            for file, (modified, words) in files.items():
                (path / file).write_text(words, encoding="utf-8")
                os.utime(path / file, (modified, modified))

    def read(self, later: timedelta = timedelta(0)) -> Run:
        """Read the run as it was, or some time after it."""
        return read_run(self.outdir, now=self.now + later)


@pytest.fixture
def alive(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nextflow still runs."""
    monkeypatch.setattr("xtalfill.monitor.run._alive", lambda _: True)


def by_name(run: Run) -> dict[str, StageState]:
    return {stage.name: stage for stage in stages_of(run)}


def shown(run: Run, *, batches: bool = False, width: int = 80) -> str:
    console = Console(width=width, record=True, file=open(os.devnull, "w"))  # noqa: PTH123, SIM115
    console.print(render(run, number=5, batches=batches))
    return console.export_text()


def test_times_of_the_trace() -> None:
    assert seconds_of("1m 31s") == 91
    assert seconds_of("142ms") == pytest.approx(0.142)
    assert seconds_of("1d 2h 3m 4.5s") == 93784.5
    assert seconds_of("-") is None
    with pytest.raises(ValueError, match="no time"):
        seconds_of("soon")


def test_every_process_has_its_place() -> None:
    texts = [path.read_text() for path in REPOSITORY.glob("modules/*/main.nf")]
    names = {
        line.split()[1] for text in texts for line in text.splitlines() if "process " in line[:9]
    }
    assert set(ORDER) == names


def test_a_folder_without_a_run_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no run here"):
        read_run(tmp_path)


def test_a_damaged_trace_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "trace.txt"
    path.write_text("task_id\tname\n1\tX\n")
    with pytest.raises(InputError, match="not a trace"):
        read_trace(path)


def test_times_for_people() -> None:
    assert [readable(s) for s in (40, 89, 95, 6000, 200_000)] == [
        "40 s", "89 s", "2 min", "1.7 h", "2.3 d",
    ]  # fmt: skip


def test_a_run_that_computes(tmp_path: Path, alive: None) -> None:
    recorded = Recorded("running", tmp_path)
    run = recorded.read()
    stages = by_name(run)
    assert run.state == "running"
    assert (stages["INPAINT"].done, stages["INPAINT"].total, stages["INPAINT"].left) == (4, 4, 0)
    relax = stages["RELAX"]
    assert (relax.done, relax.running, relax.total) == (2, 1, 4)
    assert (relax.structures, relax.candidates) == (3, 15)
    assert relax.statuses["ok"] == 18  # with the references
    assert (stages["EVALUATE"].done, stages["EVALUATE"].total) == (0, 4)
    assert [task.process for task in run.open] == ["RELAX"]
    text = shown(run, batches=True)
    assert "running mighty_brucite" in text
    assert "relax_sites: 6/6 done, 0 failed" in text
    assert "2/4" in text
    assert "running: 1" in text


def test_the_time_left_is_near_the_true_one(tmp_path: Path, alive: None) -> None:
    run = Recorded("running", tmp_path).read()
    left = eta(run, stages_of(run))
    end = datetime.fromisoformat("2026-11-28T14:44:39+00:00")
    true = (end - run.now).total_seconds()
    assert left is not None
    assert 0.5 * true < left < 2 * true


def test_rate_counts_computed_candidates(tmp_path: Path, alive: None) -> None:
    stages = by_name(Recorded("running", tmp_path).read())
    # 30 candidates from 14:43:30.8 to 14:43:46.4
    assert stages["INPAINT"].per_minute == pytest.approx(60 * 30 / 15.5, rel=0.05)


def test_cached_tasks_are_done_and_have_no_rate(tmp_path: Path) -> None:
    recorded = Recorded("finished", tmp_path)
    recorded.trace.write_text(recorded.trace.read_text().replace("COMPLETED", "CACHED"))
    stages = by_name(recorded.read())
    assert stages["RELAX"].done == 4
    assert stages["RELAX"].per_minute is None
    assert stages["RELAX"].core_seconds == 0


def test_a_finished_run(tmp_path: Path) -> None:
    run = Recorded("finished", tmp_path).read(later=timedelta(days=3))
    assert run.state == "finished"
    assert eta(run, stages_of(run)) is None
    assert all(stage.done == stage.total for stage in stages_of(run) if stage.total)
    assert slowest(run, 1)[0].process == "RELAX"
    text = shown(run)
    assert "finished mighty_brucite, after 73 s" in text
    assert "left" not in text.splitlines()[0]


def test_a_finished_run_without_its_work_folder(tmp_path: Path) -> None:
    recorded = Recorded("finished", tmp_path)
    (tmp_path / "work").rename(tmp_path / "gone")
    stages = by_name(recorded.read())
    assert stages["RELAX"].done == 4
    assert not stages["RELAX"].statuses


@pytest.mark.parametrize("locked", [True, False])
def test_a_run_that_died(tmp_path: Path, *, locked: bool) -> None:
    recorded = Recorded("running", tmp_path, pid=2**22 + 1)
    if not locked:
        (recorded.outdir / ".xtalfill" / "lock").unlink()
    run = recorded.read(later=timedelta(days=1))
    assert run.state == "stopped"
    assert eta(run, stages_of(run)) is None
    text = " ".join(shown(run).split())
    assert "is gone; repeat the command with -resume" in text
    assert "after 42 s" in text  # until its last task ended, not until now


def test_a_run_on_another_machine(tmp_path: Path) -> None:
    recorded = Recorded("running", tmp_path, host="node17")
    assert recorded.read().state == "running"
    run = recorded.read(later=2 * SILENT)
    assert run.state == "silent"
    assert "is Nextflow on node17 alive?" in " ".join(shown(run).split())


def test_failed_attempts_are_listed(tmp_path: Path, alive: None) -> None:
    recorded = Recorded("running", tmp_path)
    lines = recorded.trace.read_text().splitlines()
    lines[-1] = lines[-1].replace("COMPLETED\t0", "FAILED\t137")
    recorded.trace.write_text("\n".join(lines) + "\n")
    run = recorded.read()
    (log,) = [task.folder / ".command.log" for task in run.tasks if task.status == "FAILED"]
    log.write_text("relax_sites: 1/9 done\nERROR: out of memory\n")
    assert by_name(run)["RELAX"].failed == 1
    assert by_name(run)["RELAX"].done == 1
    text = shown(run)
    assert "failed attempts: 1" in text
    assert "out of memory" in text


def test_a_failed_run_says_why(tmp_path: Path) -> None:
    ended = {"ended": "2026-11-28T14:44:20Z", "success": False, "message": "RELAX (b): no disk"}
    recorded = Recorded("running", tmp_path, **ended)
    text = " ".join(shown(recorded.read(), width=200).split())
    assert "failed mighty_brucite" in text
    assert "RELAX (b): no disk; repeat the command with -resume" in text


def test_half_a_line_of_the_trace_is_ignored(tmp_path: Path, alive: None) -> None:
    recorded = Recorded("running", tmp_path)
    before = len(recorded.read().tasks)
    with recorded.trace.open("a") as file:
        file.write("99\tab/123456\tRELAX (bat")
    assert len(recorded.read().tasks) == before


def test_tasks_of_other_runs_are_left_out(tmp_path: Path, alive: None) -> None:
    recorded = Recorded("running", tmp_path)
    (task,) = recorded.read().open
    older = tmp_path / "work" / "00" / ("0" * 30)
    older.mkdir(parents=True)
    script = older / ".command.run"
    script.write_text((task.folder / ".command.run").read_text())
    before = recorded.read().started.timestamp() - 60
    os.utime(script, (before, before))
    (tmp_path / "work" / "conda").mkdir()
    assert [one.folder for one in recorded.read().open] == [task.folder]
    assert task.status == RUNNING


def test_before_check_there_is_no_plan(tmp_path: Path, alive: None) -> None:
    recorded = Recorded("running", tmp_path, plan=None)
    lines = recorded.trace.read_text().splitlines()
    recorded.trace.write_text("\n".join(lines[:2]) + "\n")
    run = recorded.read()
    assert eta(run, stages_of(run)) is None
    assert "SHEET_FILES" in shown(run)
    recorded.trace.unlink()
    assert recorded.read().tasks == []


def test_no_line_is_wider_than_the_terminal(tmp_path: Path, alive: None) -> None:
    text = shown(Recorded("running", tmp_path).read(), batches=True)
    assert "…" not in text.split("running: 1")[0]
    assert all(f" {name} " in f" {text} " for name in PLANNED)


def test_the_command_prints_once(
    tmp_path: Path, alive: None, capsys: pytest.CaptureFixture[str]
) -> None:
    recorded = Recorded("finished", tmp_path)
    main(["status", str(recorded.outdir), "--watch"])
    assert "RELAX" in capsys.readouterr().out
    with pytest.raises(SystemExit) as error:
        main(["status", str(recorded.outdir), "--interval", "0"])
    assert error.value.code == 78
