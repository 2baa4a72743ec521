"""Benchmark tools: the commands of the documentation run."""

import argparse
import json
from pathlib import Path

import ase.io
import numpy as np
import pytest

from hand_made_batches import Case, Made, brucite, build
from tool_runs import DATA, REPOSITORY, tool, tool_module
from xtalfill.cli.parser import main
from xtalfill.core.batch import Stage, write_batch
from xtalfill.core.errors import InputError
from xtalfill.evaluate.match import evaluate_batch
from xtalfill.models.weights import load_weights
from xtalfill.training.data import Task


@pytest.fixture(scope="module")
def held_out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tools") / "held_out.extxyz"
    tool("held_out.py", "--data", DATA, "--output", path)
    return path


def test_held_out_crystals(held_out: Path) -> None:
    frames = ase.io.read(held_out, ":")
    assert frames
    assert all(1 in atoms.numbers for atoms in frames)
    assert len({atoms.info["id"] for atoms in frames}) == len(frames)


def test_held_out_crystals_of_another_element(tmp_path: Path) -> None:
    path, rates = tmp_path / "magnesium.extxyz", tmp_path / "rates.json"
    tool("held_out.py", "--data", DATA, "--element", "Mg", "--output", path)
    (crystal,) = ase.io.read(path, ":")
    assert crystal.get_chemical_formula() == "H2MgO2"
    # random sites need no model
    ways = ("--method", "random", "--samples", 1, "--workers", 1)
    tool("bench_proposals.py", "--bench", path, "--element", "Mg", *ways, "--output", rates)
    (result,) = json.loads(rates.read_text(encoding="utf-8"))
    assert result["element"] == "Mg"
    assert "1 site" in result["groups"]  # there are two with hydrogen


def test_crystal_without_the_element_is_refused(held_out: Path, tmp_path: Path) -> None:
    ways = ("--method", "random", "--workers", 1, "--output", tmp_path / "rates.json")
    with pytest.raises(AssertionError, match=r"ERROR: .* has no Xe, or nothing else; remove it"):
        tool("bench_proposals.py", "--bench", held_out, "--element", "Xe", *ways)


def test_host_noise_is_seeded_and_keeps_the_sites(held_out: Path) -> None:
    bench = tool_module("bench_proposals")
    atoms = ase.io.read(held_out, 0)

    def task(shake: float) -> Task:
        return bench.task_of(atoms, argparse.Namespace(element="H", seed=1, shake=shake))

    exact, once, again = task(0.0), task(0.1), task(0.1)
    np.testing.assert_array_equal(exact.host.positions, atoms.positions[atoms.numbers != 1])
    np.testing.assert_array_equal(once.host.positions, again.host.positions)
    error = once.host.positions - exact.host.positions
    assert 0.02 < error.std() < 0.3
    np.testing.assert_array_equal(once.sites, atoms.positions[atoms.numbers == 1])


def test_subset_size_limits(held_out: Path, tmp_path: Path) -> None:
    frames = ase.io.read(held_out, ":")
    largest = max(len(atoms) for atoms in frames)
    path = tmp_path / "subset.extxyz"
    bounds = ("--min_atoms", largest, "--max_atoms", largest, "--count", 1)
    tool("bench_subset.py", "--bench", held_out, *bounds, "--output", path)
    assert [len(atoms) for atoms in ase.io.read(path, ":")] == [largest]


def test_subset_by_ids(held_out: Path, tmp_path: Path) -> None:
    bench, path = tmp_path / "bench.extxyz", tmp_path / "subset.extxyz"
    atoms = ase.io.read(held_out, 0)
    for name in ("one", "two", "three"):
        atoms.info["material_id"] = name
        ase.io.write(bench, atoms, append=True)
    tool("bench_subset.py", "--bench", bench, "--ids", "three", "one", "--output", path)
    assert [atoms.info["id"] for atoms in ase.io.read(path, ":")] == ["three", "one"]


def test_unknown_id_is_refused(held_out: Path, tmp_path: Path) -> None:
    path = tmp_path / "subset.extxyz"
    with pytest.raises(AssertionError, match="ERROR: not in the benchmark: mp-0"):
        tool("bench_subset.py", "--bench", held_out, "--ids", "mp-0", "--output", path)
    assert not path.exists()


