"""A structure more in the input, with -resume: what did not change is not done again."""

from __future__ import annotations

from pathlib import Path

import pytest

from nextflow_project import Project, read_trace, said
from stub_commands import install_stubs, write_hosts

NAMES = [f"host_{number}" for number in range(20)]
OF_A_BATCH = ("INPAINT", "RELAX", "SELECT", "EVALUATE")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Return a copy of the project with stand-ins."""
    project = Project.make(tmp_path_factory.mktemp("incremental"))
    install_stubs(project)
    return project


def trace_of(project: Project, names: list[str], batch_size: int) -> dict[str, str]:
    """Run the pipeline with -resume and return the status of each task on a batch."""
    sheet = write_hosts(project.launch / "hosts.csv", names)
    command: list[str | Path] = ["--input", sheet, "--method", "random"]
    result = project.run(*command, "--batch_size", str(batch_size), "-resume")
    assert result.returncode == 0, said(result)
    trace = read_trace(project.launch / "results")
    return {name: status for name, status in trace.items() if name.startswith(OF_A_BATCH)}


def test_one_structure_more_is_all_that_is_done(project: Project) -> None:
    names = NAMES[:5]
    before = trace_of(project, names, 1)
    assert len(before) == 5 * len(OF_A_BATCH)
    after = trace_of(project, ["another", *names], 1)
    new = [name for name, status in after.items() if status != "CACHED"]
    assert [name.split(" ")[0] for name in new] == list(OF_A_BATCH)
    assert len({name.split(" ")[1] for name in new}) == 1
    assert set(before) == set(after) - set(new)


@pytest.mark.slow
def test_most_larger_batches_stay(project: Project) -> None:
    before = trace_of(project, NAMES, 5)
    after = trace_of(project, [*NAMES, "another"], 5)
    new = {name for name, status in after.items() if status != "CACHED"}
    # one batch changed, or was cut in two
    assert len(new) <= 2 * len(OF_A_BATCH) < len(before) / 2
    # A changed host is seen, though its batch keeps its name.
    host = project.launch / "host_3.vasp"
    host.write_text(host.read_text(encoding="utf-8").replace("4.2", "4.3"), encoding="utf-8")
    sheet = project.launch / "hosts.csv"
    command = ["--input", sheet, "--method", "random", "--batch_size", "5"]
    assert project.run(*command, "-resume").returncode == 0
    trace = read_trace(project.launch / "results")
    done = [name for name in trace if name in after and trace[name] != "CACHED"]
    assert [name.split(" ")[0] for name in done] == list(OF_A_BATCH)
