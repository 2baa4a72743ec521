"""tools/paper_figures.py: the figures of the paper for our own runs."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from matplotlib.figure import Figure

from tool_runs import tool_module
from xtalfill.core.errors import InputError

tool = tool_module("paper_figures")


def crystals() -> pd.DataFrame:
    """Four crystals with a reference: match, lower, higher, no result."""
    return pd.DataFrame(
        {
            "id": list("abcde"),
            "has_reference": [True, True, True, True, None],
            "n_atoms": [4, 8, 8, 20, 20],
            "n_candidates": 10,
            "matched": [True, False, False, None, None],
            "les": [True, True, False, None, None],
            "rmsd": [0.02, None, None, None, None],
            "energy_above_reference": [0.0, -0.2, 0.1, None, None],
            "match_1": [1.0, 0.0, 0.0, 0.0, None],
            "les_1": [1.0, 0.5, 0.0, 0.0, None],
        }
    )


def test_bars_are_shares_of_all_crystals_with_a_reference(tmp_path: Path) -> None:
    crystals().to_csv(tmp_path / "x.csv")
    table = tool.read_usable([tmp_path / "x.csv"])
    assert len(table) == 4
    axes = Figure().subplots()
    tool.by_size_panel(axes, table)
    heights = [round(bar.get_height(), 3) for bar in axes.patches]
    # match and lower of the cells up to 8 atoms, then of the one without a result
    assert heights == [33.333, 33.333, 0.0, 0.0]
    axes = Figure().subplots()
    tool.by_k_panel(axes, table)
    assert [bar.get_height() for bar in axes.patches] == [25.0, 12.5]
    axes = Figure().subplots()
    tool.by_k_panel(axes, table.assign(n_candidates=[10, 10, None, None]))  # two not recorded
    assert [bar.get_height() for bar in axes.patches] == [50.0, 25.0]


def test_the_picture_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    crystals().to_csv(tmp_path / "x.csv")
    arguments = ["paper_figures", str(tmp_path / "x.csv"), "--output", str(tmp_path / "x.png")]
    monkeypatch.setattr("sys.argv", arguments)
    tool.main()
    assert (tmp_path / "x.png").read_bytes().startswith(b"\x89PNG")


def test_without_references_there_is_nothing_to_draw(tmp_path: Path) -> None:
    crystals().assign(has_reference=False).to_csv(tmp_path / "x.csv")
    with pytest.raises(InputError, match="no crystal has a usable reference"):
        tool.read_usable([tmp_path / "x.csv"])
