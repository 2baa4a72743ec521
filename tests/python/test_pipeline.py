"""The pipeline as a user runs it: outputs, resume, bad input."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

import ase.io
import numpy as np
import pytest
import torch

from nextflow_project import (
    REPOSITORY,
    Project,
    lines_with,
    not_cached,
    read_csv,
    read_trace,
    said,
)
from tool_runs import tool_module
from xtalfill.core.batch import STATUSES, read_batch
from xtalfill.core.record import file_sha256
from xtalfill.database.connect import open_database
from xtalfill.database.query import Filter, read
from xtalfill.models.hostnet import HostNet, HostNetConfig
from xtalfill.models.weights import save_weights
from xtalfill.monitor.run import read_run
from xtalfill.monitor.stages import PLANNED, stages_of

GOOD = ("mp-23684", "mp-23795")
METHODS = ("host", "random")
SAMPLES = 2
STAGES = (
    "inpaint", "relax_sites", "relax_positions", "symmetrised", "select", "checks", "evaluate",
)  # fmt: skip
RESULT_COLUMNS = {
    "id", "formula", "n_atoms", "element", "n_missing", "status", "energy", "energy_gap",
    "n_minima", "matched", "message",
}  # fmt: skip
CANDIDATE_COLUMNS = {
    "id", "method", "sample", "seed", "status", "converged", "energy", "fmax", "n_steps", "rank",
    "minimum", "selected", "matched", "les", "rmsd", "message",
}  # fmt: skip
OUTPUTS = (
    "results.csv", "candidates.csv", "failures.csv", "selected.extxyz", "candidates.extxyz",
    "evaluation.json", "report.html", "provenance.json", "ro-crate-metadata.json",
    "pipeline_info/main.nf", "pipeline_info/trace.txt",
    "pipeline_info/timeline.html", "pipeline_info/report.html", "pipeline_info/dag.html",
    "pipeline_info/check.json",
)  # fmt: skip


@dataclass
class Run:
    """A finished run: where, on what, with which command, what it said."""

    project: Project
    sheet: Path
    command: list[str | Path]
    text: str

    @property
    def outdir(self) -> Path:
        """Return the folder of the results."""
        return self.project.launch / "results"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Run the pipeline once: two good crystals and a truncated CIF, untrained weights."""
    project = Project.make(tmp_path_factory.mktemp("pipeline"), pages=True)
    demo = project.root / "assets" / "demo" / "hosts"
    hosts = project.launch / "my hosts"
    shutil.copytree(demo, hosts)
    cif = (hosts / "mp-23684.cif").read_bytes()
    (hosts / "cut.cif").write_bytes(cif[: len(cif) // 3])
    sheet = project.launch / "sheet.csv"
    rows = ["mp-23684,my hosts/mp-23684.cif,2", "cut,my hosts/cut.cif,2"]
    rows += ["mp-23795,my hosts/mp-23795.vasp,4"]
    sheet.write_text("\n".join(["id,structure,n_missing", *rows]) + "\n", encoding="utf-8")
    torch.manual_seed(0)
    weights = project.launch / "tiny.pt"
    network = HostNet(HostNetConfig(width=8, host_layers=1, site_layers=1, n_radial=4))
    save_weights(network, weights, training={})
    command: list[str | Path] = ["-profile", "test", "--input", sheet, "--model", weights]
    command += ["--outdir", "results", "--database", "results.db"]
    result = project.run(*command)
    assert result.returncode == 0, said(result)
    return Run(project, sheet, command, said(result))


def test_the_plan_and_the_end_are_noted_for_status(run: Run) -> None:
    found = read_run(run.outdir)
    assert found.state == "finished"
    plan = found.record["plan"]
    assert (plan["structures"], plan["refused"], plan["candidates"]) == (2, 1, 8)
    stages = {stage.name: stage for stage in stages_of(found)}
    assert all(stages[name].done == stages[name].total for name in (*PLANNED, "REPORT"))
    counted = sum(stage.done for stage in stages.values()) - stages["SHEET_FILES"].done
    assert plan["tasks"] == counted
    # lib/RunPlan.groovy evaluates what tools/fit_run_cost.py fits
    model = json.loads((run.project.root / "assets" / "run_cost.json").read_text())
    (select,) = [one for one in model["stages"] if one["stage"] == "SELECT"]
    structures = json.loads((run.outdir / "pipeline_info" / "check.json").read_text())["structures"]
    for name, batch in found.batches.items():
        atoms = [one["n_atoms"] for one in structures if one["batch"] == f"{name}.h5"]
        times = SAMPLES * len(METHODS)
        point = {"atoms": atoms, "times": times, "core_seconds": None}
        expected = tool_module("fit_run_cost").expected(select, point)
        assert batch.core_seconds["SELECT"] == pytest.approx(expected)
    assert len(lines_with(run.text, ["plan: ", "core-minutes", " MB in "])) == 1
    assert len(lines_with(run.text, ["EVALUATE ", "2 of 2 structures, 8 of 8 candidates"])) == 1


def test_every_promised_file_is_there(run: Run) -> None:
    missing = [name for name in OUTPUTS if not (run.outdir / name).stat().st_size]
    assert not missing
    assert len(list((run.outdir / "batches").glob("batch_*.h5"))) == len(GOOD)


def test_results_have_a_row_for_every_structure(run: Run) -> None:
    rows = read_csv(run.outdir / "results.csv")
    assert set(rows[0]) >= RESULT_COLUMNS
    found = sorted((row["id"], row["method"]) for row in rows)
    assert found == sorted([("cut", ""), *((name, how) for name in GOOD for how in METHODS)])
    for row in rows:
        assert row["status"] in STATUSES
        if row["id"] in GOOD:
            assert row["element"] == "H"
            assert int(row["n_missing"]) == {"mp-23684": 2, "mp-23795": 4}[row["id"]]


def test_candidates_have_a_row_each(run: Run) -> None:
    rows = read_csv(run.outdir / "candidates.csv")
    assert set(rows[0]) >= CANDIDATE_COLUMNS
    keys = {(row["id"], row["method"], int(row["sample"])) for row in rows}
    assert keys == {(name, how, k) for name in GOOD for how in METHODS for k in range(SAMPLES)}
    assert len(rows) == len(keys)
    assert {row["seed"] for row in rows} == {"42"}
    assert {row["status"] for row in rows} <= set(STATUSES)
    for row in rows:
        if row["status"] == "ok":
            assert float(row["fmax"]) <= 0.05
        else:
            assert row["message"].startswith(("inpaint:", "relax_sites:", "relax_positions:"))


def test_truncated_cif_is_reported_and_the_run_goes_on(run: Run) -> None:
    rows = [row for row in read_csv(run.outdir / "failures.csv") if row["id"] == "cut"]
    assert len(rows) == 1
    assert rows[0]["status"] == "failed"
    assert rows[0]["message"]
    assert "cut.cif" in rows[0]["source"]
    assert len(lines_with(run.text, ["skipped", "cut.cif", rows[0]["message"]])) == 1
    assert "2 of 3 structures can be used: 8 candidates" in run.text


def test_summary_counts_agree_with_the_evaluation(run: Run) -> None:
    counts = json.loads((run.outdir / "evaluation.json").read_text(encoding="utf-8"))["counts"]
    assert (counts["structures_in"], counts["structures_checked"]) == (3, 2)
    line = "3 structures in -> 2 valid -> {structures_restored} converged -> {structures_matched}"
    assert line.format(**counts) in run.text
    assert "results/report.html" in run.text


def test_batches_hold_the_history_and_the_exact_host(run: Run) -> None:
    hosts = run.project.launch / "my hosts"
    given = ase.io.read(hosts / "mp-23795.vasp")
    found = []
    for path in sorted((run.outdir / "batches").glob("*.h5")):
        batch = read_batch(path)
        assert tuple(batch.stages) == STAGES
        for members in batch.groups().values():
            for index in members:
                found.append(batch.id[index])
                here = batch.atoms_slice(index)
                is_host = batch.is_host[here]
                placed = batch.stages["inpaint"].arrays["positions"][here]
                assert np.array_equal(placed[is_host], batch.positions[here][is_host])
                assert np.isfinite(placed).all()
                if batch.id[index] == "mp-23795":
                    np.testing.assert_allclose(placed[is_host], given.positions, atol=1e-9)
    assert sorted(set(found)) == sorted(GOOD)


def test_structure_files_can_be_read(run: Run) -> None:
    frames = ase.io.read(run.outdir / "candidates.extxyz", index=":")
    assert len(frames) == len(GOOD) * len(METHODS) * SAMPLES
    assert {"id", "sample", "seed", "method", "status", "converged"} <= set(frames[0].info)
    for row in read_csv(run.outdir / "results.csv"):
        folders = [run.outdir / "structures", run.outdir / "structures" / "host_fixed"]
        files = [folder / f"{row['id']}.cif" for folder in folders]
        assert [path.is_file() for path in files] == [row["id"] in GOOD] * 2
        for path in files if row["id"] in GOOD else []:
            assert len(ase.io.read(path)) == int(row["n_atoms"])


def test_provenance_says_what_was_run(run: Run) -> None:
    provenance = json.loads((run.outdir / "provenance.json").read_text(encoding="utf-8"))
    text = json.dumps(provenance)
    assert provenance["parameters"]["samples"] == SAMPLES
    assert provenance["parameters"]["method"] == "host,random"
    assert file_sha256(run.project.launch / "tiny.pt") in text
    assert torch.__version__.split("+")[0] in text


def test_report_needs_no_network(run: Run) -> None:
    html = (run.outdir / "report.html").read_text(encoding="utf-8")
    assert not re.findall(r"<(?:script|img|iframe|link)[^>]+(?:src|href)\s*=\s*[\"']?http", html)
    for name in (*GOOD, "cut"):
        assert name in html


def test_every_structure_is_in_the_results_database(run: Run) -> None:
    with open_database(str(run.project.launch / "results.db")) as database:
        stored = {row["name"]: row for row in read(database, Filter())}
    assert set(stored) == {*GOOD, "cut"}
    assert stored["cut"]["status"] == "refused"
    recipe = json.loads((run.outdir / "provenance.json").read_text(encoding="utf-8"))["recipe"]
    for name in GOOD:
        assert stored[name]["recipe"] == {part: recipe[part] for part in ("settings", "weights")}
        assert recipe["settings"]["samples"] == SAMPLES
        assert recipe["weights"]["model"] == [file_sha256(run.project.launch / "tiny.pt")]


def test_resume_runs_nothing_again(run: Run) -> None:
    before = read_trace(run.outdir)
    assert len(before) == 16
    assert set(before.values()) == {"COMPLETED"}
    tables = {name: (run.outdir / name).read_bytes() for name in ("results.csv", "report.html")}
    result = run.project.run(*run.command, "-resume")
    assert result.returncode == 0, said(result)
    after = read_trace(run.outdir)
    assert set(after) == set(before)
    assert not_cached(after) == {"REGISTER"}
    assert tables == {name: (run.outdir / name).read_bytes() for name in tables}


@pytest.mark.slow
def test_a_lost_database_gets_everything_again(run: Run) -> None:
    database = run.project.launch / "results.db"
    database.unlink()
    result = run.project.run(*run.command, "-resume")
    assert result.returncode == 0, said(result)
    assert not_cached(read_trace(run.outdir)) == {"REGISTER", "STORE"}
    with open_database(str(database)) as opened:
        assert {row["name"] for row in read(opened, Filter())} == {*GOOD, "cut"}


def test_all_structures_bad_ends_with_one_clear_line(run: Run) -> None:
    folder = run.project.launch / "bad"
    folder.mkdir()
    shutil.copy(run.project.launch / "my hosts" / "cut.cif", folder / "cut.cif")
    result = run.project.run("--input", folder, "--n_missing", "2", "--model", "tiny.pt")
    assert result.returncode != 0
    assert len(lines_with(said(result), ["said", "none of the 1 structures can be used"])) == 1
    assert len(lines_with(said(result), ["step", "CHECK (bad)"])) == 1
    assert lines_with(said(result), ["exit", "65: the input data cannot be used"])
    assert "re-submitted" not in said(result)
    # Of the run before, in the same folder, nothing is left.
    assert lines_with(said(result), ["all", "results/failures.csv"])
    tables = {"results.csv", "failures.csv"}
    assert {path.name for path in run.outdir.iterdir() if not path.name.startswith(".")} == {
        "pipeline_info", *tables
    }  # fmt: skip
    for name in tables:
        rows = read_csv(run.outdir / name)
        assert [(row["id"], row["status"]) for row in rows] == [("cut", "failed")]


def test_bad_parameters_are_told_together_before_any_task(run: Run) -> None:
    work = run.project.launch / "never"
    arguments = ["--samlpes", "3", "--resume", "--samples", "many", "--fmax", "-1", "--seed"]
    arguments += ["--device", "tpu", "--input", "absent.csv", "--mlip", "absent.nequip.zip"]
    arguments += ["--method", "host,magic", "--model", "tiny.pt, absent.pt"]
    result = run.project.run(*arguments, "-w", work)
    text = said(result)
    assert result.returncode != 0
    expected = {
        "--samlpes": "did you mean --samples?",
        "--resume": "-resume",
        "--samples": "'many' is not of type integer",
        "--fmax": "above 0",
        "--seed": "needs a value",
        "--device": "one of cpu, cuda",
        "--input": "no file or folder 'absent.csv'",
        "--mlip": "no file 'absent.nequip.zip'",
        "--method": "give one or more of host, td, pos, repaint, mattergen, random",
        "--model": "no file or folder 'absent.pt'",
    }
    for name, words in expected.items():
        assert len(lines_with(text, [f"  {name}: ", words])) == 1, text
    assert f"{len(expected)} problem(s)" in text
    assert "Exception" not in text
    assert ".groovy" not in text
    assert not list(work.glob("*/*"))


def test_missing_and_damaged_files_are_a_line_each_before_any_task(run: Run) -> None:
    work = run.project.launch / "never"
    with (run.project.root / "assets/potential/nequip-small.nequip.zip").open("ab") as file:
        file.write(b"x")
    (run.project.root / "assets" / "weights" / "host.pt").unlink(missing_ok=True)
    result = run.project.run("--input", run.sheet, "--mlip_rank", "nequip-small", "-w", work)
    assert result.returncode != 0
    assert len(lines_with(said(result), ["--mlip_rank nequip-small: ", "SHA256SUMS"])) == 1
    words = ["--method mix: no weights of kind host in assets/weights; name some with --model"]
    assert len(lines_with(said(result), words)) == 1, said(result)
    assert not list(work.glob("*/*"))


@pytest.mark.slow
def test_training_goes_on_from_its_checkpoint_in_a_later_run(run: Run) -> None:
    data = REPOSITORY / "tests" / "fixtures" / "crystals.h5"
    command = ["--mode", "train", "--train_data", data, "--train_width", "8", "--outdir", "trained"]
    for steps in ("2", "3"):
        result = run.project.run(*command, "--train_cpus", "1", "--train_steps", steps)
        assert result.returncode == 0, said(result)
        assert "trained/weights/host.pt    weights for --model" in said(result)
    outdir = run.project.launch / "trained"
    steps = [row["step"] for row in read_csv(outdir / "weights" / "host.log.csv")]
    assert steps == ["2", "3"]
    content = torch.load(outdir / "weights" / "host.pt", weights_only=True)
    assert list(content["training"]["data"]) == ["crystals.h5"]


def test_help_tells_every_parameter(run: Run) -> None:
    result = run.project.run("--help")
    assert result.returncode == 0, said(result)
    schema = json.loads((REPOSITORY / "nextflow_schema.json").read_text(encoding="utf-8"))
    for group in schema["$defs"].values():
        for name, spec in group["properties"].items():
            assert lines_with(result.stdout, [f"  --{name} ", spec["description"]])
