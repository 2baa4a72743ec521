"""Rates of finished runs by groups of crystals."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from ase import Atoms

from tool_runs import tool_module
from xtalfill.core.errors import InputError
from xtalfill.evaluate.metrics import wilson_interval

rates = tool_module("group_rates")


def rows(energy: list[float], les: list[bool | None], status: str = "ok") -> pd.DataFrame:
    return pd.DataFrame(
        {
            "status": [status] * len(energy),
            "energy": energy,
            "matched": pd.array([False] * len(energy), dtype="boolean"),
            "les": pd.array(les, dtype="boolean"),
        }
    )


def test_a_crystal_is_judged_by_its_lowest_candidate() -> None:
    one = rates.judge(rows([2.0, 1.0, 3.0, 4.0], [False, True, False, False]), "new")
    assert one.lowest == {"match": False, "les": True}
    assert one.k[1]["les"] == pytest.approx(0.25)
    # the lowest of two draws with replacement is the lowest of all unless both miss it
    assert one.k[2]["les"] == pytest.approx(1 - 0.75**2)


@pytest.mark.parametrize("status", ["failed", "unconverged"])
def test_candidates_without_a_result_are_failures(status: str) -> None:
    one = rates.judge(rows([np.nan, -9.0], [None, True], status), "new")
    assert one.lowest == {"match": False, "les": False}
    assert one.k[10]["les"] == 0.0


def test_newer_runs_take_the_place_of_older_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    runs = {"host": {"a": [False], "b": [True]}, "mix": {"a": [True]}}

    def read_results(outdir: str) -> SimpleNamespace:
        parts = [rows([1.0], les).assign(id=name) for name, les in runs[outdir].items()]
        known = pd.DataFrame({"id": list(runs[outdir]), "has_reference": True})
        return SimpleNamespace(candidates=pd.concat(parts), results=known)

    monkeypatch.setattr(rates, "read_results", read_results)
    judged, others = rates.judge_runs(["host"], str, replaced_by=["mix"])
    assert others == 0
    assert {one.group: one.lowest["les"] for one in judged} == {"a": True, "b": True}
    with pytest.raises(InputError, match="a is in another run"):
        rates.judge_runs(["host", "mix"], str)


def test_a_group_is_a_key_of_the_crystal_or_the_class_of_its_host() -> None:
    crystal = Atoms("MgH2", info={"in_training": "new"})
    assert rates.group_of(crystal, "in_training") == "new"
    assert rates.group_of(crystal, "host_class") == "metal"


def test_table_has_all_crystals_and_each_group() -> None:
    good, bad = rows([1.0], [True]), rows([1.0], [False])
    judged = [rates.judge(good, "new") for _ in range(6)] + [rates.judge(bad, "match")]
    found = rates.table(judged, 2, "Some")
    assert [one["label"] for one in found["rows"]] == ["all", "match", "new"]
    assert [one["cells"]["crystals"] for one in found["rows"]] == [7, 1, 6]
    assert found["without_reference"] == 2
    # six of six is no certainty
    low, high = wilson_interval(6, 6)
    expected = {"value": 100.0, "low": round(100 * low, 1), "high": round(100 * high, 1)}
    assert found["rows"][2]["cells"]["les_lowest"] == expected
    assert low < 0.7


def test_a_larger_draw_begins_with_the_smaller_one() -> None:
    subset = tool_module("bench_subset")
    frames = [Atoms("H", info={"id": str(n)}) for n in range(40)]
    draws = [
        [one.info["id"] for one in subset.drawn(frames, count, 3, shuffled=True)]
        for count in (10, 25)
    ]
    assert draws[1][:10] == draws[0]
    assert len(set(draws[1])) == 25
    in_order = [one.info["id"] for one in subset.drawn(frames, 10, 3, shuffled=False)]
    assert in_order == sorted(draws[0], key=int)
