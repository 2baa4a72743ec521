"""tools/showcase.py: what a mineralogist would check of restored minerals."""

from __future__ import annotations

from types import SimpleNamespace

import pandas as pd
import pytest
from ase import Atoms

from tool_runs import tool_module
from xtalfill.core.errors import InputError
from xtalfill.evaluate.metrics import wilson_interval

tool = tool_module("showcase")


def portlandite(height: float = 0.4) -> Atoms:
    """Ca(OH)2, its hydrogens at fractional heights +-`height`: 0.4 is 0.82 Å above the oxygens."""
    heights = [0.0, 0.2337, 0.7663, height, 1 - height]
    places = [(0, 0), (1 / 3, 2 / 3), (2 / 3, 1 / 3), (1 / 3, 2 / 3), (2 / 3, 1 / 3)]
    return Atoms(
        "CaO2H2",
        scaled_positions=[(x, y, z) for (x, y), z in zip(places, heights, strict=True)],
        cell=[3.5889, 3.5889, 4.9110, 90, 90, 120],
        pbc=True,
    )


def run(names: list[str], crystal: Atoms, **columns: object) -> SimpleNamespace:
    results = pd.DataFrame({name: [None] * len(names) for name in tool.KEPT})
    results = results.assign(id=names, formula="CaO2H2", status="ok", n_missing=2)
    results = results.assign(hydrogen_bonds="", bonds="2 O-H 0.98 Å", valence_misfit=0.1, **columns)
    return SimpleNamespace(results=results, structures=dict.fromkeys(names, crystal))


def minerals() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "amcsd_row": [7, 8],
            "mineral": ["Portlandite", "Other"],
            "journal": "Journal",
            "volume": 1,
            "page": 2,
            "year": 1961,
        }
    )


def test_oxygens_that_carry_hydrogen() -> None:
    assert tool.protonated(portlandite()) == {1, 2}
    assert tool.protonated(portlandite(height=-0.1)) == set()  # 1.6 Å from the nearest oxygen


def test_answers_are_compared_with_the_labels() -> None:
    names = ["amcsd_7", "amcsd_8"]
    table = tool.rows_of(run(names, portlandite()), {"amcsd_7": [1, 2], "amcsd_8": [1]})
    assert table["labelled_with_h"].tolist() == [2, 1]
    assert table["others_with_h"].tolist() == [0, 1]
    found = {one["key"]: one["cells"] for one in tool.rates(table)}
    assert found["exact"]["number"] == 1
    assert found["oxygen"]["number"] == found["oxygen"]["crystals"] == 3
    low = round(100 * wilson_interval(1, 2)[0], 1)
    assert found["exact"]["share"] == {"value": 50.0, "low": low, "high": round(100 - low, 1)}


def test_answers_with_a_warning_are_counted_apart() -> None:
    names = ["amcsd_6", "amcsd_7", "amcsd_8"]
    warnings = [None, None, "the host itself changed"]
    labels = {"amcsd_7": [1, 2], "amcsd_8": [1]}
    table = tool.rows_of(run(names, portlandite(), warnings=warnings), labels)
    found = {one["key"]: one["cells"] for one in tool.rates(table)}
    assert (found["sound"]["crystals"], found["sound"]["number"]) == (3, 2)
    assert (found["exact"]["crystals"], found["exact"]["number"]) == (2, 1)
    assert (found["unwarned"]["crystals"], found["unwarned"]["number"]) == (1, 1)


def test_a_mineral_without_an_answer_is_counted() -> None:
    failed = run(["amcsd_7"], portlandite())
    failed.results["status"] = "failed"
    failed.structures.clear()
    table = tool.rows_of(failed, {"amcsd_7": [1, 2]})
    found = {one["key"]: one["cells"] for one in tool.rates(table)}
    assert (found["answered"]["crystals"], found["answered"]["number"]) == (1, 0)
    assert found["exact"] == {"crystals": 0, "number": 0, "share": None}


def test_rows_name_mineral_and_source() -> None:
    table = tool.with_sources(tool.rows_of(run(["amcsd_7"], portlandite()), {}), minerals())
    (row,) = tool.shown(table, ["amcsd_7"])
    assert row["label"] == "Portlandite, CaO2H2"
    assert row["cells"]["source"] == "Journal 1, 2 (1961)"
    assert row["cells"]["labels"] is None  # no labels: not "0 of 0"
    with pytest.raises(InputError, match="amcsd_9 is in none of the runs"):
        tool.shown(table, ["amcsd_9"])
