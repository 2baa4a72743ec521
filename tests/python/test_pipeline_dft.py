"""PW_RELAX under Nextflow: started again after its time was up, it goes on from its checkpoint."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dft_examples import RECORDED, lih_job, lih_system
from nextflow_project import Project, read_csv, read_trace, said
from xtalfill.dft.job import write_job
from xtalfill.dft.result import read_result

# Stands in for pw.x: the first time it runs out of time, then it succeeds. Keeps its inputs. At
# another cutoff it ends its task as a batch system does.
PW = """#!/usr/bin/env bash
set -eu
! grep -q 'ecutwfc *= 31' "$4" || kill -9 $PPID
calls="{calls}"
cp "$4" "$calls/$(ls "$calls" | wc -l).in"
mkdir -p out/pwscf.save
echo density > out/pwscf.save/charge-density.dat
if [ "$(ls "$calls" | wc -l)" = 1 ]; then
    zcat "{recorded}/walltime/pw.out.gz"
    exit 2
fi
zcat "{recorded}/success/pwscf.xml.gz" > out/pwscf.xml
zcat "{recorded}/success/pw.out.gz"
"""
SCRIPT = """
include {{ PW_RELAX }} from './modules/pw_relax/main'

workflow {{
    def jobs = files('{folder}/batch_0000.*.json')
    PW_RELAX(
        channel.fromList(Sizes.ofJobs(jobs, file('{folder}/plan.json'))),
        file('{pseudos}'),
        [dft_launcher: 'mpirun -np {{ranks}}', dft_scratch: null],
        'code',
    )
    PW_RELAX.out.result.subscribe {{ meta, result ->
        result.copyTo(file("{folder}/result_${{meta.id}}.json"))
    }}
}}
"""


def write_plan(folder: Path, *keys: str, core_hours: float = 0.005) -> None:
    """Write what PLAN_DFT expects of jobs."""
    plan = {"jobs": {key: {"size": 0.4, "core_hours": core_hours} for key in keys}}
    (folder / "plan.json").write_text(json.dumps(plan), encoding="utf-8")


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """Return a copy of the project with a job, and a stand-in for pw.x in front of PATH."""
    project = Project.make(tmp_path)
    folder, calls, pseudos = (tmp_path / name for name in ("path", "calls", "pseudos"))
    for path in (folder, calls, pseudos):
        path.mkdir()
    for pseudo in lih_system().pseudos.values():
        (pseudos / pseudo.filename).touch()
    write_job(lih_job(), tmp_path / "batch_0000.1.json")
    write_plan(tmp_path, "batch_0000.1")
    (folder / "pw.x").write_text(PW.format(calls=calls, recorded=RECORDED), encoding="utf-8")
    (folder / "pw.x").chmod(0o755)
    project.path.append(folder)
    script = SCRIPT.format(pseudos=pseudos, folder=tmp_path)
    (project.root / "dft.nf").write_text(script, encoding="utf-8")
    return project


def test_a_task_goes_on_from_its_checkpoint_and_is_not_repeated(
    project: Project, tmp_path: Path
) -> None:
    command = ["run", project.root / "dft.nf", "--dft_cpus", "1", "--outdir", "results"]
    result = project.nextflow(*command)
    assert result.returncode == 0, said(result)
    assert "terminated with an error exit status (75) -- Execution is retried (1)" in said(result)
    found = read_result(tmp_path / "result_batch_0000.1.json")
    assert found.status == "ok"
    assert [one.failure for one in found.attempts] == ["walltime", ""]
    first, second = ((tmp_path / "calls" / f"{n}.in").read_text() for n in (0, 1))
    assert "startingpot      = 'atomic'" in first
    assert "startingpot      = 'file'" in second
    assert first.split("ATOMIC_POSITIONS")[1] != second.split("ATOMIC_POSITIONS")[1]
    # Another cost model repeats no calculation.
    calls = len(list((tmp_path / "calls").iterdir()))
    write_plan(tmp_path, "batch_0000.1", core_hours=12.3)
    result = project.nextflow(*command, "-resume")
    assert result.returncode == 0, said(result)
    assert read_trace(project.launch / "results") == {"PW_RELAX (batch_0000.1)": "CACHED"}
    assert len(list((tmp_path / "calls").iterdir())) == calls
    # Another calculation is one.
    write_job(lih_job(ecutwfc=32.0), tmp_path / "batch_0000.1.json")
    result = project.nextflow(*command, "-resume")
    assert result.returncode == 0, said(result)
    assert read_trace(project.launch / "results") == {"PW_RELAX (batch_0000.1)": "COMPLETED"}


def test_a_job_that_cannot_be_read_is_not_tried_again(project: Project, tmp_path: Path) -> None:
    (tmp_path / "batch_0000.1.json").write_text("{}", encoding="utf-8")
    result = project.nextflow("run", project.root / "dft.nf", "--dft_cpus", "1")
    assert result.returncode != 0
    assert "terminated with an error exit status (65)" in said(result)
    assert "Execution is retried" not in said(result)
    assert not list((tmp_path / "calls").iterdir())


def test_a_plan_of_other_jobs_is_refused(project: Project, tmp_path: Path) -> None:
    write_plan(tmp_path, "batch_0000.2")
    result = project.nextflow("run", project.root / "dft.nf", "--dft_cpus", "1")
    assert result.returncode != 0
    assert "no estimate for batch_0000.1" in said(result)
    assert not list((tmp_path / "calls").iterdir())


def test_a_task_that_is_killed_every_time_does_not_end_the_run(
    project: Project, tmp_path: Path
) -> None:
    killed = lih_job(key="batch_0000.2", ecutwfc=31.0)
    write_job(killed, tmp_path / "batch_0000.2.json")
    write_plan(tmp_path, "batch_0000.1", "batch_0000.2")
    command = ["run", project.root / "dft.nf", "--dft_cpus", "1", "--outdir", "results"]
    result = project.nextflow(*command)
    assert result.returncode == 0, said(result)
    assert sorted(tmp_path.glob("result_*")) == [tmp_path / "result_batch_0000.1.json"]
    trace = project.launch / "results" / "pipeline_info" / "trace.txt"
    rows = [row for row in read_csv(trace, delimiter="\t") if "batch_0000.2" in row["name"]]
    assert [(row["attempt"], row["exit"], row["status"]) for row in rows] == [
        (str(attempt), "137", "FAILED") for attempt in range(1, 6)
    ]
    # Mended, -resume does it alone.
    write_job(lih_job(key="batch_0000.2", ecutwfc=32.0), tmp_path / "batch_0000.2.json")
    assert project.nextflow(*command, "-resume").returncode == 0
    assert read_trace(project.launch / "results") == {
        "PW_RELAX (batch_0000.1)": "CACHED",
        "PW_RELAX (batch_0000.2)": "COMPLETED",
    }
