"""--outdir: contains the results of the run, and files of others are untouched."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
from pathlib import Path

import pytest

from nextflow_project import Project, lines_with, read_trace, said
from stub_commands import install_stubs, write_hosts

TOP = {
    "results.csv", "candidates.csv", "failures.csv", "selected.extxyz", "candidates.extxyz",
    "evaluation.json", "report.html", "provenance.json", "ro-crate-metadata.json",
    "pipeline_info/main.nf",
}  # fmt: skip
PUBLISH = """
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
}
"""
RECORDS = {f"pipeline_info/{name}" for name in ("trace.txt", "check.json", "timeline.html")}


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
    given = ["--input", f"{sheet}.csv", "--method", "random", "-resume"]
    return project.run(*given, *arguments)


def files_in(folder: Path) -> set[str]:
    """Return the visible files in a folder."""
    paths = (path.relative_to(folder) for path in folder.rglob("*") if not path.is_dir())
    return {str(path) for path in paths if not str(path).startswith(".")}


def is_of(outdir: Path, names: set[str], *, others: set[str] = frozenset()) -> bool:
    """Return whether a folder contains exactly the results of a run on these structures."""
    batches = {name for name in files_in(outdir) if name.startswith("batches/")}
    known = TOP | RECORDS | batches | others | {f"structures/{name}.cif" for name in names}
    known |= {"pipeline_info/report.html", "pipeline_info/dag.html"}
    table = (outdir / "results.csv").read_text(encoding="utf-8").split()
    check = json.loads((outdir / "pipeline_info" / "check.json").read_text(encoding="utf-8"))
    return (
        files_in(outdir) == known
        and batches == {f"batches/{one['batch']}" for one in check["structures"]}
        and set(table[1:]) == names == {one["id"] for one in check["structures"]}
    )


def test_results_are_those_of_the_last_run(project: Project) -> None:
    outdir = project.launch / "results"
    assert run(project, "a", "--batch_size", "1").returncode == 0
    assert is_of(outdir, {"a1", "a2"})
    (outdir / "structures" / "mine.cif").write_text("of the user", encoding="utf-8")
    (outdir / "notes").mkdir()
    result = run(project, "b")
    assert result.returncode == 0, said(result)
    assert is_of(outdir, {"b1"}, others={"structures/mine.cif"})
    assert (outdir / "notes").is_dir()
    result = run(project, "a", "--batch_size", "1")
    assert result.returncode == 0, said(result)
    assert is_of(outdir, {"a1", "a2"}, others={"structures/mine.cif"})
    assert set(read_trace(outdir).values()) == {"CACHED"}
    assert "2 structures in -> 2 valid" in said(result)
    shutil.rmtree(outdir)
    result = run(project, "a", "--batch_size", "1")
    assert result.returncode == 0, said(result)
    assert is_of(outdir, {"a1", "a2"})
    assert set(read_trace(outdir).values()) == {"CACHED"}


def test_failed_run_keeps_old_results(project: Project) -> None:
    outdir = project.launch / "kept"
    assert run(project, "a", "--outdir", "kept").returncode == 0
    before = {name: (outdir / name).read_bytes() for name in files_in(outdir) - RECORDS}
    collect = project.root / "bin" / "collect.py"
    text = collect.read_text(encoding="utf-8")
    collect.write_text("#!/usr/bin/env bash\nexit 65\n", encoding="utf-8")
    assert run(project, "b", "--outdir", "kept").returncode == 1
    collect.write_text(text, encoding="utf-8")
    assert all((outdir / name).read_bytes() == content for name, content in before.items()
               if not name.startswith("pipeline_info/"))  # fmt: skip
    assert not (outdir / ".xtalfill" / "lock").exists()


def test_results_that_are_moved(project: Project) -> None:
    """The last message is read from files before they are moved."""
    arguments = ["--outdir", "moved", "--publish_dir_mode", "move"]
    for sheet, names in (("a", {"a1", "a2"}), ("b", {"b1"})):
        result = run(project, sheet, *arguments, "-w", "work_move")
        assert result.returncode == 0, said(result)
        assert f"-> {len(names)} valid" in said(result)
        assert is_of(project.launch / "moved", names)


def test_every_publish_mode(project: Project) -> None:
    """One run without tasks publishes two sets of files after each other in each mode."""
    modes = ("copy", "link", "symlink", "rellink", "move")
    made = project.launch / "made"
    for mode in modes:
        for name in ("a", "b"):
            folder = made / mode / name / "structures"
            folder.mkdir(parents=True)
            (folder / f"{name}.cif").write_text(name, encoding="utf-8")
            (folder.parent / "results.csv").write_text(name, encoding="utf-8")
    script = project.root / "publish.nf"
    script.write_text(PUBLISH, encoding="utf-8")
    result = project.nextflow("run", script, "--modes", ",".join(modes), "-resume")
    assert result.returncode == 0, said(result)
    for mode in modes:
        outdir = project.launch / "by" / mode
        assert files_in(outdir) == {"results.csv", "structures/b.cif"}
        table = outdir / "results.csv"
        assert table.read_text(encoding="utf-8") == "b"
        source = made / mode / "b" / "results.csv"
        assert source.exists() == (mode != "move")
        assert (mode == "link") == (source.exists() and not table.is_symlink()
                                    and table.samefile(source))  # fmt: skip
        assert table.is_symlink() == (mode in ("symlink", "rellink"))
        if table.is_symlink():
            assert table.readlink().is_absolute() == (mode == "symlink")


def test_training_and_stub_run_keep_the_results(project: Project) -> None:
    outdir = project.launch / "shared"
    assert run(project, "a", "--outdir", "shared").returncode == 0
    (project.root / "bin" / "train.py").write_text(
        "#!/usr/bin/env bash\ncd folder 2> /dev/null || cd host || cd td\n"
        "touch best.pt log.csv loss.png\n",
        encoding="utf-8",
    )
    for method in ("host", "td"):
        result = project.run("--mode", "train", "--train_data", "a.csv", "--train_steps", "1",
                             "--train_method", method, "--outdir", "shared", "-resume")  # fmt: skip
        assert result.returncode == 0, said(result)
    trained = {f"weights/{method}.{end}" for method in ("host", "td")
               for end in ("pt", "log.csv", "png")}  # fmt: skip
    state = {name for name in files_in(outdir) if name.startswith("training/")}
    assert is_of(outdir, {"a1", "a2"}, others=trained | state)
    assert run(project, "b", "--outdir", "shared", "-stub").returncode == 0
    assert is_of(outdir, {"a1", "a2"}, others=trained | state)
    assert run(project, "b", "--outdir", "shared").returncode == 0
    assert is_of(outdir, {"b1"}, others=trained | state)


def hold(outdir: Path, *, pid: int, host: str | None = None, start: int = 0) -> Path:
    """Create a lock owned by a process."""
    lock = outdir / ".xtalfill" / "lock"
    lock.parent.mkdir(parents=True)
    here = Path("/proc/sys/kernel/hostname")
    host = host or (here.read_text().strip() if here.is_file() else socket.gethostname())
    owner = {"host": host, "pid": pid, "start": start, "since": "2026-01-02T03:04:05Z"}
    lock.write_text(json.dumps(owner), encoding="utf-8")
    return lock


def test_lock_of_another_host_is_reported_and_kept(project: Project) -> None:
    lock = hold(project.launch / "held", pid=77, host="elsewhere")
    result = run(project, "a", "--outdir", "held", "-w", "never")
    assert result.returncode != 0
    words = ["--outdir: ", "/held is in use", "process 77 on elsewhere, since 2026-01-02T03:04:05Z"]
    assert len(lines_with(said(result), [*words, f"rm '{lock}'"])) == 1, said(result)
    assert not list((project.launch / "never").glob("*/*"))
    assert files_in(project.launch / "held") == set()
    assert lock.is_file()
    assert not list((project.launch / ".nextflow" / "pipeline_info").glob("*"))


@pytest.mark.parametrize("reused", [False, True])
def test_lock_of_a_dead_process_is_replaced(project: Project, reused: bool) -> None:
    ended = subprocess.Popen(["true"])
    ended.wait()
    name = f"stale_{reused}"
    # same process id but another start time: not the owner
    lock = hold(project.launch / name, pid=os.getpid() if reused else ended.pid, start=5)
    result = run(project, "a", "--outdir", name)
    assert result.returncode == 0, said(result)
    assert is_of(project.launch / name, {"a1", "a2"})
    assert not lock.exists()


def test_second_simultaneous_run_is_refused(project: Project) -> None:
    arguments = ["run", project.root / "main.nf", "--outdir", "both", "--method", "random"]
    (project.launch / "slow").mkdir()
    slow = project.root / "bin" / "inpaint.py"
    text = slow.read_text(encoding="utf-8")
    waiting = f"until [ -e {project.launch}/go ]; do sleep 0.2; done\n"
    slow.write_text(text.replace("set -eu\n", "set -eu\n" + waiting), encoding="utf-8")
    with project.started(*arguments, "--input", "a.csv") as first:
        lock = project.launch / "both" / ".xtalfill" / "lock"
        while not lock.is_file():
            assert first.poll() is None
        # not -resume: Nextflow itself would refuse two runs of one session
        second = project.run("--input", "b.csv", "--method", "random", "--outdir", "both")
        (project.launch / "go").touch()
        output, _ = first.communicate(timeout=300)
    slow.write_text(text, encoding="utf-8")
    assert first.returncode == 0, output
    assert second.returncode != 0
    assert len(lines_with(said(second), ["/both is in use", f"process {first.pid} on "])) == 1
    assert is_of(project.launch / "both", {"a1", "a2"})
    assert any(name.startswith("INPAINT") for name in read_trace(project.launch / "both"))


def test_lock_of_a_killed_run_is_replaced(project: Project) -> None:
    arguments = ["run", project.root / "main.nf", "--outdir", "killed", "--method", "random"]
    with project.started(*arguments, "--input", "a.csv") as first:
        lock = project.launch / "killed" / ".xtalfill" / "lock"
        while not lock.is_file():
            assert first.poll() is None
        first.kill()
        first.communicate(timeout=60)
    assert lock.is_file()
    result = run(project, "b", "--outdir", "killed")
    assert result.returncode == 0, said(result)
    assert is_of(project.launch / "killed", {"b1"})


def test_full_disk_gives_one_line_and_keeps_results(project: Project, small_disk: Path) -> None:
    (small_disk / "mine").write_text("of the user", encoding="utf-8")
    result = run(project, "a", "--batch_size", "1", "--outdir", small_disk, "-w", "work_full")
    assert result.returncode != 0
    words = [f"--outdir: cannot write to {small_disk}", "No space left on device", "-resume"]
    assert len(lines_with(said(result), words)) == 1, said(result)
    assert "done in" not in said(result)
    assert {path.name for path in small_disk.iterdir()} <= {"mine", ".xtalfill", "pipeline_info"}
