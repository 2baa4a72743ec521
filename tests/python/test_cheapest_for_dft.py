"""tools/cheapest_for_dft.py: which winners without a match pw.x judges next."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from ase import Atoms
from ase.build import bulk

from tool_runs import tool_module

tool = tool_module("cheapest_for_dft")


def level() -> object:
    """The protocol fast with the valences of MgO and hydrogen; no pseudopotential is read."""
    chosen = tool.read_protocol(tool.ASSETS / "protocols" / "fast.yaml")
    return tool.LevelOfTheory(
        protocol=chosen,
        table=tool.read_table(tool.TABLE),
        valence={"Mg": 10.0, "O": 6.0, "H": 1.0},
        degauss=chosen.degauss,
        smearing=chosen.smearing,
    )


def magnesia(repeat: int, **extra: str) -> Atoms:
    crystal = bulk("MgO", "rocksalt", a=4.21).repeat((repeat, 1, 1))
    crystal.info = {"id": f"MgO-{repeat}"} | extra
    return crystal


def test_a_larger_crystal_costs_more_and_an_unknown_element_is_last() -> None:
    model = tool.read_cost_model(tool.ASSETS / "dft_cost.json", "relaxation")
    small, large = (tool.core_hours(magnesia(n), level(), model) for n in (1, 2))
    assert 0 < small < large
    unknown = magnesia(1)
    unknown.symbols[0] = "Cf"
    assert tool.core_hours(unknown, level(), model) == float("inf")


def test_winners_that_are_left(tmp_path: Path) -> None:
    table = pd.DataFrame(
        {
            "id": ["match", "judged", "left", "failed", "no reference"],
            "has_reference": [True, True, True, True, None],
            "status": ["ok", "ok", "ok", "failed", "ok"],
            "matched": [True, False, False, None, None],
            "dft_status": [None, "ok", None, None, None],
        }
    )
    table.to_csv(tmp_path / "one.csv")
    assert tool.without_judgement([tmp_path / "one.csv"]) == ["left"]
    table.drop(columns="dft_status").to_csv(tmp_path / "two.csv")
    assert tool.without_judgement([tmp_path / "two.csv"]) == ["judged", "left"]
