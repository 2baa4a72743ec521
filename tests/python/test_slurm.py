"""The pipeline on a real single-node Slurm: preemption, memory and time limits, resume."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from dft_examples import RECORDED, lih_job, lih_system
from nextflow_project import REPOSITORY, Project, not_cached, read_csv, read_trace, said
from slurm_node import slurm, slurm_node, wait_for
from xtalfill.dft.job import write_job
from xtalfill.dft.result import read_result

CRYSTALS = REPOSITORY / "tests" / "fixtures" / "crystals.h5"
# No images, and short polling intervals.
SITE = """
apptainer.enabled = false
executor {
    pollInterval = '1 sec'
    queueStatInterval = '1 sec'
    submitRateLimit = '100/1sec'
    exitReadTimeout = '5 sec'
}
process.'withName:PW_RELAX'.memory = { 500.MB * task.attempt }
"""
# Mock pw.x: exceeds the memory of its task the first time.
PW = """#!/usr/bin/env bash
set -eu
if mkdir "{folder}/called" 2> /dev/null; then
    "{python}" -c 'import time; big = bytearray(800 * 2**20); time.sleep(60)'
fi
mkdir -p out/pwscf.save
zcat "{recorded}/success/pwscf.xml.gz" > out/pwscf.xml
zcat "{recorded}/success/pw.out.gz"
"""
DFT = """
include {{ PW_RELAX }} from './modules/pw_relax/main'

workflow {{
    def folder = '{folder}'
    def jobs = [{jobs}].collect {{ id -> file("$folder/${{id}}.json") }}
    PW_RELAX(
        channel.fromList(Sizes.ofJobs(jobs, file("$folder/plan.json"))),
        file('{folder}/pseudos'),
        [dft_launcher: 'mpirun -np {{ranks}}', dft_scratch: null],
        'code',
    )
    PW_RELAX.out.result.subscribe {{ meta, result ->
        result.copyTo(file("$folder/results/${{meta.id}}.json"))
    }}
}}
"""


@dataclass
class Cluster:
    """A single-node Slurm and a copy of the project that submits to it."""

    conf: Path
    project: Project


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Start Slurm; stop it at the end."""
    project = Project.make(tmp_path_factory.mktemp("slurm"))
    (project.launch / "site.config").write_text(SITE, encoding="utf-8")
    with slurm_node(tmp_path_factory.mktemp("node")) as conf:
        project.variables["SLURM_CONF"] = str(conf)
        yield Cluster(conf, project)


def log_of(project: Project, process: str) -> Path | None:
    """Return the newest log of a process, empty if there is none."""
    for script in (project.launch / "work").glob("*/*/.command.run"):
        log = script.with_name(".command.err")
        if f"### name: '{process}" in script.read_text(encoding="utf-8") and log.is_file():
            return log
    return None


def wait_for_line(run: subprocess.Popen[str], project: Project, process: str, text: str) -> None:
    """Wait until a process of a running pipeline has logged a text."""

    def logged() -> bool:
        assert run.poll() is None, run.communicate()
        log = log_of(project, process)
        return log is not None and text in log.read_text(encoding="utf-8")

    wait_for(logged)


def attempts(outdir: Path, process: str) -> dict[str, dict[str, str]]:
    """Return the trace rows of a process, by attempt."""
    rows = read_csv(outdir / "pipeline_info" / "trace.txt", delimiter="\t")
    return {row["attempt"]: row for row in rows if row["name"].startswith(process)}


def log_at(row: dict[str, str]) -> str:
    """Return the log of a task, given its trace row."""
    return (Path(row["workdir"]) / ".command.err").read_text(encoding="utf-8")


def running_job(cluster: Cluster, name: str) -> str | None:
    """Return the id of a running job, given a part of its name."""
    lines = slurm(cluster.conf, "squeue", "-h", "-t", "running", "-o", "%i %j").splitlines()
    return next((line.split()[0] for line in lines if name in line), None)


def test_preempted_run_continues_and_resumes(cluster: Cluster) -> None:
    project = cluster.project
    command = ["-profile", "slurm,test", "-c", "site.config", "--outdir", "results"]
    command += ["--method", "random", "--batch_size", "10", "--relax_cpus", "1"]
    command += ["--sites_max_steps", "5", "--fmax", "1e-6", "--max_steps", "100"]
    with project.started("run", project.root / "main.nf", *command) as run:
        wait_for_line(run, project, "RELAX", "relax_sites: 6/6 done")
        urgent = ("sbatch", "-p", "urgent", "--exclusive", "-o", "/dev/null", "--wrap", "true")
        slurm(cluster.conf, *urgent)
        said_by_run, _ = run.communicate(timeout=600)
    assert run.returncode == 0, said_by_run
    jobs = (cluster.conf.parent / "jobs.log").read_text(encoding="utf-8")
    assert jobs.count("JobState=PREEMPTED") == 1
    assert re.search(r"Process `RELAX \(batch_\w+\)` terminated with an error exit", said_by_run)
    assert "Execution is retried (1)" in said_by_run
    tries = attempts(project.launch / "results", "RELAX")
    assert set(tries) == {"1", "2"}
    assert (Path(tries["1"]["workdir"]) / "checkpoint" / "state.npz").is_file()
    assert "resuming from" in log_at(tries["2"])
    assert "relax_positions: 6/6 done, 0 failed" in log_at(tries["2"])
    results = read_csv(project.launch / "results" / "results.csv")
    assert len(results) == 2
    again = project.run(*command, "-resume")
    assert again.returncode == 0, said(again)
    assert set(read_trace(project.launch / "results").values()) == {"CACHED"}


