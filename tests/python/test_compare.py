"""Comparison of runs: shared structures, labels, paired tests."""

import json
import sys
from pathlib import Path

import pytest

from hand_made_batches import Case, Made, brucite, build, write_check
from xtalfill.cli import parser as cli
from xtalfill.core.batch import write_batch
from xtalfill.core.errors import InputError
from xtalfill.evaluate.match import evaluate_batch
from xtalfill.results.compare import compare_runs, markdown

WRONG = (0, 0, 2.2)


def finished_run(outdir: Path, cases: list[Case]) -> Path:
    batch = build(cases)
    batch.stages["evaluate"] = evaluate_batch(batch)
    (outdir / "batches").mkdir(parents=True)
    (outdir / "pipeline_info").mkdir()
    write_batch(batch, outdir / "batches" / "batch_0000.h5")
    write_check(outdir / "pipeline_info" / "check.json", cases)
    return outdir


@pytest.fixture
def runs(tmp_path: Path) -> dict[str, Path]:
    """Two runs: one matches a and b; the other matches a only and has no c."""
    good, bad = [Made()], [Made(relaxed=WRONG)]
    first = [
        Case(name, brucite(), 2, made) for name, made in (("a", good), ("b", good), ("c", bad))
    ]
    second = [Case(name, brucite(), 2, made) for name, made in (("a", good), ("b", bad))]
    return {
        "25 steps": finished_run(tmp_path / "first", first),
        "50 steps": finished_run(tmp_path / "second", second),
    }


def test_only_shared_structures_count(runs: dict[str, Path]) -> None:
    comparison = compare_runs(runs)
    assert comparison["n_structures"] == 2
    rates = {
        label: method["matched"]["single"]["mean"]
        for label, method in comparison["methods"].items()
    }
    assert rates == {"25 steps": 1.0, "50 steps": 0.5}
    matched = next(test for test in comparison["paired_tests"] if test["outcome"] == "matched")
    assert {name: matched[name] for name in ("both", "only_first", "only_second", "neither")} == {
        "both": 1, "only_first": 1, "only_second": 0, "neither": 0,
    }  # fmt: skip
    lines = markdown(comparison).splitlines()
    for label, rate in (("25 steps", "100.0 (34.2–100.0)"), ("50 steps", "50.0 (9.5–90.5)")):
        assert rate in next(line for line in lines if line.startswith(f"| {label} | "))


def test_run_with_two_methods(tmp_path: Path) -> None:
    made = [Made(), Made(method="random", relaxed=WRONG)]
    outdir = finished_run(tmp_path / "both", [Case("a", brucite(), 2, made)])
    methods = compare_runs({"mine": outdir})["methods"]
    assert list(methods) == ["mine:host", "mine:random", "mine:all"]
    rates = [method["matched"]["best_of_k"]["mean"][-1] for method in methods.values()]
    assert rates == [1.0, 0.0, 0.75]  # two of two drawn with replacement: one in four is all wrong


def test_runs_without_shared_structures_and_other_folders_are_refused(tmp_path: Path) -> None:
    one = finished_run(tmp_path / "one", [Case("a", brucite(), 2, [Made()])])
    other = finished_run(tmp_path / "other", [Case("z", brucite(), 2, [Made()])])
    with pytest.raises(InputError, match="no structure with a reference is in all runs"):
        compare_runs({"one": one, "other": other})
    with pytest.raises(InputError, match="not the --outdir of a finished run"):
        compare_runs({"empty": tmp_path})


def test_command_prints_and_writes(
    runs: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    output = tmp_path / "comparison.json"
    arguments = [f"{label}={outdir}" for label, outdir in runs.items()]
    monkeypatch.setattr(sys, "argv", ["xtalfill", "compare", *arguments, "--output", str(output)])
    cli.main()
    assert "2 structures" in capsys.readouterr().out
    assert json.loads(output.read_text())["n_structures"] == 2


def test_run_without_label_gives_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["xtalfill", "compare", "results"])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == 78
    assert (
        capsys.readouterr().err
        == "ERROR: results: give each run as LABEL=OUTDIR, with distinct labels\n"
    )
