"""Potentials and chains on the same proposals."""

from __future__ import annotations

import json
from pathlib import Path

import ase.io
import pytest
from ase import Atoms

from tool_runs import tool, tool_module


def record(**chains: tuple[float | None, bool]) -> dict[str, object]:
    return {
        "id": "x",
        "n_atoms": 4,
        "chains": {
            name: {"seconds": 2.0, "above": above, "match": match}
            for name, (above, match) in chains.items()
        },
    }


def test_rates_of_chains() -> None:
    records = [
        record(a=(0.0, True), b=(0.050, False)),  # only a finds the crystal
        record(a=(-0.010, False), b=(-0.0101, False)),  # both are lower, within the window
        record(a=(None, False), b=(-0.001, False)),  # a has no candidate, b is not clearly lower
    ]
    table = tool_module("bench_chains").summary(records, ["a", "b"])
    a, b = (row["cells"] for row in table["rows"])
    assert table["crystals"] == 3
    assert (a["match"]["value"], b["match"]["value"]) == (33.3, 0.0)
    assert (a["les"]["value"], b["les"]["value"]) == (66.7, 33.3)
    assert (a["lowest"]["value"], b["lowest"]["value"]) == (66.7, 66.7)
    assert a["les"]["low"] < 66.7 < a["les"]["high"]
    assert a["seconds"] == 2.0
    assert "same" not in a


def test_share_of_winners_that_are_those_of_the_judge() -> None:
    records = [
        record(a=(0.0, True), b=(0.0015, True)),  # within the window
        record(a=(-0.010, False), b=(0.0, True)),  # the judge finds another, lower one
        record(a=(0.0, True), b=(None, False)),
    ]
    table = tool_module("bench_chains").summary(records, ["a", "b"], "a")
    assert [row["cells"]["same"]["value"] for row in table["rows"]] == [100.0, 33.3]


def test_a_chain_is_added_to_a_finished_run(tmp_path: Path) -> None:
    atoms = Atoms("LiH", [[0, 0, 0], [2.0, 2.0, 2.0]], cell=[[0, 2, 2], [2, 0, 2], [2, 2, 0]])
    atoms.pbc, atoms.info["id"] = True, "lih"
    ase.io.write(tmp_path / "one.extxyz", [atoms])
    arguments = (
        "--crystals", tmp_path / "one.extxyz", "--methods", "voids:1", "random:1",
        "--judge", "7net-0", "--output", tmp_path / "out.jsonl",
        "--table", tmp_path / "table.json",
    )  # fmt: skip
    tool("bench_chains.py", *arguments, "--chains", "7net-0")
    before = json.loads((tmp_path / "out.jsonl").read_text())
    assert before["chains"]["7net-0"]["above"] == pytest.approx(0.0, abs=2e-3)
    tool("bench_chains.py", *arguments, "--chains", "7net-0", "7net-0+7net-0")
    after = json.loads((tmp_path / "out.jsonl").read_text())
    assert after["chains"]["7net-0"] == before["chains"]["7net-0"]
    table = json.loads((tmp_path / "table.json").read_text())
    assert [row["cells"]["match"]["value"] for row in table["rows"]] == [100.0, 100.0]
    assert table["rows"][1]["label"] == "`7net-0`, then `7net-0`"
