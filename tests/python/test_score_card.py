"""tools/score_card.py: the odds of a card against what happened, by groups of crystals."""

from __future__ import annotations

import json
from pathlib import Path

import ase.io
import pytest
from ase.build import bulk

from tool_runs import tool_module
from xtalfill.core.errors import InputError
from xtalfill.core.io import read_json
from xtalfill.results.confidence import CARDS, features, probability

tool = tool_module("score_card")


def lines(path: Path, matched: list[bool]) -> Path:
    """Write crystals whose ten candidates agree, and of which some match."""
    records = [
        {
            "id": f"c{number}", "method": "mix", "n_atoms": 2 if number else 21, "n_sites": 1,
            "host_class": "metal", "usable": True,
            "candidates": [
                {"source": "host", "status": "ok", "first": -1.0, "matched": right, "les": True}
            ] * 10,
        }
        for number, right in enumerate(matched)
    ]  # fmt: skip
    path.write_text("".join(json.dumps(one) + "\n" for one in records))
    return path


def test_the_mean_probability_stands_beside_the_rate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = lines(tmp_path / "found.jsonl", [True, True, True, False, False])
    crystals = []
    for number in range(5):
        crystals.append(bulk("Pd" if number % 2 else "Ni"))
        crystals[-1].info |= {"id": f"c{number}", "made": number < 3}
    ase.io.write(tmp_path / "all.extxyz", crystals)
    arguments = ["--crystals", tmp_path / "all.extxyz", "--by", "made", "--title", "t"]
    arguments += ["--output", tmp_path / "t.json", f"default={found}"]
    monkeypatch.setattr("sys.argv", ["score_card", *map(str, arguments)])
    tool.main()
    table = json.loads((tmp_path / "t.json").read_text())
    cells = [row["cells"] for row in table["rows"]]
    # The first crystal is larger than those of the card.
    assert [one["crystals"] for one in cells] == [4, 2, 2]
    assert [one["rate"]["value"] for one in cells] == [50.0, 100.0, 0.0]
    card = read_json(CARDS / "default.json")
    sure = probability(card["models"]["matched"], features([-1.0] * 10, 1, agrees=None))
    assert cells[0]["odds"] == pytest.approx(100 * sure)
    assert cells[0]["error"]["value"] == pytest.approx(sure - 0.5)
    assert cells[2]["error"]["value"] == pytest.approx(sure)
    assert (cells[1]["all"], cells[2]["all"]) == (0.0, 100.0)


def test_crystals_of_another_kind_are_refused(tmp_path: Path) -> None:
    records = [json.loads(line) for line in lines(tmp_path / "a", [True]).read_text().splitlines()]
    with pytest.raises(InputError, match="no crystal that the card was measured for"):
        tool.row("all", records, {"c0": "H-Pd"}, read_json(CARDS / "default.json"))
