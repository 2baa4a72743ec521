"""tools/measure_scan.py: rates, and protonated oxygens."""

from ase import Atoms

from test_mineral_labels import host
from tool_runs import tool_module

tool = tool_module("measure_scan")


def test_protonated_oxygens_are_numbered_as_in_the_host() -> None:
    atoms = Atoms("HOOCa", [(0, 0, 0), (0, 0, 0.97), (3, 0, 0), (3, 3, 3)], cell=[6, 6, 6], pbc=1)
    assert tool._protonated(atoms) == {0}


def test_rates() -> None:
    missing = tool.Judgement("missing")
    suspect, complete = tool.Judgement("suspect"), tool.Judgement("complete")
    row = tool._rates("k", "l", [missing, missing, suspect, complete], [missing], "missing")
    assert (row["cells"]["right"], row["cells"]["wrong"]) == (2, 1)
    assert row["cells"]["precision"]["value"] == 66.7
    assert row["cells"]["recall"] == {"value": 50.0, "low": 15.0, "high": 85.0}
    row = tool._rates("k", "l", [missing, missing, suspect, complete], [suspect], "complete")
    assert (row["cells"]["right"], row["cells"]["wrong"]) == (3, 1)


def test_a_declared_formula_gives_the_number() -> None:
    assert tool._judged(host(), 2, declares=True).score == 1.0
    assert tool._judged(host(), 2, declares=False).score < 1.0
