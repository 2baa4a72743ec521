"""tools/fit_dft_cost.py: cost models from data files of pw.x."""

from __future__ import annotations

import gzip
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from dft_examples import RECORDED
from tool_runs import tool_module
from xtalfill.core.errors import ConfigError
from xtalfill.dft.estimate import read_cost_model

SIZES = (1, 2, 4, 8, 16, 32)


def make_runs(outdir: Path, sizes: tuple[int, ...]) -> None:
    """Write data files of relaxations with a cost proportional to the square root of the size."""
    text = gzip.decompress((RECORDED / "success" / "pwscf.xml.gz").read_bytes()).decode()
    cpu = text.split("<cpu>")[1].split("</cpu>")[0]
    for size in sizes:
        folder = outdir / "dft" / f"batch_0000.{size}"
        folder.mkdir(parents=True)
        changed = text.replace("<nks>8</nks>", f"<nks>{8 * size}</nks>")
        changed = changed.replace(f"<cpu>{cpu}</cpu>", f"<cpu>{10.0 * size**0.5}</cpu>", 1)
        (folder / "pw.1.xml.gz").write_bytes(gzip.compress(changed.encode()))


@pytest.fixture
def fit(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path, Path], None]:
    """Return the tool, run in this process."""
    tool = tool_module("fit_dft_cost")

    def run(outdir: Path, output: Path) -> None:
        words = ["--runs", str(outdir), "--machine", "a test", "--output", str(output)]
        monkeypatch.setattr(sys, "argv", ["fit_dft_cost.py", *words])
        tool.main()

    return run


def test_fit_recovers_the_exponent(tmp_path: Path, fit: Callable[[Path, Path], None]) -> None:
    make_runs(tmp_path, SIZES)
    fit(tmp_path, tmp_path / "cost.json")
    model = read_cost_model(tmp_path / "cost.json", "relaxation")
    assert model.exponent == pytest.approx(0.5, abs=1e-3)
    assert model.spread == pytest.approx(1.0, abs=0.01)
    assert model.machine == "a test"
    run = json.loads((tmp_path / "cost.json").read_text(encoding="utf-8"))["relaxation"]["runs"][0]
    assert model.seconds * (run["size"] / 1e6) ** 0.5 * run["n_scf"] == pytest.approx(10, rel=0.01)
    assert [
        item["size"]
        for item in json.loads((tmp_path / "cost.json").read_text())["relaxation"]["runs"]
    ] == [run["size"] * size for size in SIZES]


def test_too_few_runs_are_refused(tmp_path: Path, fit: Callable[[Path, Path], None]) -> None:
    make_runs(tmp_path, SIZES[:3])
    with pytest.raises(ConfigError, match="too few runs of each kind"):
        fit(tmp_path, tmp_path / "cost.json")
    assert not (tmp_path / "cost.json").exists()


def test_calculations_of_a_host_are_summed(
    tmp_path: Path, fit: Callable[[Path, Path], None]
) -> None:
    make_runs(tmp_path / "validate", SIZES)
    fit(tmp_path / "validate", tmp_path / "cost.json")
    before = json.loads((tmp_path / "cost.json").read_text(encoding="utf-8"))
    for folder in sorted((tmp_path / "validate" / "dft").iterdir()):
        for number in ("1", "2"):
            target = tmp_path / "hosts" / "potential" / folder.name / number
            shutil.copytree(folder, target)
    fit(tmp_path / "hosts", tmp_path / "cost.json")
    after = json.loads((tmp_path / "cost.json").read_text(encoding="utf-8"))
    assert after["relaxation"] == before["relaxation"]
    one, two = before["relaxation"]["runs"][0], after["host"]["runs"][0]
    assert two["size"] == one["size"]  # size of the first calculation
    assert (two["n_scf"], two["core_seconds"]) == (2 * one["n_scf"], 2 * one["core_seconds"])
    assert read_cost_model(tmp_path / "cost.json", "host").exponent == pytest.approx(0.5, abs=1e-3)