TRAINING = ["--mode", "train", "--train_data", str(CRYSTALS), "--train_width", "8"]
TRAINING += ["--train_crystals", "2", "--train_cpus", "1", "-profile", "slurm"]


def test_cancelled_job_is_retried_and_not_requeued(cluster: Cluster) -> None:
    project = cluster.project
    command = [*TRAINING, "-c", "site.config", "--outdir", "cancelled", "--train_steps", "200"]
    with project.started("run", project.root / "main.nf", *command) as run:
        wait_for_line(run, project, "TRAIN", "step 100 loss")
        job = running_job(cluster, "TRAIN")
        assert job is not None
        # Nextflow retries the task in a new folder
        with pytest.raises(subprocess.CalledProcessError):
            slurm(cluster.conf, "scontrol", "requeue", job)
        slurm(cluster.conf, "scancel", job)
        said_by_run, _ = run.communicate(timeout=600)
    assert run.returncode == 0, said_by_run
    assert "Process `TRAIN (host)` terminated with an error exit status (" in said_by_run
    tries = attempts(project.launch / "cancelled", "TRAIN")
    assert set(tries) == {"1", "2"}
    # written on SIGTERM: the checkpoint interval had not passed
    resumed = re.search(r"resumed at step (\d+)", log_at(tries["2"]))
    assert resumed is not None
    assert int(resumed[1]) >= 100


@pytest.mark.slow
@pytest.mark.parametrize("warned", [False, True])
def test_job_stops_before_its_time_limit(cluster: Cluster, warned: bool) -> None:
    project = cluster.project
    # Nextflow has Slurm send a signal 30 to 90 s before the end: of so short a job that comes first
    options = "" if warned else "--signal=B:CONT@1"
    limit = f"""
    process.'withName:TRAIN'.time = {{ task.attempt == 1 ? 3.min : 1.h }}
    process.'withName:TRAIN'.clusterOptions = '{options}'
    """
    (project.launch / "limit.config").write_text(SITE + limit, encoding="utf-8")
    shutil.rmtree(project.launch / "work", ignore_errors=True)
    command = [*TRAINING, "-c", "limit.config", "--train_steps", "100000"]
    command += ["--outdir", "warned" if warned else "by_its_own_clock"]
    with project.started("run", project.root / "main.nf", *command) as run:

        def logs() -> list[Path]:
            begun = (project.launch / "work").glob("*/*/.command.begin")
            in_order = sorted(begun, key=lambda file: file.stat().st_mtime)
            return [file.with_name(".command.err") for file in in_order]

        def goes_on() -> bool:
            assert run.poll() is None, run.communicate()
            return any("resumed at step" in log.read_text() for log in logs() if log.is_file())

        wait_for(goes_on)
        first, _second = logs()
    if not warned:
        says = "training: time limit nearly reached; the next attempt resumes from the checkpoint"
        assert says in first.read_text(encoding="utf-8")
        assert first.with_name(".exitcode").read_text(encoding="utf-8") == "75"
    jobs = (cluster.conf.parent / "jobs.log").read_text(encoding="utf-8")
    assert "TimeLimit=3 " in jobs
    assert "JobState=TIMEOUT" not in jobs


def test_job_killed_for_memory_is_retried_with_more(cluster: Cluster, tmp_path: Path) -> None:
    project = cluster.project
    for name in ("path", "pseudos", "results"):
        (tmp_path / name).mkdir()
    keys = [f"batch_0000.{number}" for number in range(3)]
    for key in keys:
        write_job(lih_job(key=key), tmp_path / f"{key}.json")
    plan = {"jobs": {key: {"size": 0.4, "core_hours": 0.005} for key in keys}}
    (tmp_path / "plan.json").write_text(json.dumps(plan), encoding="utf-8")
    for pseudo in lih_system().pseudos.values():
        (tmp_path / "pseudos" / pseudo.filename).touch()
    pw = tmp_path / "path" / "pw.x"
    pw.write_text(PW.format(folder=tmp_path, python=sys.executable, recorded=RECORDED))
    pw.chmod(0o755)
    script = project.root / "dft.nf"
    script.write_text(DFT.format(jobs=", ".join(f"'{key}'" for key in keys), folder=tmp_path))
    project.path.insert(0, tmp_path / "path")
    command = ["-profile", "slurm", "-c", "site.config", "--dft_cpus", "1", "--slurm_array", "3"]
    result = project.nextflow("run", script, *command, "--outdir", "dft")
    project.path.pop(0)
    assert result.returncode == 0, said(result)
    assert (tmp_path / "called").is_dir()
    assert [read_result(tmp_path / "results" / f"{key}.json").status for key in keys] == ["ok"] * 3
    rows = read_csv(project.launch / "dft" / "pipeline_info" / "trace.txt", delimiter="\t")
    assert sorted(row["attempt"] for row in rows) == ["1", "1", "1", "2"]
    failed = next(row for row in rows if row["status"] == "FAILED")
    assert "exceeded memory limit" in (cluster.conf.parent / "slurmd.log").read_text()
    # Slurm kills all processes of the job; its wrapper may or may not write this before.
    code = Path(failed["workdir"]) / ".exitcode"
    assert not code.exists() or code.read_text(encoding="utf-8") in {"137", "143"}
    assert len(rows) == 4
    assert shutil.which("sbatch")
    sizes = slurm(cluster.conf, "squeue", "-h", "-t", "all", "-o", "%F %K %m").splitlines()
    arrays = {line.split()[0] for line in sizes if line.split()[1] != "N/A"}
    assert len(arrays) == 1
    assert any(line.endswith("N/A 1000M") for line in sizes)


