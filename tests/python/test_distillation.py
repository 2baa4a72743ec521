"""Tools to distil the bundled potential and to compare it with its teacher."""

from pathlib import Path

import ase.io
import numpy as np
import pytest

from hand_made_batches import Case, Made, build, lithium_hydride
from tool_runs import DATA, REPOSITORY, tool, tool_module
from xtalfill.core.batch import write_batch
from xtalfill.core.crystal import Crystal
from xtalfill.relax.potentials import load_potential
from xtalfill.training.labels import Labelled, read_labels

SMALL = REPOSITORY / "assets" / "potential" / "nequip-small.nequip.zip"


@pytest.fixture(scope="module")
def held_out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("distillation") / "held_out.extxyz"
    tool("held_out.py", "--data", DATA, "--output", path)
    return path


class _Crystals:
    """Three training crystals, and a held-out one of the system of filled MgO."""

    is_validation = np.array([False, False, False, True])
    has_hydrogen = np.array([False, False, True, True])

    def crystal(self, index: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        numbers = ([12, 8], [11, 17], [3, 1], [12, 8, 1])[index]
        positions = np.arange(len(numbers))[:, None] * np.array([[1.4, 1.4, 1.4]])
        return np.array(numbers), positions, 4.2 * np.eye(3)


def test_filled_hosts_have_no_held_out_chemical_system() -> None:
    module = tool_module("label_structures")
    source = module.StartSource(_Crystals(), held_out=False, follow=False, max_atoms=9, seed=1)
    starts = [start for index in range(40) for start in source.draw(index)]
    systems = {frozenset(start.atoms.numbers.tolist()) for start in starts}
    assert {12, 8, 1} not in systems
    assert systems >= {frozenset({12, 8}), frozenset({11, 17, 1}), frozenset({3, 1})}


@pytest.mark.parametrize("follow", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_labels_agree_with_the_teacher(follow: bool, tmp_path: Path) -> None:
    kind = ("--follow",) if follow else ()
    arguments = (
        "--data", DATA, "--relaxer", SMALL, "--teacher", "7net-0", "--parts", 0, 1,
        "--hosts", 3, "--max_atoms", 12, "--output", tmp_path, *kind,
    )  # fmt: skip
    tool("label_structures.py", *arguments)
    path = tmp_path / "part_0000.extxyz"
    frames = ase.io.read(path, ":")
    assert len(frames) >= 3
    found = load_potential("7net-0", device="cpu").evaluate(
        [Crystal(a.numbers, a.positions, a.cell.array) for a in frames[:8]]
    )
    for atoms, evaluation in zip(frames, found, strict=False):
        assert atoms.get_potential_energy() == pytest.approx(evaluation.energy, abs=1e-3)
        np.testing.assert_allclose(atoms.get_forces(), evaluation.forces, atol=1e-3)
    labels = read_labels([tmp_path])
    if follow:
        _check_ways(labels)
        return
    # a finished part is not repeated
    before = path.stat().st_mtime_ns
    tool("label_structures.py", *arguments)
    assert path.stat().st_mtime_ns == before


def _check_ways(labels: list[Labelled]) -> None:
    """Compare the first and last steps of the relaxations."""
    ways: dict[tuple[int, int], list[Labelled]] = {}
    for one in labels:
        ways.setdefault((one.host, one.way), []).append(one)
    assert len(ways) > 3
    assert len({host for host, _ in ways}) == 3
    for steps in ways.values():
        assert [one.step for one in steps] == sorted({one.step for one in steps})
        assert steps[-1].energy <= steps[0].energy


def _run(folder: Path, energies: tuple[float, float], relaxed: float = 0.0) -> Path:
    made = [
        Made(relaxed=(relaxed, 0.0, 0.0), energy=energies[0]),
        Made(relaxed=(0.0, 0.0, 0.0), energy=energies[1]),
    ]
    (folder / "batches").mkdir(parents=True)
    batch = build([Case("lih", lithium_hydride(), 4, made)])
    write_batch(batch, folder / "batches" / "batch_0000.h5")
    return folder


def test_agreement_of_two_runs(tmp_path: Path) -> None:
    one = _run(tmp_path / "one", (0.1, 0.9))
    same = _run(tmp_path / "same", (0.0, 2.0))
    reversed_order = _run(tmp_path / "reversed", (0.9, 0.1))
    printed = tool("compare_potentials.py", "--runs", one, same)
    assert "1 structures, 2 candidates" in printed
    assert printed.count("100 %") == 3
    printed = tool("compare_potentials.py", "--runs", one, reversed_order)
    assert "same order: 0 %" in printed
    assert "is lowest in the second: 0 %" in printed


@pytest.mark.slow
def test_batched_and_serial_relaxations_agree(held_out: Path, tmp_path: Path) -> None:
    path = tmp_path / "bench.json"
    printed = tool(
        "bench_relax.py", "--crystals", held_out, "--sizes", 2, "--repeats", 1, "--serial", 1,
        "--max_steps", 2, "--output", path,
    )  # fmt: skip
    row = next(line for line in printed.splitlines() if line.startswith("| 2 |"))
    assert float(row.split("|")[-2]) < 1.0  # meV between the final energies
