"""The results database: what is stored, what a run leaves out, several writers, PostgreSQL."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import signal
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa
from ase import Atoms

from hand_made_batches import Case, Made, add_dft, brucite, build, lithium_hydride, write_check
from postgres_server import postgres_server
from xtalfill.cli.parser import main
from xtalfill.core.batch import write_batch
from xtalfill.core.errors import ConfigError, InputError, TryAgainError
from xtalfill.database import connect, query, schema
from xtalfill.database import store as store_module
from xtalfill.database.connect import open_database, parse_url
from xtalfill.database.finished import import_run
from xtalfill.database.known import Request, divide
from xtalfill.database.query import Filter, count, read, read_candidates
from xtalfill.database.recipe import Recipe, host_key
from xtalfill.database.records import Crystal, Record, read_records, reduced_formula
from xtalfill.database.runs import RunRecord, register
from xtalfill.database.store import add
from xtalfill.evaluate.dft import evaluate_dft
from xtalfill.evaluate.match import evaluate_batch
from xtalfill.inputs.hosts import CheckedHost
from xtalfill.results.collect import collect
from xtalfill.results.report.write import write_report
from xtalfill.results.summary import count_all

FORK = multiprocessing.get_context("fork")
RUN = RunRecord("run-1", {"samples": 2}, {"version": "0.1.0"})
SETTINGS = {"samples": 2, "seed": 42, "mlip": "7net-0"}
RECIPE = Recipe(SETTINGS, {"model": ["a" * 64]}, {"samples": 10, "seed": 42, "mlip": "7net-0"})


def cases() -> list[Case]:
    """Brucite with two minima, LiH that does not converge, and one that failed."""
    lih = lithium_hydride()
    return [
        Case("mg", brucite(), 2, [Made(), Made(relaxed=(0.3, 0, 0))]),
        Case("lih", lih, 4, [Made(status="unconverged", message="not converged")]),
        Case("bad", lih, 4, [Made(status="failed", message="relax: atoms fuse")]),
    ]


@pytest.fixture(scope="module")
def outdir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the --outdir of a finished run, as far as an import reads it."""
    folder = tmp_path_factory.mktemp("run") / "out"
    (folder / "batches").mkdir(parents=True)
    (folder / "pipeline_info").mkdir()
    batch = build(cases())
    alone = batch.groups()["lih"]  # SELECT takes it, for want of a converged one
    for name, value in {"selected": True, "best_of_all": True, "rank": 0, "minimum": 0}.items():
        batch.stages["select"].arrays[name][alone] = value
    batch.stages["evaluate"] = evaluate_batch(batch)
    add_dft(batch, message="no convergence")
    batch.stages["evaluate"].arrays |= evaluate_dft(batch)
    write_batch(batch, folder / "batches" / "batch_0000.h5")
    refused = [{"id": "torn", "source": "torn.cif", "message": "cannot be read"}]
    write_check(folder / "pipeline_info" / "check.json", cases(), refused)
    recipe = {"settings": SETTINGS, "weights": RECIPE.weights, "defaults": RECIPE.defaults}
    provenance = {"recipe": recipe, "parameters": {"samples": 2}, "workflow": {}}
    provenance |= {"created": "2026-11-28T12:00:00+00:00"}
    (folder / "provenance.json").write_text(json.dumps(provenance))
    return folder


