"""Bond lengths of restored hydrogen beside those of the references."""

from __future__ import annotations

import pytest
from ase import Atoms
from ase.build import bulk

from tool_runs import tool_module

tool = tool_module("compare_lengths")


def water(length: float) -> Atoms:
    """A water molecule in a large cell; the two bonds have the same length."""
    return Atoms(
        "OH2", [(5, 5, 5), (5 + length, 5, 5), (5, 5 + length, 5)], cell=[10] * 3, pbc=True
    )


def test_each_crystal_counts_once_for_an_element() -> None:
    pairs = [(water(0.95), water(0.98)), (water(0.93), water(0.99)), (water(0.94), water(0.985))]
    cells = {one["key"]: one["cells"] for one in tool.table(pairs)["rows"]}
    assert list(cells) == ["O"]
    assert (cells["O"]["crystals"], cells["O"]["bonds"]) == (3, 6)
    assert cells["O"]["given"] == pytest.approx(0.94)
    assert cells["O"]["restored"] == pytest.approx(0.985)
    assert cells["O"]["difference"] == pytest.approx({"value": 0.045, "low": 0.03, "high": 0.06})


def test_two_crystals_have_no_interval() -> None:
    pairs = [(water(0.95), water(0.98)), (water(0.93), water(0.99))]
    assert set(tool.table(pairs)["rows"][0]["cells"]["difference"]) == {"value"}


def test_an_element_bonded_in_one_of_the_two_only_is_left_out() -> None:
    hydride = bulk("LiH", "rocksalt", a=4.06)
    assert set(tool.mean_lengths(hydride)) == {"Li"}
    assert tool.table([(water(0.95), hydride)])["rows"] == []
