"""How winners differ from the crystals of a benchmark: neighbours, symmetry, energies, pictures."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import ase.io
import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator

from nextflow_project import REPOSITORY
from tool_runs import tool_module

SIDE = 4.4  # Å
AROUND_K = [(0.5, 0, 0), (0, 0.5, 0), (0, 0, 0.5)]
AROUND_MG = [(0, 0.5, 0.5), (0.5, 0, 0.5), (0.5, 0.5, 0)]


def perovskite(hydrogens: list[tuple[float, float, float]], **info: str | float) -> Atoms:
    """Return KMgH3 with hydrogen around one of the metals."""
    places = [(0, 0, 0), (0.5, 0.5, 0.5), *hydrogens]
    atoms = Atoms("KMgH3", scaled_positions=places, cell=np.eye(3) * SIDE, pbc=True)
    about = {"id": "x", "pair": "x", "class": "metal", "made_by": "7net-0", "formula": "KMgH3"}
    atoms.info |= about | {"potential": -0.95} | info
    return atoms


def test_table_says_what_hydrogen_is_bonded_to(tmp_path: Path) -> None:
    frames = [
        perovskite(AROUND_K, geometry="x-reference"),
        perovskite(AROUND_MG, geometry="x-winner"),
    ]
    ase.io.write(tmp_path / "pairs.extxyz", frames)
    for frame, energy in zip(frames, (-10.0, -15.0), strict=True):
        frame.calc = SinglePointCalculator(frame, energy=energy, forces=np.zeros((5, 3)))
    ase.io.write(tmp_path / "judged.extxyz", frames)
    command = [sys.executable, str(REPOSITORY / "tools" / "compare_winners.py"), "--title", "two"]
    command += ["--pairs", "pairs.extxyz", "--output", "out.json"]

    def run(*options: str) -> subprocess.CompletedProcess[str]:
        given = {"cwd": tmp_path, "capture_output": True, "text": True}
        return subprocess.run([*command, *options], check=False, **given)

    assert run("--id", "x", "--judged", "judged.extxyz").returncode == 0
    (row,) = json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))["rows"]
    expected = {"reference": "H–K 2.20 Å, Pm3̅m", "winner": "H–Mg 2.20 Å, Pm3̅m"}
    assert row["cells"] == expected | {"potential": -950.0, "dft": -1000.0}
    assert row["label"] == "KMgH₃"
    assert run("--id", "x").returncode == 0
    (row,) = json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))["rows"]
    assert "dft" not in row["cells"]
    failed = run("--id", "y")
    assert failed.returncode != 0
    assert "no pair y" in failed.stderr


def test_a_reference_is_drawn_with_its_own_sites_marked() -> None:
    winner, reference = perovskite(AROUND_MG), perovskite(AROUND_K)[[4, 0, 2, 1, 3]]
    winner.set_array("is_host", winner.numbers != 1)
    found = tool_module("make_picture").with_hosts(reference, winner)
    assert found.arrays["is_host"].tolist() == [False, True, False, True, False]
    assert "is_host" not in reference.arrays
