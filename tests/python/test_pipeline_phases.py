"""--competing_phases: from the table to counts.csv; a bad table ends the run at CHECK."""

from __future__ import annotations

import math
from pathlib import Path

import ase.io
import pytest
from ase.build import bulk

from nextflow_project import Project, lines_with, not_cached, read_csv, read_trace, said

QUICK: tuple[str, ...] = (
    "--n_missing",
    "auto",
    "--n_tries",
    "2",
    "--mlip",
    "nequip-small",
    "--method",
    "random",
)
QUICK += ("--samples", "1", "--sites_max_steps", "2", "--max_steps", "2", "--mu", "-3.3")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    project = Project.make(tmp_path_factory.mktemp("phases"))
    ase.io.write(project.launch / "host.vasp", bulk("Mg", "hcp", a=3.2, c=5.2))
    rows = "structure\nhost.vasp\n"
    (project.launch / "hosts.csv").write_text(rows, encoding="utf-8")
    return project


def command(table: str) -> list[str | Path]:
    return ["--input", "hosts.csv", "--competing_phases", table, *QUICK]


def test_a_new_table_judges_again_what_is_relaxed(project: Project) -> None:
    table = project.launch / "phases.csv"
    table.write_text("composition,energy_per_atom\nMg,-1.5\nH2,-3.3\n", encoding="utf-8")
    result = project.run(*command("phases.csv"))
    assert result.returncode == 0, said(result)
    before = {row["n_missing"]: row for row in read_csv(project.launch / "results/counts.csv")}
    assert set(before) == {"0", "2", "4"}
    assert {row["phases"] for row in before.values()} == {"Mg", "H2 + Mg"}
    table.write_text("composition,energy_per_atom\nMg,-1.5\nH2,-3.3\nMgH2,-5\n", encoding="utf-8")
    result = project.run(*command("phases.csv"), "-resume")
    assert result.returncode == 0, said(result)
    trace = read_trace(project.launch / "results")
    assert not not_cached(trace) & {"INPAINT", "RELAX", "SELECT"}
    after = {row["n_missing"]: row for row in read_csv(project.launch / "results/counts.csv")}
    # Mg2H4 is two MgH2: 3 atoms at -5 eV instead of Mg and H2
    lowered = float(after["4"]["above_hull"]) - float(before["4"]["above_hull"])
    assert math.isclose(lowered, (15 - 1.5 - 6.6) / 3, abs_tol=1e-6)
    assert after["4"]["phases"] == "MgH2"
    for name in ("probability", "energy", "rank"):
        assert {n: row[name] for n, row in after.items()} == {
            n: row[name] for n, row in before.items()
        }


def test_a_bad_table_ends_the_run_before_anything_is_computed(project: Project) -> None:
    (project.launch / "bad.csv").write_text("composition,energy_per_atom\nMg,much\n", "utf-8")
    result = project.run(*command("bad.csv"), "--outdir", "bad")
    assert result.returncode != 0
    words = ["said", "bad.csv line 2 (Mg): energy_per_atom is no energy; give eV per atom"]
    assert len(lines_with(said(result), words)) == 1, said(result)
    assert not any(name.startswith("RELAX") for name in read_trace(project.launch / "bad"))
