"""--outdir: contains the results of the run, and files of others are untouched."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import time
from pathlib import Path

import pytest

from nextflow_project import Project, lines_with, read_trace, said
from stub_commands import install_stubs, write_hosts

TOP = {
    "results.csv", "candidates.csv", "failures.csv", "selected.extxyz", "candidates.extxyz",
    "evaluation.json", "report.html", "provenance.json", "ro-crate-metadata.json",
    "pipeline_info/main.nf",
}  # fmt: skip
# Two sets of files after each other in each mode; sets of several kinds of runs; locks.
SCRIPT = """
workflow {
    params.modes.tokenize(',').each { mode ->
        def outdir = new Outdir("by/$mode", file('unused'))
        ['a', 'b'].each { set ->
            def made = file("made/$mode/$set")
            def cif = made.resolve("structures/${set}.cif")
            outdir.publish(
                [['', made.resolve('results.csv')], ['structures', cif]],
                [mode: 'fill', publish_dir_mode: mode],
            )
        }
    }
    def kinds = new Outdir('by/kinds', file('unused'))
    ['fill.first', 'host.first', 'td.first', 'fill.second'].each { name ->
        def mode = name.startsWith('fill') ? 'fill' : 'train'
        def kind = [mode: mode, train_method: name.tokenize('.')[0], publish_dir_mode: 'copy']
        kinds.publish([['', file("made/kinds/$name")]], kind)
    }
    params.locks.tokenize(',').each { name ->
        println("$name ${new RunLock(file("$name/.xtalfill/lock")).acquire()}")
    }
}
"""
RECORDS = {f"pipeline_info/{name}" for name in ("trace.txt", "check.json")}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Return a copy of the project with stub commands, and sheets a (two hosts) and b (one)."""
    project = Project.make(tmp_path_factory.mktemp("outdir"))
    install_stubs(project)
    write_hosts(project.launch / "a.csv", ["a1", "a2"])
    write_hosts(project.launch / "b.csv", ["b1"])
    return project


