"""DFT of winners without a match: the rates that follow from it."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from tool_runs import tool_module
from xtalfill.core.errors import InputError
from xtalfill.evaluate.metrics import wilson_interval

tool = tool_module("unmatched_by_dft")


def rows(
    names: list[str], matched: list[bool], status: str = "", dft: list[float] | None = None
) -> pd.DataFrame:
    """Rows of results.csv; by DFT none matches."""
    above = dft if dft is not None else [np.nan] * len(names)
    return pd.DataFrame(
        {
            "formula": names,
            "matched": pd.array(matched, dtype="boolean"),
            "energy_above_reference": [-0.1 if one else 0.2 for one in matched],
            "dft_status": [status] * len(names),
            "dft_energy_above_reference": above,
            "dft_matched": pd.array([False] * len(names), dtype="boolean"),
            "dft_les": pd.array([one < 0 for one in above], dtype="boolean"),
        },
        index=names,
    )


def test_winners_without_a_judgement_count_by_the_share() -> None:
    names = [f"c{n}" for n in range(10)]
    everything = rows(names, [n < 6 for n in range(10)])  # c6 to c9 do not match
    judged = rows(["c6", "c7"], [False, False], "ok", [-0.05, 0.01])
    found = tool.tables(everything, judged)
    cells = found["_rates"]["rows"][0]["cells"]
    assert (cells["unmatched"], cells["judged"]) == (4, 2)
    assert cells["lower"]["value"] == 50.0
    assert cells["lower"]["low"] == round(100 * wilson_interval(1, 2)[0], 1)
    # 6 matches + 1 lower + half of the two that DFT did not judge
    assert cells["les"]["value"] == 80.0
    assert cells["les"]["low"] < 80.0 < cells["les"]["high"]
    crystals = {one["key"]: one["cells"] for one in found[""]["rows"]}
    assert crystals["c6"] == {"potential": 200.0, "dft": -50.0, "verdict": "lower"}
    assert crystals["c7"]["verdict"] == "higher"


def test_matched_winners_and_failed_jobs_are_no_judgement() -> None:
    everything = rows(["a", "b", "c"], [True, False, False])
    judged = pd.concat(
        [
            rows(["a"], [True], "ok", [-0.5]),
            rows(["b"], [False], "failed", [np.nan]),
            rows(["c"], [False], "ok", [0.3]),
        ]
    )
    cells = tool.tables(everything, judged)["_rates"]["rows"][0]["cells"]
    assert (cells["unmatched"], cells["judged"], cells["lower"]["value"]) == (2, 1, 0.0)
    assert cells["les"]["value"] == pytest.approx(33.3)


def test_no_judgement_is_an_error() -> None:
    everything = rows(["a", "b"], [True, False])
    with pytest.raises(InputError, match="no winner without a match"):
        tool.tables(everything, rows(["a"], [True], "ok", [0.0]))
