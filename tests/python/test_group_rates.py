"""Rates of the crystals of a benchmark by groups."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from tool_runs import tool_module
from xtalfill.core.errors import InputError
from xtalfill.evaluate.metrics import wilson_interval

rates = tool_module("group_rates")


def crystals(les: list[float | None], **columns: list[object]) -> pd.DataFrame:
    """Rows of tools/crystals_of_run.py; None: the crystal has no result."""
    return pd.DataFrame(
        {
            "id": [f"c{n}" for n in range(len(les))],
            "has_reference": True,
            "n_atoms": 8,
            "n_candidates": 10,
            "matched": False,
            "les": les,
        }
        | {f"{name}_{k}": les for name in ("match", "les") for k in (1, 10)}
        | columns
    )


def test_table_has_all_crystals_and_each_group() -> None:
    found = crystals(
        [1.0] * 6 + [0.0, None, 1.0],
        in_training=["new"] * 6 + ["match"] * 3,
        has_reference=[True] * 8 + [False],
    )
    table = rates.table(found, "in_training", "Some")
    assert [one["label"] for one in table["rows"]] == ["all", "match", "new"]
    assert [one["cells"]["crystals"] for one in table["rows"]] == [8, 2, 6]
    assert table["crystals"] == 8
    # six of six is no certainty
    low, high = wilson_interval(6, 6)
    expected = {"value": 100.0, "low": round(100 * low, 1), "high": round(100 * high, 1)}
    assert table["rows"][2]["cells"]["les_lowest"] == expected
    assert low < 0.7
    # a crystal without a result is a failure
    assert table["rows"][0]["cells"]["les_lowest"]["value"] == 75.0


def test_unrecorded_candidates_leave_single_rates_unknown() -> None:
    found = crystals([1.0, 0.0], n_candidates=[10, None])
    found.loc[1, ["match_1", "les_1", "match_10", "les_10"]] = None
    cells = rates.table(found, "n_atoms", "Some")["rows"][0]["cells"]
    assert cells["les_single"]["value"] == 100.0
    assert cells["les_lowest"]["value"] == 50.0


def test_ranges_are_in_their_order() -> None:
    found = crystals([1.0, 0.0, 1.0], n_atoms=[20, 8, 9])
    table = rates.table(found, "n_atoms", "Some")
    assert [one["label"] for one in table["rows"]] == [
        "all",
        "at most 8 atoms",
        "9 to 12",
        "17 to 20",
    ]


def test_the_first_potential_judges_on_request() -> None:
    columns = {name: [1.0] for name in ("first_match_1", "first_matched", "first_les_1")}
    found = crystals([0.0], first_les=[1.0], **columns)
    table = rates.table(found, "n_atoms", "Some", first=True)
    assert table["rows"][0]["cells"]["les_lowest"]["value"] == 100.0


def test_rates_by_number_of_candidates() -> None:
    table = rates.by_k(crystals([1.0, 0.5]), "Some")
    assert [one["label"] for one in table["rows"]] == ["1", "10"]
    assert table["rows"][0]["cells"]["les"]["value"] == 75.0


def test_a_crystal_in_two_tables_is_an_error(tmp_path: Path) -> None:
    paths = [tmp_path / "a.csv", tmp_path / "b.csv"]
    for path in paths:
        crystals([1.0]).to_csv(path, index=False)
    with pytest.raises(InputError, match="c0 is in two tables"):
        rates.read_crystals(paths)
    with pytest.raises(InputError, match="no column colour"):
        rates.table(rates.read_crystals(paths[:1]), "colour", "Some")
