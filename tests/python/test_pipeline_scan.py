"""--mode scan: a database in parts, in containers, resumed; the tables of `xtalfill scan`."""

from __future__ import annotations

import json
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

import ase.io
import pytest
from ase import Atoms
from ase.build import bulk

from nextflow_project import (
    REPOSITORY,
    TIMEOUT,
    Project,
    lines_with,
    make_image,
    not_cached,
    read_csv,
    read_trace,
    said,
)
from test_pipeline_graph import APPTAINER
from xtalfill.monitor.run import read_run
from xtalfill.results.scan import scan

# One structure more changes up to this many parts.
MOST_CHANGED = 4


@dataclass
class Scan:
    """A finished scan, and what it said."""

    project: Project
    command: list[str | Path]
    text: str

    @property
    def outdir(self) -> Path:
        """Return the folder of the results."""
        return self.project.launch / "scan"

    def tables(self) -> dict[str, bytes]:
        """Return the tables and the structure files, by name."""
        found = [*self.outdir.glob("*.csv"), *self.outdir.glob("hosts/*")]
        return {str(path.relative_to(self.outdir)): path.read_bytes() for path in found}


def frames(number: int) -> list[Atoms]:
    """Return as many crystals, half of them hosts without their hydrogen."""
    host = Atoms("CaO", [(0, 0, 0), (3, 3, 3)], cell=[6, 6, 6], pbc=True)
    both = (host, bulk("MgO", "rocksalt", a=4.2))
    crystals = [both[k % 2].copy() for k in range(number)]
    for k, atoms in enumerate(crystals):
        atoms.set_cell(atoms.cell * (1 + 0.001 * k), scale_atoms=True)
        atoms.info["id"] = f"x{k // 3}"  # ids that three share
    return crystals


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Scan:
    """Scan 40 crystals of one file, with a stand-in for Apptainer and only the image tools."""
    project = Project.make(tmp_path_factory.mktemp("scan"))
    folder = project.launch / "engine"
    folder.mkdir()
    (folder / "apptainer").write_text(APPTAINER, encoding="utf-8")
    (folder / "apptainer").chmod(0o755)
    project.path.append(folder)
    # The stand-in has no image with Python.
    project.path.append(project.root / ".venv" / "bin")
    images = project.launch / "images"
    images.mkdir()
    make_image(images / "xtalfill-tools-0.1.0.sif")
    ase.io.write(project.launch / "db.extxyz", frames(40))
    command: list[str | Path] = ["--mode", "scan", "--input", "db.extxyz", "--outdir", "scan"]
    command += ["--scan_batch", "8", "-profile", "apptainer", "--container_dir", images]
    result = project.run(*command)
    assert result.returncode == 0, said(result)
    return Scan(project, command, said(result))


def one_process(run: Scan, source: Path) -> dict[str, bytes]:
    """Return the tables of `xtalfill scan`."""
    folder = run.project.launch / "shell"
    shutil.rmtree(folder, ignore_errors=True)
    scan(source, folder)
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def session_of(outdir: Path) -> str:
    """Return the session of the last run that wrote there, for -resume."""
    return str(read_run(outdir).record["session"])


def judged(trace: dict[str, str]) -> set[str]:
    """Return the parts that a run judged, and did not take from the cache."""
    return {name for name, status in trace.items() if ":JUDGE " in name and status == "COMPLETED"}


def test_the_tables_are_those_of_the_command(run: Scan) -> None:
    tables = run.tables()
    assert len(tables) == 2 + 20  # half of 40 have a file in hosts/
    assert tables == one_process(run, run.project.launch / "db.extxyz")
    assert len(lines_with(run.text, ["xtalfill scanned 40 structures", "20 missing"])) == 1
    found = json.loads((run.outdir / "pipeline_info" / "scan.json").read_text())
    assert found["counts"] == {"missing": 20, "complete": 20}


def test_each_part_is_a_task_in_the_image(run: Scan) -> None:
    assert len(judged(read_trace(run.outdir))) >= 40 / 8
    rows = read_csv(run.outdir / "pipeline_info" / "trace.txt", delimiter="\t")
    for row in rows:
        wrapper = Path(row["workdir"], ".command.run").read_text(encoding="utf-8")
        (line,) = [one for one in wrapper.splitlines() if "apptainer exec" in one]
        assert "xtalfill-tools-0.1.0.sif" in line


