"""tools/compare_refinements.py: a restored crystal beside another refinement."""

from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase import Atoms

from tool_runs import tool_module
from xtalfill.core.errors import InputError

tool = tool_module("compare_refinements")


def hydroxide(length: float) -> Atoms:
    """Ca(OH)2 with an O-H bond of that length, Å."""
    z = 0.2337 + length / 4.911
    places = [(0, 0, 0), (1 / 3, 2 / 3, 0.2337), (2 / 3, 1 / 3, 0.7663)]
    places += [(1 / 3, 2 / 3, z), (2 / 3, 1 / 3, 1 - z)]
    cell = [3.589, 3.589, 4.911, 90, 90, 120]
    return Atoms("CaO2H2", scaled_positions=places, cell=cell, pbc=True)


def test_atoms_are_compared_whatever_their_order_and_origin() -> None:
    ours, other = hydroxide(0.97), hydroxide(0.90)[[4, 0, 2, 3, 1]]
    ours.positions += (0.3, 0.2, 0.5)
    found = tool.compare(tool._plain(ours), tool._plain(other))
    mean, largest = found["apart"]["H"]
    assert mean == pytest.approx(0.07, abs=0.01)
    assert largest == pytest.approx(mean, abs=1e-3)
    assert max(found["apart"]["O"] + found["apart"]["Ca"]) < 0.01
    assert found["ours"][0][0] == pytest.approx(0.97, abs=1e-6)
    assert np.allclose([first for first, _ in found["other"]], 0.90)


def test_another_crystal_does_not_match(tmp_path: Path) -> None:
    wrong = hydroxide(0.97)
    wrong.symbols[0] = "Mg"
    assert tool.compare(tool._plain(wrong), tool._plain(hydroxide(0.97))) is None
    wrong.info["id"] = "a"
    ase.io.write(tmp_path / "x.extxyz", wrong, format="extxyz")
    assert len(tool.read_crystal(tmp_path / "x.extxyz", "a")) == 5
    with pytest.raises(InputError, match="no crystal b"):
        tool.read_crystal(tmp_path / "x.extxyz", "b")
