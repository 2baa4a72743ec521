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
    names: list[str], matched: list[bool], judged: dict[str, tuple[str, float]] | None = None
) -> pd.DataFrame:
    """Rows of tools/crystals_of_run.py; by DFT none matches."""
    by_dft = [(judged or {}).get(name, (np.nan, np.nan)) for name in names]
    return pd.DataFrame(
        {
            "formula": names,
            "matched": matched,
            "energy_above_reference": [-0.1 if one else 0.2 for one in matched],
            "dft_status": [status for status, _ in by_dft],
            "dft_energy_above_reference": [above for _, above in by_dft],
            "dft_matched": [False] * len(names),
            "dft_les": [above < 0 for _, above in by_dft],
        },
        index=names,
    )


def test_winners_without_a_judgement_count_by_the_share() -> None:
    names = [f"c{n}" for n in range(10)]
    judged = {"c6": ("ok", -0.05), "c7": ("ok", 0.01)}
    found = tool.tables(rows(names, [n < 6 for n in range(10)], judged))  # c6 to c9 do not match
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
    judged = {"a": ("ok", -0.5), "b": ("failed", np.nan), "c": ("ok", 0.3)}
    cells = tool.tables(rows(["a", "b", "c"], [True, False, False], judged))
    cells = cells["_rates"]["rows"][0]["cells"]
    assert (cells["unmatched"], cells["judged"], cells["lower"]["value"]) == (2, 1, 0.0)
    assert cells["les"]["value"] == pytest.approx(33.3)


def test_no_judgement_is_an_error() -> None:
    with pytest.raises(InputError, match="no winner without a match"):
        tool.tables(rows(["a", "b"], [True, False], {"a": ("ok", 0.0)}))