def test_the_sheet_is_an_input_of_a_fill(run: Scan) -> None:
    rows = read_csv(run.outdir / "hosts.csv")
    assert all((run.outdir / row["structure"]).is_file() for row in rows)
    result = run.project.run("--input", run.outdir / "hosts.csv", "--n_missing", "2", "-stub")
    assert result.returncode == 0, said(result)


def test_resume_judges_only_what_is_new(run: Scan) -> None:
    before = read_trace(run.outdir)
    session = session_of(run.outdir)
    crystals = frames(40)
    crystals.append(bulk("NaCl", "rocksalt", a=5.64))
    ase.io.write(run.project.launch / "db.extxyz", crystals)
    result = run.project.run(*run.command, "-resume", session)
    assert result.returncode == 0, said(result)
    after = read_trace(run.outdir)
    assert 0 < len(judged(after)) <= MOST_CHANGED < len(judged(before))
    assert run.tables() == one_process(run, run.project.launch / "db.extxyz")


@pytest.mark.slow
def test_resume_judges_nothing_again(run: Scan) -> None:
    result = run.project.run(*run.command, "-resume", session_of(run.outdir))
    assert result.returncode == 0, said(result)
    assert not not_cached(read_trace(run.outdir))


@pytest.mark.slow
def test_a_stopped_scan_goes_on(run: Scan) -> None:
    command = [*run.command[:4], "--outdir", "stopped", "--scan_batch", "4", "-w", "work2"]
    with run.project.started("run", run.project.root / "main.nf", *command):
        limit = time.monotonic() + TIMEOUT
        while len(list((run.project.launch / "work2").glob("*/*/part_*.jsonl"))) < 3:
            assert time.monotonic() < limit
            time.sleep(0.2)
    assert not (run.project.launch / "stopped" / "scan.csv").exists()
    session = session_of(run.project.launch / "stopped")
    result = run.project.run(*command, "-resume", session)
    assert result.returncode == 0, said(result)
    trace = read_trace(run.project.launch / "stopped")
    cached = {name for name, status in trace.items() if status == "CACHED"}
    assert any(":JUDGE " in name for name in cached)
    assert judged(trace)
    assert (run.project.launch / "stopped" / "scan.csv").read_bytes() == run.tables()["scan.csv"]


def test_nothing_can_be_judged(run: Scan) -> None:
    (run.project.launch / "bad.extxyz").write_text("1\n\nO 0 0 0\n", encoding="utf-8")
    result = run.project.run("--mode", "scan", "--input", "bad.extxyz", "--outdir", "bad")
    assert result.returncode != 0
    words = ["said", "bad.extxyz: none of the 1 structures can be judged"]
    assert len(lines_with(said(result), words)) == 1, said(result)
    assert lines_with(said(result), ["all", "bad/scan.csv"])
    (row,) = read_csv(run.project.launch / "bad" / "scan.csv")
    assert (row["status"], bool(row["message"])) == ("failed", True)


def test_the_files_of_a_folder_are_read_where_they_are_judged(run: Scan) -> None:
    tree, outdir = run.project.launch / "my cifs", run.project.launch / "tree"
    shutil.copytree(REPOSITORY / "tests" / "fixtures" / "inputs" / "05_OH_label", tree)
    (tree / "deep").mkdir()
    (tree / "deep" / "link.cif").symlink_to(tree / "brucite_formula.cif")
    (tree / "broken.cif").write_text("data_x\n_cell_length_a 3\n", encoding="utf-8")
    command = ["--mode", "scan", "--input", tree, "--outdir", outdir, "--scan_batch", "1"]
    result = run.project.run(*command)
    assert result.returncode == 0, said(result)
    tables = {path.name: path.read_bytes() for path in outdir.glob("*.csv")}
    assert tables == one_process(run, tree)
    (tree / "broken.cif").write_text("data_x\n_cell_length_a 4\n", encoding="utf-8")
    result = run.project.run(*command, "-resume", session_of(outdir))
    assert result.returncode == 0, said(result)
    assert len(judged(read_trace(outdir))) == 1