def test_pipeline_in_a_head_job(cluster: Cluster) -> None:
    project = cluster.project
    profile = {"XTALFILL": str(project.root), "XTALFILL_PROFILE": "slurm,test,stub"}
    environment = {**project.environment(), **profile, "XTALFILL_SITE": "site.config"}
    script = project.root / "assets" / "head_job.sbatch"
    command = ["sbatch", "--wait", "--mem", "2G", "--cpus-per-task", "1", "--output", "head.log"]
    done = subprocess.run(
        [*command, script, "--outdir", "by_head_job", "--relax_cpus", "1"],
        cwd=project.launch,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    log = (project.launch / "head.log").read_text(encoding="utf-8")
    assert done.returncode == 0, done.stderr + log
    assert len(read_trace(project.launch / "by_head_job")) == 12


@pytest.mark.slow
def test_requeued_head_job_continues(cluster: Cluster) -> None:
    project = cluster.project
    profile = {"XTALFILL": str(project.root), "XTALFILL_PROFILE": "slurm,test"}
    environment = {**project.environment(), **profile, "XTALFILL_SITE": "site.config"}
    command = ["sbatch", "--parsable", "--mem", "2G", "--cpus-per-task", "1", "-o", "requeued.log"]
    command += [str(project.root / "assets" / "head_job.sbatch"), "--outdir", "requeued"]
    command += ["--method", "random", "--batch_size", "10", "--relax_cpus", "1"]
    command += ["--sites_max_steps", "5", "--fmax", "1e-6", "--max_steps", "100"]
    done = subprocess.run(
        command, cwd=project.launch, env=environment, capture_output=True, text=True, check=True
    )
    head = done.stdout.strip()
    wait_for(lambda: running_job(cluster, "RELAX") is not None)
    relax = running_job(cluster, "RELAX")
    slurm(cluster.conf, "scontrol", "requeue", head)
    wait_for(lambda: f"JobId={relax} " in (cluster.conf.parent / "jobs.log").read_text())

    def ended() -> bool:
        state = slurm(cluster.conf, "squeue", "-h", "-t", "all", "-j", head, "-o", "%T").strip()
        assert state not in {"FAILED", "CANCELLED"}, (project.launch / "requeued.log").read_text()
        return state == "COMPLETED"

    wait_for(ended)
    trace = read_trace(project.launch / "requeued")
    assert not_cached(trace) >= {"RELAX", "REPORT"}
    assert not not_cached(trace) & {"INPUT:CHECK", "INPAINT"}
    assert len(read_csv(project.launch / "requeued" / "results.csv")) == 2


@pytest.mark.slow
def test_pipeline_in_images(cluster: Cluster) -> None:
    images = Path(os.environ.get("XTALFILL_IMAGES", REPOSITORY / "containers"))
    if shutil.which("apptainer") is None or not list(images.glob("*tools*.sif")):
        pytest.skip("no Apptainer or no images: make images, or name their folder: XTALFILL_IMAGES")
    project = cluster.project
    text = SITE.replace("apptainer.enabled = false", "")
    (project.launch / "images.config").write_text(text, encoding="utf-8")
    command = ["-profile", "slurm,test", "-c", "images.config", "--outdir", "in_images"]
    result = project.run(*command, "--container_dir", images)
    assert result.returncode == 0, said(result)
    assert len(read_csv(project.launch / "in_images" / "results.csv")) == 4
    versions = json.loads((project.launch / "in_images" / "provenance.json").read_text())
    assert versions["workflow"]["container"] == "apptainer"


def test_two_nodes_on_one_machine(tmp_path: Path) -> None:
    with slurm_node(tmp_path) as conf:
        out = slurm(conf, "srun", "hostname")
        assert (
            out.strip()
            == subprocess.run(
                ["hostname"], capture_output=True, text=True, check=True
            ).stdout.strip()
        )