@pytest.fixture(scope="module")
def records(outdir: Path) -> list[Record]:
    """Return what the database stores of the run."""
    check = json.loads((outdir / "pipeline_info" / "check.json").read_text())
    return list(read_records(check, [outdir / "batches" / "batch_0000.h5"]))


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """Return the URL of a PostgreSQL server."""
    with postgres_server() as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Return the URL of an empty database, of each kind."""
    if request.param == "sqlite":
        return str(tmp_path / "results.db")
    found = request.getfixturevalue("server")
    engine = sa.create_engine(parse_url(found))
    schema.metadata.drop_all(engine)
    engine.dispose()
    return str(found)


def host(case: Case, *, name: str = "", move: float = 0.0) -> CheckedHost:
    """Return the host of a case as CHECK has it."""
    atoms = case.atoms[: len(case.atoms) - case.n_missing]
    bare = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=True)
    bare.positions[0, 0] += move
    element = int(case.atoms.numbers[-1])
    return CheckedHost(name or case.id, "x.cif", bare, element, case.n_missing)


def store(url: str, records: list[Record], recipe: Recipe = RECIPE, run: RunRecord = RUN) -> None:
    with open_database(url, create=True) as database:
        register(database, run)
        add(database, records, uid=run.uid, recipe=recipe)


def rows(url: str, **wanted: Any) -> dict[str, dict[str, Any]]:
    with open_database(url) as database:
        return {row["name"]: row for row in read(database, Filter(**wanted))}


def request(url: str, recipe: Recipe = RECIPE, *redo: str) -> Request:
    return Request(url, recipe, frozenset(redo))


def test_a_structure_is_stored_with_all_that_was_found(url: str, records: list[Record]) -> None:
    store(url, records)
    found = rows(url)
    assert {name: row["status"] for name, row in found.items()} == {
        "mg": "ok", "lih": "unconverged", "bad": "failed", "torn": "refused"
    }  # fmt: skip
    mg = found["mg"]
    crystal, dft = Crystal.read(mg["crystal"]), Crystal.read(mg["dft_crystal"])
    assert crystal is not None
    assert dft is not None
    np.testing.assert_array_equal(crystal.atoms.positions, brucite().positions)  # every bit
    assert crystal.is_host.tolist() == [True, True, True, False, False]
    assert (crystal.energy, mg["energy"], mg["dft_energy"]) == (-10.0, -10.0, -100.0)
    assert mg["results"][0]["n_candidates"] == 2
    assert mg["recipe"] == RECIPE.content
    assert mg["history"]["dft"]["functional"] == "PBE"
    assert mg["run"] == "run-1"
    assert found["torn"]["message"] == "cannot be read"
    with open_database(url) as database:
        candidates = read_candidates(database, mg["id"])
        assert [one["sample"] for one in candidates] == [0, 1]
        assert count(database)["candidates"] == 4


def test_a_second_result_replaces_the_first(url: str, records: list[Record]) -> None:
    store(url, records)
    store(url, records, run=RunRecord("run-2", {}, {}))
    with open_database(url) as database:
        found = count(database)
    assert (found["results"], found["candidates"], found["runs"], found["recipes"]) == (4, 4, 2, 1)
    assert {row["run"] for row in rows(url).values()} == {"run-2"}


def test_a_run_is_registered_once(url: str, records: list[Record]) -> None:
    with open_database(url, create=True) as database:
        with pytest.raises(ConfigError, match="run run-1 is not registered"):
            add(database, records, uid=RUN.uid, recipe=RECIPE)
        since = register(database, RUN)
        time.sleep(0.002)
        assert register(database, RUN) == since
        assert register(database, RunRecord("run-2", {}, {})) > since
        assert count(database)["results"] == 0


def test_what_is_stored_is_not_filled_again(url: str, records: list[Record]) -> None:
    hosts = [host(case) for case in cases()]
    known = divide(hosts, request(url))
    assert known.reasons == {"mg": "new", "lih": "new", "bad": "new"}  # no database yet
    store(url, records)
    known = divide([*hosts, host(cases()[0], name="copy")], request(url))
    assert set(known.stored) == {"mg", "lih", "copy"}
    assert known.stored["copy"]["name"] == "mg"
    assert known.stored["mg"]["run"] == "run-1"
    assert known.reasons == {"bad": "failed before"}


def test_a_database_that_cannot_be_made_stops_check(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no folder"):
        divide([], request(str(tmp_path / "none" / "results.db")))


def test_a_long_export_does_not_lock_out_a_run(
    tmp_path: Path, records: list[Record], monkeypatch: pytest.MonkeyPatch
) -> None:
    url = str(tmp_path / "results.db")
    store(url, records)
    monkeypatch.setattr(connect, "WAIT", 0.1)
    monkeypatch.setattr(query, "_AT_ONCE", 2)
    with open_database(url) as database:
        found = read(database, Filter())
        first = next(found)
        store(url, records)  # while the export goes on
        assert [row["name"] for row in (first, *found)] == ["bad", "lih", "mg", "torn"]


def test_what_changed_is_filled_again_with_the_reason(url: str, records: list[Record]) -> None:
    store(url, records)
    mg = cases()[0]
    moved = host(mg, move=0.01)
    assert divide([moved], request(url)).reasons == {"mg": "changed: input"}
    assert divide([host(mg, move=1e-7)], request(url)).reasons == {}
    for settings, weights, reason in (
        ({"samples": 10}, {}, "changed: samples"),
        ({}, {"model": ["b" * 64]}, "changed: weights of model"),
        ({"protocol": "fast"}, {}, "changed: protocol"),  # a stage that did not run before
    ):
        recipe = Recipe(SETTINGS | settings, {**RECIPE.weights, **weights}, RECIPE.defaults)
        assert divide([host(mg)], request(url, recipe)).reasons == {"mg": reason}


def test_a_new_parameter_at_its_default_changes_nothing(url: str, records: list[Record]) -> None:
    store(url, records)
    new = Recipe(SETTINGS | {"newer": 3}, RECIPE.weights, {**RECIPE.defaults, "newer": 3})
    assert set(divide([host(cases()[0])], request(url, new)).stored) == {"mg"}
    other = Recipe(SETTINGS | {"newer": 4}, RECIPE.weights, {**RECIPE.defaults, "newer": 3})
    assert divide([host(cases()[0])], request(url, other)).reasons == {"mg": "changed: newer"}


def test_redo(url: str, records: list[Record]) -> None:
    store(url, records)
    hosts = [host(case) for case in cases()]
    known = divide(hosts, request(url, RECIPE, "failed"))
    assert known.reasons == {"lih": "--redo failed", "bad": "failed before"}
    assert set(divide(hosts, request(url, RECIPE, "all")).reasons) == {"mg", "lih", "bad"}
    assert divide(hosts, request(url, RECIPE, "mg")).reasons["mg"] == "--redo"
    with pytest.raises(ConfigError, match="--redo nobody"):
        divide(hosts, request(url, RECIPE, "nobody"))


def test_queries(url: str, records: list[Record]) -> None:
    store(url, records)
    changed = Recipe(SETTINGS | {"samples": 3}, RECIPE.weights, RECIPE.defaults)
    store(url, [one for one in records if one.columns["name"] == "mg"], changed)
    assert set(rows(url, formula="Mg(OH)2")) == {"mg"}
    assert set(rows(url, formula="Li2H2")) == {"lih", "bad"}
    assert set(rows(url, elements=("H", "O"))) == {"mg"}
    assert set(rows(url, status="unconverged")) == {"lih"}
    assert set(rows(url, min_gap=0.001)) == set(rows(url, dft_status="ok", elements=("Mg",)))
    assert set(rows(url, ids=("mg' OR '1'='1",))) == set()
    assert rows(url)["mg"]["recipe"]["settings"]["samples"] == 3  # the latest
    assert len(rows(url, limit=2)) == 2
    with open_database(url) as database:
        assert len(list(read(database, Filter(all_versions=True)))) == 5
    for wrong in ({"formula": "no formula"}, {"elements": ("Xx",)}):
        with pytest.raises(ConfigError):
            rows(url, **wrong)


def test_odds_are_compared_as_numbers(url: str, records: list[Record]) -> None:
    odds = {"mg": 0.9, "lih": 0.10, "bad": None}  # None: not calibrated
    given = []
    for one in records:
        first = [row | {"confidence_match": odds[row["id"]]} for row in one.columns["results"]]
        given.append(Record(one.columns | {"results": first}, one.candidates, one.history))
    store(url, given)
    assert set(rows(url, min_match=0.5)) == {"mg"}
    assert set(rows(url, max_match=0.5)) == {"lih"}
    assert set(rows(url, min_match=0.1, max_match=0.9)) == {"mg", "lih"}
    assert not rows(url, min_confidence=0.0)  # these crystals have none


def _store_often(url: str, records: list[Record], number: int) -> None:
    for _ in range(3):
        store(url, records, run=RunRecord(f"run-{number}", {}, {}))


def test_two_writers_at_once_do_not_hurt_each_other(url: str, records: list[Record]) -> None:
    writers = [
        FORK.Process(target=_store_often, args=(url, records[::order], number))
        for number, order in enumerate((1, -1))
    ]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)
    assert [writer.exitcode for writer in writers] == [0, 0]
    with open_database(url) as database:
        found = count(database)
    assert (found["results"], found["candidates"], found["runs"]) == (4, 4, 2)


def _store_and_die(url: str, outdir: Path) -> None:
    """Die by a signal that nothing can catch, in the middle of the transaction."""
    replace = store_module._replace_candidates

    def last(connection: Any, number: int, rows: list[dict[str, Any]]) -> None:
        replace(connection, number, rows)
        if rows:
            os.kill(os.getpid(), signal.SIGKILL)

    store_module._replace_candidates = last
    import_run(outdir, url)


def test_a_killed_writer_leaves_all_or_nothing(url: str, outdir: Path) -> None:
    writer = FORK.Process(target=_store_and_die, args=(url, outdir))
    writer.start()
    writer.join(60)
    assert writer.exitcode == -signal.SIGKILL
    with open_database(url) as database:
        assert count(database)["results"] == 0
    assert import_run(outdir, url) == 4
    with open_database(url) as database:
        assert count(database)["results"] == 4


def test_a_run_of_which_all_is_stored_says_so(tmp_path: Path) -> None:
    check = write_check(tmp_path / "check.json", [])
    stored = {"name": "mg", "status": "ok", "energy": -10.0, "dft_status": "", "run": "run-1"}
    content = json.loads(check.read_text())
    content["parameters"]["methods"] = ["host"]
    content["stored"] = [{"id": "mg", "stored": "2026-11-28T12:00:00+00:00", **stored}]
    check.write_text(json.dumps(content))
    tables = collect(check, [], tmp_path)
    assert count_all(tables)["structures_stored"] == count_all(tables)["structures_in"] == 1
    assert (tmp_path / "stored.csv").read_text().splitlines()[1].startswith("mg,mg,ok,-10.0,")
    workflow = {"name": "xtalfill", "version": "0.1.0", "license": "MIT", "contributors": ["x"]}
    workflow |= dict.fromkeys(("revision", "nextflow", "profile", "container"))
    (tmp_path / "run.json").write_text(json.dumps({"params": {}, "workflow": workflow}))
    (tmp_path / "main.nf").touch()
    write_report(
        check=check,
        batches=[],
        evaluation=tmp_path / "evaluation.json",
        records=[],
        params=tmp_path / "run.json",
        workflow=tmp_path / "main.nf",
        outdir=tmp_path,
    )
    assert "1 of them had been restored before" in (tmp_path / "report.html").read_text()


def test_a_run_of_an_older_release_is_not_imported(outdir: Path, tmp_path: Path) -> None:
    older = shutil.copytree(outdir, tmp_path / "older")
    (older / "provenance.json").write_text(json.dumps({"parameters": {}, "workflow": {}}))
    with pytest.raises(InputError, match="no recipe"):
        import_run(older, str(tmp_path / "results.db"))
    with pytest.raises(InputError, match="not the --outdir"):
        import_run(tmp_path, str(tmp_path / "results.db"))


def test_what_is_no_results_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.db").write_text("no database at all, only some text\n" * 100)
    other = tmp_path / "other.db"
    sqlite3.connect(other).execute("CREATE TABLE t (a)").connection.close()
    for given, message in (
        (tmp_path / "none.db", "no such database"),
        (tmp_path / "text.db", "not a database"),
        (other, "not a results database"),
        (tmp_path, "not a file"),
        ("mysql://host/name", "give a file of SQLite or postgresql"),
        ("postgresql://a:b:c/d", "not a URL"),
    ):
        with pytest.raises(ConfigError, match=message), open_database(str(given)):
            pass
    store(str(tmp_path / "new.db"), [])
    with sqlite3.connect(tmp_path / "new.db") as connection:
        connection.execute("UPDATE xtalfill_schema SET version = 99")
    with pytest.raises(ConfigError, match="version 99"), open_database(str(tmp_path / "new.db")):
        pass


def test_a_locked_database_is_tried_again(
    tmp_path: Path, records: list[Record], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "results.db"
    store(str(path), [])
    monkeypatch.setattr(connect, "WAIT", 0.1)
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    with pytest.raises(TryAgainError, match="locked"):
        store(str(path), records)
    holder.close()
    store(str(path), records)


def test_a_server_that_does_not_answer_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connect, "WAIT", 1)
    with pytest.raises(TryAgainError) as caught, open_database("postgresql://a@/b?host=/none"):
        pass
    assert "\n" not in str(caught.value)


def test_host_key_depends_on_the_content_alone() -> None:
    atoms = brucite()
    parts = (atoms.cell.array, atoms.numbers, atoms.positions)
    key = host_key(*parts, element=1, n_missing=2)
    assert key == host_key(*parts, element=1, n_missing=2)
    assert key == host_key(parts[0], parts[1], parts[2] - 1e-9, element=1, n_missing=2)
    assert key != host_key(*parts, element=1, n_missing=3)
    assert key != host_key(*parts, element=3, n_missing=2)
    assert reduced_formula("Mg(OH)2") == reduced_formula("O4Mg2H4") == "H2MgO2"


def test_commands(outdir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    database = str(tmp_path / "results.db")
    main(["database", "add", str(outdir), "--database", database])
    assert "4 structures stored" in capsys.readouterr().out
    main(["database", "status", "--database", database])
    assert "1 failed, 1 ok, 1 refused, 1 unconverged" in capsys.readouterr().out
    main(["query", "--database", database, "--element", "Mg", "--format", "json"])
    assert json.loads(capsys.readouterr().out)["name"] == "mg"
    main(["query", "--database", database, "--status", "ok"])
    assert "1 structures" in capsys.readouterr().out
    main(["query", "--database", database, "--status", "ok", "--format", "csv"])
    assert capsys.readouterr().out.splitlines()[1].startswith("mg,")
    with pytest.raises(SystemExit):
        main(["query", "--database", database, "--limit", "0"])
