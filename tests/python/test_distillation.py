"""Tools to distil the bundled potential and to compare it with its teacher."""

from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase import Atoms

from hand_made_batches import Case, Made, build, lithium_hydride
from tool_runs import DATA, tool
from xtalfill.core.batch import write_batch
from xtalfill.core.crystal import Crystal
from xtalfill.relax.potentials import load_potential
from xtalfill.training.data import CrystalSet


@pytest.fixture(scope="module")
def held_out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("distillation") / "held_out.extxyz"
    tool("held_out.py", "--data", DATA, "--output", path)
    return path


def test_labels_agree_with_the_teacher_and_exclude_the_benchmark(
    held_out: Path, tmp_path: Path
) -> None:
    frames = ase.io.read(held_out, ":")
    systems = {frozenset(atoms.symbols) for atoms in frames}
    crystals = CrystalSet([DATA])
    known = (crystals.crystal(index)[0] for index in np.flatnonzero(crystals.is_validation))
    assert any(frozenset(Atoms(numbers).symbols) in systems for numbers in known)
    arguments = ("--data", DATA, "--exclude", held_out, "--relaxer", "7net-0")
    arguments += ("--teacher", "7net-0", "--parts", 0, 1, "--output", tmp_path)
    tool("label_structures.py", *arguments)
    path = tmp_path / "part_0000.extxyz"
    labelled = ase.io.read(path, ":")
    assert len(labelled) > 50
    assert not systems & {frozenset(atoms.symbols) for atoms in labelled}
    crystals_labelled = [Crystal(a.numbers, a.positions, a.cell.array) for a in labelled[:8]]
    found = load_potential("7net-0", device="cpu").evaluate(crystals_labelled)
    for atoms, evaluation in zip(labelled, found, strict=False):
        assert atoms.get_potential_energy() == pytest.approx(evaluation.energy, abs=1e-3)
        np.testing.assert_allclose(atoms.get_forces(), evaluation.forces, atol=1e-3)
    before = path.stat().st_mtime_ns
    tool("label_structures.py", *arguments)
    assert path.stat().st_mtime_ns == before


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