def test_benchmark_runs_every_combination(held_out: Path, tmp_path: Path) -> None:
    path = tmp_path / "rates.json"
    printed = tool(
        "bench_proposals.py", "--bench", held_out, "--model", REPOSITORY / "assets/weights/host.pt",
        "--samples", 2, "--steps", 2, 3, "--predictor", "x0_renoise", "x0_jump",
        "--corrector", "none", "level", "--workers", 1, "--output", path,
    )  # fmt: skip
    results = json.loads(path.read_text(encoding="utf-8"))
    # x0_jump adds no noise and needs a corrector
    assert [(r["steps"], r["predictor"], r["corrector_steps"]) for r in results] == [
        (steps, *rest)
        for steps in (2, 3)
        for rest in (("x0_renoise", 0), ("x0_renoise", 1), ("x0_jump", 1))
    ]
    assert len(printed.splitlines()) == 2 + len(results)
    for result in results:
        assert 0.0 <= result["all"]["rate"]["1"][0] <= result["all"]["rate"]["2"][0] <= 1.0
        assert result["seconds_per_candidate"] > 0


def test_comparison_of_two_rankings(tmp_path: Path) -> None:
    true, wrong = Made(), Made(proposed=(1.0, 0.6, 0.0), relaxed=(1.0, 0.6, 0.0), energy=-0.5)
    above = Made(proposed=(1.0, 0.6, 0.0), relaxed=(1.0, 0.6, 0.0), energy=0.5)
    cases = [
        Case("ranked", brucite(), 2, [wrong, true], reference_repeat=(1, 1, 2)),
        Case("higher", brucite(), 2, [above]),
        Case("failed", brucite(), 2, [Made(status="failed")]),
        Case("late", brucite(), 2, [above, true]),
    ]
    batch = build(cases)
    energy = batch.stages["relax_positions"].arrays["energy"]
    second = {
        **batch.stages["relax_positions"].arrays,
        "energy": np.where(energy < -10.1, -9, energy),
    }
    second["energy"][batch.method == "reference"] = energy[batch.method == "reference"]
    batch.stages["relax_rank"] = Stage(second)
    batch.stages["evaluate"] = evaluate_batch(batch)
    (tmp_path / "batches").mkdir()
    write_batch(batch, tmp_path / "batches" / "batch_0000.h5")
    lines = tool("compare_rankings.py", tmp_path).splitlines()
    rates = [line.split(": ")[1].split(" (")[0] for line in lines if "lowest" in line]
    assert rates == ["25.0 %", "50.0 %", "50.0 %", "50.0 %"]  # matched, then lower or matched
    assert "matched: relax_rank won : lost 1 : 0, p = 1" in lines
    first = tool("compare_rankings.py", tmp_path, "--samples", 1)
    assert "matched, lowest by relax_rank: 0.0 %" in first


def train(folder: Path, width: int) -> None:
    """Train a network of a few channels for two steps."""
    sizes = ("--width", width, "--host_layers", 1, "--site_layers", 1, "--answers", 0)
    steps = ("--steps", 2, "--validate_every", 1, "--crystals", 1, "--threads", 1)
    arguments = ["train", "--data", DATA, "--folder", folder, *sizes, *steps]
    main([str(argument) for argument in arguments])


def test_scaling_curves(tmp_path: Path) -> None:
    small, large = tmp_path / "small", tmp_path / "large"
    train(small, 4)
    train(large, 8)
    picture = tmp_path / "scaling.png"
    printed = tool("scaling_curves.py", small, large, "--output", picture).splitlines()
    assert picture.read_bytes().startswith(b"\x89PNG")
    for line, folder in zip(printed[2:], (small, large), strict=True):
        name, parameters, steps, _, loss, match = line.strip("| ").split(" | ")
        state = load_weights(folder / "last.pt").parameters()
        assert (name, steps) == (folder.name, "2")
        assert parameters == f"{sum(value.numel() for value in state) / 1e6:.2f} M"
        last = (folder / "log.csv").read_text().splitlines()[-1].split(",")
        assert (float(loss), float(match.rstrip(" %"))) == (
            float(last[3]), pytest.approx(100 * float(last[-1]), abs=0.05)
        )  # fmt: skip


@pytest.mark.parametrize("content", [None, "", "step,seconds\n1,one\n", "step,seconds\n1,2\n"])
def test_folder_without_a_log_is_refused(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "log.csv"
    if content is not None:
        path.write_text(content)
    with pytest.raises(InputError, match=r"log\.csv: "):
        tool_module("scaling_curves").checked_log(path)
