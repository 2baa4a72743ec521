"""Winners without a match by one SCF calculation each: pairs, and what their energies tell."""

from __future__ import annotations

import json
from pathlib import Path

import ase.io
import numpy as np
import pandas as pd
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from scipy.stats import beta

from tool_runs import tool_module
from xtalfill.core.errors import InputError
from xtalfill.evaluate.metrics import les_by_dft_cell
from xtalfill.evaluate.pairs import read_pairs
from xtalfill.interactive.finished import Results

tool = tool_module("winners_by_dft")
NAMES = ("same", "lower", "open")
EMPTY = pd.DataFrame()


def crystal(*, swapped: bool = False) -> Atoms:
    """Magnesium hydride in a cube, the atoms in one of two orders."""
    symbols, x = ("HMgH", (0.0, 2.0, 3.5)) if swapped else ("MgHH", (2.0, 0.0, 3.5))
    atoms = Atoms(symbols, [(one, 0, 0) for one in x], cell=np.eye(3) * 5, pbc=True)
    atoms.info["id"] = "any"
    return atoms


@pytest.fixture
def run() -> Results:
    """Return a run of three crystals, two without a match."""
    rows = {"best_of_all": True, "has_reference": True, "matched": [True, False, False]}
    rows |= {"id": NAMES, "formula": "MgH2", "site_class": "metal/other-H"}
    rows |= {"energy_above_reference": [0.0, -0.1, -0.02]}
    structures = {name: crystal(swapped=True) for name in NAMES}
    return Results(structures, pd.DataFrame(rows), EMPTY, EMPTY)


def test_pairs_are_of_winners_without_a_match_in_one_order(run: Results, tmp_path: Path) -> None:
    references = {name: crystal() for name in NAMES}
    frames = list(tool.pairs_of(run, references, ranked_by="7net-0"))
    assert [one.info["geometry"] for one in frames] == [
        f"{name}-{part}" for name in NAMES[1:] for part in ("reference", "winner")
    ]
    for one in frames:
        assert one.numbers.tolist() == [1, 1, 12]
        assert one.positions[:, 0].tolist() == [0.0, 3.5, 2.0]
    ase.io.write(tmp_path / "pairs.extxyz", frames)
    pairs = read_pairs(tmp_path / "pairs.extxyz")
    assert [(one.name, one.relaxed_by) for one in pairs] == [
        ("lower", "7net-0"),
        ("open", "7net-0"),
    ]


def test_a_reference_that_is_missing_or_another_crystal_is_named(run: Results) -> None:
    with pytest.raises(InputError, match="lower: no such reference"):
        list(tool.pairs_of(run, {}, ranked_by="7net-0"))
    with pytest.raises(InputError, match="lower: winner and reference have other atoms"):
        list(tool.pairs_of(run, {"lower": crystal()[:2]}, ranked_by="7net-0"))


def test_only_a_winner_below_the_reference_is_called_lower(run: Results, tmp_path: Path) -> None:
    frames = list(tool.pairs_of(run, {name: crystal() for name in NAMES}, ranked_by="7net-0"))
    for one, energy in zip(frames, (-3.0, -3.3, -3.0, -2.97), strict=True):
        one.calc = SinglePointCalculator(one, energy=energy, forces=np.zeros((3, 3)))
    ase.io.write(tmp_path / "pairs.extxyz", frames)
    found = tool.table(read_pairs(tmp_path / "pairs.extxyz"))
    cells = {row["key"]: row["cells"] for row in found["rows"]}
    assert cells["lower"] == {"potential": -100.0, "dft": pytest.approx(-100.0), "verdict": "lower"}
    assert cells["open"] == {"potential": -20.0, "dft": pytest.approx(10.0), "verdict": "open"}
    lower, share = tool.share_of_lower(found["rows"])
    assert (found["crystals"], lower, share["value"]) == (2, 1, 50.0)
    with pytest.raises(InputError, match="no pair"):
        tool.table([])


@pytest.fixture
def crystals(tmp_path: Path) -> Path:
    """Write the table of four crystals: two match, and one has no usable reference."""
    rows = {"id": ["a", "b", "same", "lower", "open"], "matched": [True, True, False, False, False]}
    rows |= {"has_reference": [True, True, False, True, True]}
    pd.DataFrame(rows).to_csv(tmp_path / "crystals.csv", index=False)
    return tmp_path / "crystals.csv"


def judged(path: Path, **verdicts: str) -> Path:
    """Write a table of verdicts."""
    rows = [{"key": name, "cells": {"verdict": said}} for name, said in verdicts.items()]
    path.write_text(json.dumps({"rows": rows}), encoding="utf-8")
    return path


def test_les_by_dft_counts_matches_and_the_share_of_lower_ones(
    crystals: Path, tmp_path: Path
) -> None:
    found = tool.les_table([crystals], judged(tmp_path / "j.json", lower="lower", open="open"))
    least, most = (row["cells"] for row in found["rows"])
    assert found["crystals"] == 4
    assert least["matched"]["value"] == 50.0
    assert (least["share"]["value"], most["share"]["value"]) == (50.0, 100.0)
    # 2 of 4 match; of the other half, half are lower
    assert (least["les"]["value"], most["les"]["value"]) == (75.0, 100.0)
    assert least["les"]["low"] < 75.0 < least["les"]["high"] <= 100.0


def test_interval_of_les_by_dft_is_that_of_a_share_where_nothing_else_varies() -> None:
    # Without a match the rate is the share of lower ones; the interval is Jeffreys'.
    cell = les_by_dft_cell((0, 100_000), (12, 16), generator=np.random.default_rng(0))
    low, high = (100 * float(beta.ppf(q, 12.5, 4.5)) for q in (0.025, 0.975))
    assert cell["low"] == pytest.approx(low, abs=0.3)
    assert cell["high"] == pytest.approx(high, abs=0.3)


@pytest.mark.parametrize("name", ["a", "other"])
def test_only_winners_without_a_match_are_judged(crystals: Path, tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match=f"{name}: no winner without a match"):
        tool.les_table([crystals], judged(tmp_path / "j.json", **{name: "lower"}))
