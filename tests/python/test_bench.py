"""The table of `make bench`: ratios of neighbours, differences of results, absent peers."""

import argparse
from pathlib import Path

import pytest

from tool_runs import tool_module

BENCH = tool_module("bench")
SIDE = BENCH.sides.Side
NOTHING = argparse.Namespace(
    crystals=Path("crystals.extxyz"), at_once=4, serial=2,
    xtalpaint=None, nqx=None, nequix=None, nequix_python=None, nequix_atoms=12,
)  # fmt: skip


def test_ratios_are_of_neighbours_and_differences_of_common_results(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(BENCH, "alone", lambda call: call())
    ours = iter([SIDE(6, 6.0, [1.0, 2.0]), SIDE(6, 3.0, [1.0, 2.0]), SIDE(6, 2.0, [1.0, 2.0])])
    theirs = iter([SIDE(1, 2.0, [1.0]), SIDE(1, 4.0, [1.003]), SIDE(1, 1.0, [1.0])])
    row = BENCH.Comparison(
        key="a", label="A", peer="B", ours=lambda: next(ours), theirs=lambda: next(theirs),
        apart=("meV", 1e-3),
    )  # fmt: skip
    cells = BENCH.measure(row, 3)["cells"]
    assert cells["ratio"] == {"value": 3.0, "low": 2.0, "high": 8.0}
    assert cells["ours"] == {"value": 120.0, "unit": "structures/min"}
    assert cells["theirs"] == {"value": 30.0, "unit": "structures/min"}
    assert cells["apart"] == {"value": pytest.approx(3.0), "unit": "meV"}


def test_an_absent_peer_gets_a_row_that_says_so() -> None:
    rows = {row.key: row for row in BENCH.comparisons(NOTHING)}
    assert rows["nequix"].theirs == "no NQX, NEQUIX_PYTHON, NEQUIX"
    assert "XTALPAINT" in rows["td"].theirs
    measured = BENCH.measure(rows["nequix"], 3)
    assert measured["cells"]["ratio"].startswith("not measured: no NQX")
    table = BENCH.table([measured], BENCH._command(NOTHING))
    parsed = tool_module("make_tables").parse(table)
    assert parsed.commands == ("make bench",)


def test_every_peer_has_a_row_whatever_is_given() -> None:
    given = argparse.Namespace(
        **{
            **vars(NOTHING),
            "xtalpaint": Path("XtalPaint"),
            "nqx": Path("a.nqx"),
            "nequix": Path("nequix"),
            "nequix_python": Path("python"),
        }
    )
    without, with_all = ([row.key for row in BENCH.comparisons(some)] for some in (NOTHING, given))
    assert without == with_all
    assert callable(dict(zip(with_all, BENCH.comparisons(given), strict=True))["nequix"].theirs)
    assert BENCH._command(given).endswith("NEQUIX_PYTHON=jax_environment/bin/python")


def test_both_sides_of_the_score_agree() -> None:
    demo = Path(BENCH.REPOSITORY, "assets", "demo", "references.extxyz")
    ours = BENCH.sides.score_ours(demo, 2, "pos")
    theirs = BENCH.sides.score_upstream(demo, 2, "pos", None)
    assert ours.units == theirs.units == 2 * BENCH.sides.CALLS
    assert BENCH._largest(ours.results, theirs.results) < 1e-4 * max(map(abs, ours.results))
