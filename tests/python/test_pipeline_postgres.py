"""Runs of the pipeline with their results in a PostgreSQL server: two at once, then what is new."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from nextflow_project import TIMEOUT, Project, read_csv, read_trace, said
from postgres_server import postgres_server
from xtalfill.database.connect import open_database
from xtalfill.database.query import Filter, read
from xtalfill.database.schema import candidate

HOSTS = {"mp-23684": (".cif", 2), "mp-23795": (".vasp", 4), "mp-23844": (".cif", 4)}
# Candidates that stay unrelaxed are stored, too.
QUICK: tuple[str, ...] = (
    "--method",
    "random",
    "--samples",
    "2",
    "--mlip",
    "nequip-small",
    "--seed",
    "1",
)
QUICK += ("--sites_max_steps", "2", "--max_steps", "2", "--batch_size", "1")


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with postgres_server() as url:
        yield url


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    return Project.make(tmp_path_factory.mktemp("postgres"))


def command(project: Project, url: str, names: list[str]) -> list[str | Path]:
    """Write the sheet of some hosts; return the command that fills them."""
    hosts = project.root / "assets" / "demo" / "hosts"
    rows = [f"{name},{hosts / name}{HOSTS[name][0]},{HOSTS[name][1]}" for name in names]
    sheet = project.launch / "hosts.csv"
    sheet.write_text("\n".join(["id,structure,n_missing", *rows]) + "\n", encoding="utf-8")
    return ["--input", sheet, "--database", url, *QUICK]


def launched(project: Project, name: str) -> Project:
    """Return the project with a launch folder of its own, as another user has."""
    folder = project.launch / name
    folder.mkdir()
    return replace(project, launch=folder)


def filled(outdir: Path) -> set[str]:
    """Return the structures that a run filled."""
    return {row["id"] for row in read_csv(outdir / "results.csv")}


def stored(url: str) -> dict[str, dict]:
    """Return the latest result of each structure in the database."""
    with open_database(url) as database:
        return {row["name"]: row for row in read(database, Filter())}


def test_two_runs_at_once_and_a_third_that_fills_what_is_new(project: Project, url: str) -> None:
    first, second = launched(project, "first"), launched(project, "second")
    one = command(first, url, ["mp-23684", "mp-23795"])
    other = command(second, url, ["mp-23795"])
    main = project.root / "main.nf"
    with first.started("run", main, *one) as a, second.started("run", main, *other) as b:
        text = "".join(process.stdout.read() for process in (a, b) if process.stdout)
        assert [process.wait(timeout=TIMEOUT) for process in (a, b)] == [0, 0], text
    # Both began with an empty database, or one saw what the other had stored: nothing is lost.
    assert filled(first.launch / "results") == {"mp-23684", "mp-23795"}
    found = stored(url)
    assert set(found) == {"mp-23684", "mp-23795"}
    with open_database(url) as database, database.transaction() as connection:
        rows = connection.execute(candidate.select()).all()
    assert len(rows) == 2 * len(found)  # of the structure that both filled, one result
    shutil.rmtree(second.launch / "work")  # the third run takes nothing from the cache

    third = launched(project, "third")
    result = third.run(*command(third, url, list(HOSTS)))
    assert result.returncode == 0, said(result)
    assert filled(third.launch / "results") == {"mp-23844"}
    kept = {row["id"] for row in read_csv(third.launch / "results" / "stored.csv")}
    assert kept == {"mp-23684", "mp-23795"}
    trace = read_trace(third.launch / "results")
    assert len([name for name in trace if name.startswith("RELAX ")]) == 1
    after = stored(url)
    assert set(after) == set(HOSTS)
    assert all(after[name] == found[name] for name in found)
