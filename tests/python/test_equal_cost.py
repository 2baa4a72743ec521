"""tools/equal_cost.py: CPU time of a finished run, and candidates at equal cost."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from tool_runs import tool_module
from xtalfill.results.summary import Judged

TRACE = """name\t%cpu\trealtime
CHECK (x.extxyz)\t90.0%\t1m
INPAINT (batch_0000)\t50.0%\t1m 10s
RELAX (batch_0000)\t10.0%\t1h 20ms
RELAX (batch_0001)\t100.0%\t2.5s
"""


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    """Return the tool as a module."""
    return tool_module("equal_cost")


def judged(name: str, energy: list[float], matched: list[bool]) -> Judged:
    flags = np.array(matched)
    outcome = {"matched": flags, "les": flags}
    return Judged(name, "", "", "", np.array(energy), np.zeros(len(flags), bool), outcome)


def test_cpu_time_of_the_candidate_stages(tool: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "pipeline_info").mkdir()
    (tmp_path / "pipeline_info" / "trace.txt").write_text(TRACE, encoding="utf-8")
    tasks = [{"runs": [{"cpu_seconds": 3.0}, {"cpu_seconds": 4.0}]}, {"runs": []}]
    stages = [{"stage": "place_potential", "parameters": tasks}, {"stage": "relax"}]
    (tmp_path / "provenance.json").write_text(json.dumps({"stages": stages}), encoding="utf-8")
    assert tool.cpu_seconds(tmp_path) == pytest.approx((35.0 + 7.0, 360.002 + 2.5))


def test_number_of_candidates_at_equal_cost(tool: ModuleType) -> None:
    ids = frozenset()
    dear = tool.Run("potential", {"a": judged("a", [1.0], [False])}, 60.0, ids)
    cheap = tool.Run(
        "host", {"a": judged("a", [2.0, 1.0, np.nan, 0.0], [False, True, True, False])}, 20.0, ids
    )
    rows = tool.table([dear, cheap], ["a"]).splitlines()[2:]
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]
    assert cells[0][:4] == ["potential", "1.000", "1", "0 % (0–79)"]
    assert cells[1][:4] == ["host", "0.333", "3", "25 % (25–25)"]
    # the second of three candidates has the lowest finite energy
    assert cells[1][-1] == "1 : 0, p = 1"
    assert not tool.first_lowest(cheap.judged["a"], "les", 4)
    assert not tool.first_lowest(dear.judged["a"], "les", 1)
