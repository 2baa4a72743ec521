"""Mixes of measured candidates: rates by all choices, costs, and the search for shares."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import pytest
from ase import Atoms

from analytic_potential import MorsePotential
from tool_runs import REPOSITORY, tool_module
from xtalfill.core.errors import InputError

cover = tool_module("search_cover")


def run(monkeypatch: pytest.MonkeyPatch, module: Any, *arguments: object) -> None:
    """Run a tool in this process: its imports take seconds."""
    monkeypatch.setattr("sys.argv", [module.__name__, *map(str, arguments)])
    module.main()


def candidate(
    source: str, above: float | None, *, les: bool = False, **other: Any
) -> dict[str, Any]:
    found = {"source": source, "status": "ok", "above": above, "matched": les, "les": les}
    return {**found, "proposed": 1.0, "relaxed": 2.0, "minimum": 0, "ranked": 0.0, **other}


def crystal(name: str, candidates: list[dict[str, Any]], host_class: str = "metal") -> Any:
    record = {"id": name, "host_class": host_class, "n_sites": 2, "candidates": candidates}
    return cover.Measured(record)


def test_rates_are_the_mean_over_all_choices() -> None:
    rng = np.random.default_rng(3)
    rows = [
        candidate(source, float(rng.normal()), les=bool(rng.random() < 0.5))
        for source in ["host"] * 5 + ["random"] * 4 + ["voids"] * 3
    ]
    rows[1]["above"] = None
    mixture = cover.Mixture.read("host:2,random:2,voids:1")
    choices = itertools.product(
        itertools.combinations(rows[:5], 2), itertools.combinations(rows[5:9], 2)
    )
    outcomes = []
    for one, other in choices:
        usable = [row for row in (*one, *other, rows[9]) if row["above"] is not None]
        outcomes.append(min(usable, key=lambda row: row["above"])["les"])
    assert crystal("a", rows).rates(mixture)[0] == pytest.approx(np.mean(outcomes))


def test_the_cost_counts_chunks_of_proposals_and_each_minimum_once() -> None:
    rows = [candidate("host", 0.0, minimum=n // 2, ranked=10.0) for n in range(4)]
    rows += [candidate("voids", 0.0, minimum=0, ranked=10.0)]
    one = crystal("a", rows)
    # five proposals of host are drawn together; one of voids
    assert one.seconds(cover.Mixture.read("host:4,voids:1")) == pytest.approx(6 + 5 * 2 + 2 * 10)
    # two of four: the second minimum is missed by one choice of six
    expected = 6 + 3 * 2 + 10 + 10 * 5 / 6
    assert one.seconds(cover.Mixture.read("host:2,voids:1")) == pytest.approx(expected)


def test_a_source_that_is_used_up_leaves_its_places() -> None:
    rows = [candidate("host", 1.0) for _ in range(6)] + [candidate("voids", 0.0, les=True)]
    rows += [candidate("voids", None, status="absent")]
    one = crystal("a", rows)
    assert dict(one.counts(cover.Mixture.read("host:2,voids:2"))) == {"host": 3, "voids": 1}


def test_simulated_stop_relaxes_what_relax_would(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(REPOSITORY / "tools")
    stopping = tool_module("simulate_stopping")
    alike = [candidate("host", 1.0, first=-3.0) for _ in range(10)]
    rare = [candidate("voids", 0.0, les=True, first=-4.0) for _ in range(5)]
    one = crystal("a", alike + rare)
    mixture = cover.Mixture.read("host:10,voids:5")
    cells = {below: stopping.row([one], mixture, below, 3) for below in (None, 0.1, 0.05)}
    # the order has 3 or 4 of host in each five: two minima, each found twice or more
    assert [cells[below]["candidates"] for below in (None, 0.1, 0.05)] == [15.0, 5.0, 10.0]
    assert {cell["les"]["value"] for cell in cells.values()} == {100.0}
    # all 15 are proposed, whatever is relaxed
    assert cells[0.1]["seconds"] == pytest.approx(15 * 1.0 + 5 * 2.0)
    only = stopping.row([crystal("b", alike)], cover.Mixture.read("host:10"), 0.1, 3)
    assert (only["candidates"], only["les"]["value"]) == (5.0, 0.0)


def test_the_search_finds_what_each_class_needs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = []
    for number in range(24):
        metal = number % 2 == 0
        host = [candidate("host", 0.1 + 0.01 * n, les=not metal) for n in range(10)]
        voids = [candidate("voids", 0.0 if metal else 1.0, les=metal) for n in range(4)]
        kind = "metal" if metal else "salt"
        records.append(
            {"id": f"c{number}", "n_atoms": 4, "n_sites": 2, "host_class": kind, "usable": True,
             "candidates": host + voids}
        )  # fmt: skip
    file = tmp_path / "measured.jsonl"
    file.write_text("".join(json.dumps(record) + "\n" for record in records))
    run(
        monkeypatch, cover, file, "--mixes", "host:8,voids:2", "--sources", "host", "voids",
        "--total", 4, "--cost", 1.0, "--folds", 4, "--output", tmp_path / "found.json",
    )  # fmt: skip
    found = json.loads((tmp_path / "found.json").read_text())
    rates = {(row["mix"], row["class"]): row["les"]["value"] for row in found["mixes"]}
    assert rates["host 10, k = 10", "all"] == 50.0
    assert rates["host 8 + voids 2, k = 10", "all"] == 100.0
    entries = {entry["host_class"]: entry for entry in found["search"]["entries"]}
    assert "voids" in entries["metal"]["shares"]
    assert [entry["les"]["value"] for entry in entries.values()] == [100.0, 100.0]
    assert all(entry["seconds"] <= 10 * (1 + 2) for entry in entries.values())
    assert found["search"]["cross_validated"]["les"]["value"] == 100.0
    assert found["search"]["cross_validated"]["les_test"].startswith("12 : 0")
    run(monkeypatch, cover, file, "--classes", "salt", "--sources", "--table", tmp_path / "t.json")
    table = json.loads((tmp_path / "t.json").read_text())
    assert (table["crystals"], table["rows"][0]["cells"]["les"]["value"]) == (12, 100.0)


def test_candidates_of_a_crystal_and_a_stopped_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, one_thread: None
) -> None:
    assert one_thread is None
    measure = tool_module("measure_cover")
    monkeypatch.setattr(measure, "load_potential", lambda *_, **__: MorsePotential())
    atoms = Atoms("LiH", [[0, 0, 0], [2.0, 2.0, 2.0]], cell=[[0, 2, 2], [2, 0, 2], [2, 2, 0]])
    atoms.pbc, atoms.info["id"] = True, "lih"
    ase.io.write(tmp_path / "one.extxyz", [atoms])
    arguments = (
        "--crystals", tmp_path / "one.extxyz", "--sources", "voids:9", "random:2",
        "--mlip", "morse", "--mlip_rank", "morse", "--output", tmp_path / "out.jsonl",
    )  # fmt: skip
    run(monkeypatch, measure, *arguments)
    before = (tmp_path / "out.jsonl").read_text()
    record = json.loads(before)
    assert record["usable"]
    assert record["host_class"] == "metal"
    rows = record["candidates"]
    assert [row["source"] for row in rows if row["status"] != "absent"].count("random") == 2
    n_voids = sum(row["source"] == "voids" and row["status"] != "absent" for row in rows)
    assert 0 < n_voids < 9
    assert rows[0]["les"]
    assert min(rows[0]["relaxed"], rows[0]["ranked"]) > 0
    # Relaxation lowers the energy; a place that its source does not have cannot be looked at.
    assert rows[0]["look"] >= rows[0]["first"]
    assert {row["look"] is None for row in rows if row["status"] == "absent"} == {True}
    run(monkeypatch, measure, *arguments)
    assert (tmp_path / "out.jsonl").read_text() == before


def test_choices_by_energy_before_relaxation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = tool_module("looks_table")
    rows = [
        # source, energy of the look, energy after relaxation, match or lower, match
        ("symmetric", -1.0, 0.3, False, False),
        ("symmetric", -3.0, 0.0, True, True),
        ("symmetric", None, None, False, False),
        ("voids", -2.0, -0.1, True, False),
    ]
    names = ("source", "look", "above", "les", "matched")
    record = {"usable": True, "candidates": [dict(zip(names, row, strict=True)) for row in rows]}
    lines = tmp_path / "lines.jsonl"
    lines.write_text(json.dumps(record) + "\n" + json.dumps({"usable": False}) + "\n")
    choices = ("first=symmetric:1/1", "lowest=symmetric:1/3", "both=symmetric:1/3,voids:1/1")
    run(monkeypatch, looks, lines, "--choices", *choices, "--output", tmp_path / "t.json")
    table = json.loads((tmp_path / "t.json").read_text())
    cells = {row["label"]: row["cells"] for row in table["rows"]}
    rates = {name: (one["les"]["value"], one["match"]["value"]) for name, one in cells.items()}
    assert rates == {"first": (0.0, 0.0), "lowest": (100.0, 100.0), "both": (100.0, 0.0)}
    assert cells["lowest"]["won"] == "1 : 0, p = 1"
    with pytest.raises(InputError, match="write LABEL="):
        run(monkeypatch, looks, lines, "--choices", "symmetric", "--output", tmp_path / "t.json")


def test_two_ways_to_relax_are_compared_crystal_by_crystal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compare = tool_module("compare_covers")

    def lines(name: str, *outcomes: tuple[float, bool, bool, int]) -> str:
        names = ("first", "les", "matched", "steps")
        records = [
            {
                "id": str(number), "usable": True, "n_atoms": 10,
                "candidates": [
                    {"above": 0.0, **dict(zip(names, outcome, strict=True))},
                    {"above": None, "first": None, "les": False, "matched": False, "steps": 0},
                ],
            }
            for number, outcome in enumerate(outcomes)
        ]  # fmt: skip
        (tmp_path / name).write_text("".join(json.dumps(one) + "\n" for one in records))
        return f"{name}={tmp_path / name}"

    slow = lines("slow", (-1.0, True, True, 98), (-1.0, False, False, 98), (-2.0, True, True, 0))
    fast = lines("fast", (-1.1, True, False, 48), (-1.0, True, True, 48))
    run(monkeypatch, compare, slow, fast, "--title", "t", "--output", tmp_path / "t.json")
    table = json.loads((tmp_path / "t.json").read_text())
    assert table["crystals"] == 2  # the third has one way only
    cells = table["rows"][1]["cells"]
    assert (cells["calls"], cells["les"]["value"], cells["match"]["value"]) == (0.5, 100.0, 50.0)
    tests = [cells[name].split(",")[0] for name in ("les_test", "match_test", "ends")]
    assert tests == ["1 : 0", "1 : 1", "1 : 0"]


def test_answers_of_two_tables_are_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compare = tool_module("compare_covers")
    header = "id,has_reference,les,matched,energy_above_reference"
    rows = ("a,True,True,True,0.0", "b,True,True,False,-0.1", "c,True,False,False,", "d,False,,,")
    other = ("c,True,True,True,0.0", "b,True,True,True,0.0", "a,True,False,False,0.2", "d,False,,,")
    ways = []
    for name, table in {"one": rows, "other": other}.items():
        (tmp_path / f"{name}.csv").write_text("\n".join((header, *table)) + "\n")
        ways.append(f"{name}={tmp_path / name}.csv")
    run(monkeypatch, compare, *ways, "--title", "t", "--output", tmp_path / "t.json")
    table = json.loads((tmp_path / "t.json").read_text())
    assert table["crystals"] == 3  # d has no reference
    cells = table["rows"][1]["cells"]
    assert "calls" not in cells
    assert table["columns"][0]["key"] == "les"
    tests = [cells[name].split(",")[0] for name in ("les_test", "match_test", "ends")]
    assert tests == ["1 : 1", "2 : 1", "0 : 2"]
