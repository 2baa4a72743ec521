"""What finished runs of a benchmark say of each crystal."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from ase import Atoms

from tool_runs import tool_module
from xtalfill.core.errors import InputError

tool = tool_module("crystals_of_run")


def candidates(energy: list[float], les: list[bool | None], status: str = "ok") -> pd.DataFrame:
    return pd.DataFrame(
        {
            "id": "a",
            "status": [status] * len(energy),
            "energy": energy,
            "matched": pd.array([False] * len(energy), dtype="boolean"),
            "les": pd.array(les, dtype="boolean"),
        }
    )


def run(**columns: object) -> SimpleNamespace:
    """A run of crystal a, whose lower candidate of two is a success."""
    results = pd.DataFrame({name: [None] for name in (*tool.KEPT, *tool.BY_DFT)})
    results = results.assign(id="a", formula="MgH2", les=True, **columns)
    return SimpleNamespace(results=results, candidates=candidates([2.0, 1.0], [False, True]))


def known() -> dict[str, Atoms]:
    return {"a": Atoms("MgH2", info={"in_training": "new"})}


def test_rates_are_those_of_the_lowest_of_k_draws() -> None:
    found = tool.of_candidates(candidates([2.0, 1.0, 3.0, 4.0], [False, True, False, False]))
    assert found["les_1"] == pytest.approx(0.25)
    # the lowest of two draws with replacement is the lowest of all unless both miss it
    assert found["les_2"] == pytest.approx(1 - 0.75**2)
    assert found["match_2"] == 0.0
    assert "les_5" not in found  # more draws than candidates


@pytest.mark.parametrize("status", ["failed", "unconverged"])
def test_candidates_without_a_result_are_failures(status: str) -> None:
    assert tool.of_candidates(candidates([np.nan, -9.0], [None, True], status))["les_2"] == 0.0


def test_a_row_has_the_crystal_its_class_and_its_rates() -> None:
    table = tool.rows_of(run(), known(), ["in_training"])
    row = table.loc["a"]
    assert (row["in_training"], row["host_class"], row["les_1"]) == ("new", "metal", 0.5)
    with pytest.raises(InputError, match="a is not in --bench"):
        tool.rows_of(run(), {}, [])
    with pytest.raises(InputError, match="a is in two runs"):
        tool.joined([table, table])


def test_dft_fills_the_crystals_it_judged_and_no_others() -> None:
    table = tool.rows_of(run(), known(), [])
    judged = tool.with_dft(table, run(dft_status="ok", dft_energy_above_reference=-0.1))
    assert judged.loc["a", "dft_energy_above_reference"] == -0.1
    # a later run that sent nothing to pw.x keeps it
    assert tool.with_dft(judged, run(dft_status="")).loc["a", "dft_status"] == "ok"


def test_the_first_potential_ranks_and_judges_alone() -> None:
    rows = [
        {"status": "ok", "first": -1.0, "matched": True, "les": True},
        {"status": "ok", "first": -2.0, "matched": False, "les": False},
        {"status": "failed", "first": -9.0, "matched": False, "les": False},
    ]
    found = tool.of_first_potential({"candidates": rows})
    assert found["first_matched"] is False
    assert found["first_match_1"] == pytest.approx(1 / 3, abs=1e-6)


def test_earlier_rows_stay_unless_the_crystal_was_run_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    earlier = tool.rows_of(run(note="old"), known(), [])
    both = pd.concat([earlier, earlier.rename(index={"a": "b"})])
    both.to_csv(tmp_path / "earlier.csv", index_label="id")
    monkeypatch.setattr(tool, "read_results", lambda _: run(note="new"))
    monkeypatch.setattr(tool.ase.io, "read", lambda *_: [Atoms("MgH2", info={"id": "a"})])
    arguments = ["crystals_of_run", "run", "--bench", "x", "--output", str(tmp_path / "all.csv")]
    arguments += ["--add", str(tmp_path / "earlier.csv")]
    monkeypatch.setattr("sys.argv", arguments)
    tool.main()
    table = tool.read_crystals([tmp_path / "all.csv"])
    assert table["note"].to_dict() == {"a": "new", "b": "old"}