def run(project: Project, sheet: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run the pipeline on a sheet; tasks that an earlier test ran are not run again."""
    given = ["--input", f"{sheet}.csv", "--method", "random", "--batch_size", "1", "-resume"]
    return project.run(*given, *arguments)


def files_in(folder: Path) -> set[str]:
    """Return the visible files in a folder."""
    paths = (path.relative_to(folder) for path in folder.rglob("*") if not path.is_dir())
    return {str(path) for path in paths if not str(path).startswith(".")}


def is_of(outdir: Path, names: set[str], *, others: set[str] = frozenset()) -> bool:
    """Return whether a folder contains exactly the results of a run on these structures."""
    batches = {name for name in files_in(outdir) if name.startswith("batches/")}
    known = TOP | RECORDS | batches | others | {f"structures/{name}.cif" for name in names}
    table = (outdir / "results.csv").read_text(encoding="utf-8").split()
    check = json.loads((outdir / "pipeline_info" / "check.json").read_text(encoding="utf-8"))
    return (
        files_in(outdir) == known
        and batches == {f"batches/{one['batch']}" for one in check["structures"]}
        and set(table[1:]) == names == {one["id"] for one in check["structures"]}
    )


def test_results_are_those_of_the_last_run(project: Project) -> None:
    outdir = project.launch / "results"
    assert run(project, "a").returncode == 0
    assert is_of(outdir, {"a1", "a2"})
    (outdir / "structures" / "mine.cif").write_text("of the user", encoding="utf-8")
    (outdir / "notes").mkdir()
    # The last message is read from files before they are moved.
    result = run(project, "b", "--publish_dir_mode", "move")
    assert result.returncode == 0, said(result)
    assert "1 structures in -> 1 valid" in said(result)
    assert is_of(outdir, {"b1"}, others={"structures/mine.cif"})
    assert (outdir / "notes").is_dir()
    shutil.rmtree(outdir)
    result = run(project, "a")
    assert result.returncode == 0, said(result)
    assert is_of(outdir, {"a1", "a2"})
    assert set(read_trace(outdir).values()) == {"CACHED"}
    assert "2 structures in -> 2 valid" in said(result)


def hold(outdir: Path, *, pid: int, host: str | None = None, start: int = 0) -> Path:
    """Create a lock owned by a process."""
    lock = outdir / ".xtalfill" / "lock"
    lock.parent.mkdir(parents=True)
    here = Path("/proc/sys/kernel/hostname")
    host = host or (here.read_text().strip() if here.is_file() else socket.gethostname())
    owner = {"host": host, "pid": pid, "start": start, "since": "2026-01-02T03:04:05Z"}
    lock.write_text(json.dumps(owner), encoding="utf-8")
    return lock


MODES = ("copy", "link", "symlink", "rellink", "move")
LOCKS = ("elsewhere", "dead", "reused", "owned")


@pytest.fixture(scope="module")
def without_tasks(project: Project) -> dict[str, str]:
    """Run the script once; return what it says of each lock."""
    made = project.launch / "made"
    for mode in MODES:
        for name in ("a", "b"):
            folder = made / mode / name / "structures"
            folder.mkdir(parents=True)
            (folder / f"{name}.cif").write_text(name, encoding="utf-8")
            (folder.parent / "results.csv").write_text(name, encoding="utf-8")
    (made / "kinds").mkdir()
    for name in ("fill.first", "host.first", "td.first", "fill.second"):
        (made / "kinds" / name).touch()
    ended = subprocess.Popen(["true"])
    ended.wait()
    hold(project.launch / "elsewhere", pid=77, host="elsewhere")
    hold(project.launch / "dead", pid=ended.pid, start=5)
    # same process id but another start time: not the owner
    hold(project.launch / "reused", pid=os.getpid(), start=5)
    seconds = os.sysconf("SC_CLK_TCK")
    since_boot = int(Path("/proc/self/stat").read_text().rsplit(")", 1)[1].split()[19]) / seconds
    booted = next(line for line in Path("/proc/stat").read_text().splitlines() if "btime" in line)
    hold(project.launch / "owned", pid=os.getpid(), start=int(booted.split()[1]) + int(since_boot))
    script = project.root / "without_tasks.nf"
    script.write_text(SCRIPT, encoding="utf-8")
    given = ["--modes", ",".join(MODES), "--locks", ",".join(LOCKS)]
    result = project.nextflow("-q", "run", script, *given)
    assert result.returncode == 0, said(result)
    lines = (line.split(" ", 1) for line in result.stdout.splitlines())
    return {line[0]: line[1] for line in lines if line[0] in LOCKS}


@pytest.mark.parametrize("mode", MODES)
def test_every_publish_mode(project: Project, without_tasks: dict[str, str], mode: str) -> None:
    outdir = project.launch / "by" / mode
    assert files_in(outdir) == {"results.csv", "structures/b.cif"}
    table = outdir / "results.csv"
    assert table.read_text(encoding="utf-8") == "b"
    source = project.launch / "made" / mode / "b" / "results.csv"
    assert source.exists() == (mode != "move")
    linked = source.exists() and not table.is_symlink() and table.samefile(source)
    assert linked == (mode == "link")
    assert table.is_symlink() == (mode in ("symlink", "rellink"))
    if table.is_symlink():
        assert table.readlink().is_absolute() == (mode == "symlink")


def test_kinds_of_runs_share_a_folder(project: Project, without_tasks: dict[str, str]) -> None:
    names = files_in(project.launch / "by" / "kinds")
    assert names == {"fill.second", "host.first", "td.first"}


def test_lock_of_another_host_is_reported_and_kept(
    project: Project, without_tasks: dict[str, str]
) -> None:
    lock = project.launch / "elsewhere" / ".xtalfill" / "lock"
    words = [
        "--outdir: ",
        "/elsewhere is in use",
        "process 77 on elsewhere, since 2026-01-02T03:04",
    ]
    assert all(word in without_tasks["elsewhere"] for word in [*words, f"rm '{lock}'"])
    assert json.loads(lock.read_text(encoding="utf-8"))["host"] == "elsewhere"


def test_lock_of_a_living_process_is_kept(without_tasks: dict[str, str]) -> None:
    assert f"process {os.getpid()} on " in without_tasks["owned"]


@pytest.mark.parametrize("name", ["dead", "reused"])
def test_lock_of_a_dead_process_is_replaced(
    project: Project, without_tasks: dict[str, str], name: str
) -> None:
    assert without_tasks[name] == "null"
    lock = project.launch / name / ".xtalfill" / "lock"
    assert json.loads(lock.read_text(encoding="utf-8"))["start"] > 5
    assert [path.name for path in lock.parent.iterdir()] == ["lock"]


def test_only_a_finished_run_replaces_the_results(project: Project) -> None:
    """Runs that are killed or fail keep them."""
    outdir = project.launch / "kept"
    arguments = ["run", project.root / "main.nf", "--outdir", "kept", "--method", "random"]
    with project.started(*arguments, "--input", "b.csv") as first:
        lock = outdir / ".xtalfill" / "lock"
        while not lock.is_file():
            assert first.poll() is None
            time.sleep(0.1)
        first.kill()
        first.communicate(timeout=60)
    assert lock.is_file()
    result = run(project, "a", "--outdir", "kept")
    assert result.returncode == 0, said(result)
    assert is_of(outdir, {"a1", "a2"})
    assert not lock.exists()
    before = {name: (outdir / name).read_bytes() for name in files_in(outdir) - RECORDS}
    collect = project.root / "bin" / "collect.py"
    text = collect.read_text(encoding="utf-8")
    collect.write_text("#!/usr/bin/env bash\nexit 65\n", encoding="utf-8")
    assert run(project, "b", "--outdir", "kept").returncode == 1
    collect.write_text(text, encoding="utf-8")
    assert all((outdir / name).read_bytes() == content for name, content in before.items()
               if not name.startswith("pipeline_info/"))  # fmt: skip
    assert not lock.exists()


def test_second_simultaneous_run_is_refused(project: Project) -> None:
    arguments = ["run", project.root / "main.nf", "--outdir", "both", "--method", "random"]
    slow = project.root / "bin" / "inpaint.py"
    text = slow.read_text(encoding="utf-8")
    waiting = f"until [ -e {project.launch}/go ]; do sleep 0.2; done\n"
    slow.write_text(text.replace("set -eu\n", "set -eu\n" + waiting), encoding="utf-8")
    records = project.launch / ".nextflow" / "pipeline_info"
    earlier = set(records.glob("*"))
    with project.started(*arguments, "--input", "a.csv") as first:
        lock = project.launch / "both" / ".xtalfill" / "lock"
        while not lock.is_file():
            assert first.poll() is None
            time.sleep(0.1)
        # not -resume: Nextflow itself would refuse two runs of one session
        other = ["--method", "random", "--outdir", "both", "-w", "never"]
        second = project.run("--input", "b.csv", *other)
        (project.launch / "go").touch()
        output, _ = first.communicate(timeout=300)
    slow.write_text(text, encoding="utf-8")
    assert first.returncode == 0, output
    assert second.returncode != 0
    assert len(lines_with(said(second), ["/both is in use", f"process {first.pid} on "])) == 1
    assert not list((project.launch / "never").glob("*/*"))
    assert set(records.glob("*")) == earlier
    assert is_of(project.launch / "both", {"a1", "a2"})
    assert any(name.startswith("INPAINT") for name in read_trace(project.launch / "both"))


def test_full_disk_gives_one_line_and_keeps_results(project: Project, small_disk: Path) -> None:
    (small_disk / "mine").write_text("of the user", encoding="utf-8")
    result = run(project, "a", "--outdir", small_disk)
    assert result.returncode != 0
    words = [f"--outdir: cannot write to {small_disk}", "No space left on device", "-resume"]
    assert len(lines_with(said(result), words)) == 1, said(result)
    assert "done in" not in said(result)
    assert {path.name for path in small_disk.iterdir()} <= {"mine", ".xtalfill", "pipeline_info"}
