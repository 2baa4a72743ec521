"""tools/substitute_hydrogen.py: relaxed, new crystals outside the benchmark."""

from pathlib import Path

import ase.io
import h5py
import numpy as np
import pytest
from ase import Atoms

from tool_runs import DATA, REPOSITORY, tool
from xtalfill.core.crystal import Crystal
from xtalfill.relax.potentials import load_potential
from xtalfill.training.data import HYDROGEN, CrystalSet

SMALL = str(REPOSITORY / "assets/potential/nequip-small.nequip.zip")


def _made(folder: Path, excluded: list[str]) -> Path:
    bench = folder / "bench.extxyz"
    ase.io.write(bench, [Atoms(formula, cell=np.eye(3), pbc=True) for formula in excluded])
    arguments = ("--data", DATA, "--exclude", bench, "--potential", SMALL, "--parts", 0, 1)
    tool("substitute_hydrogen.py", *arguments, "--output", folder)
    return folder / "part_0000.h5"


def _systems(crystals: CrystalSet) -> list[frozenset[int]]:
    return [frozenset(crystals.crystal(i)[0].tolist()) for i in range(len(crystals))]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _made(tmp_path_factory.mktemp("made"), ["HCl"])


def test_crystals_are_minima_with_one_element_replaced(made: Path) -> None:
    originals, crystals = CrystalSet([DATA]), CrystalSet([made])
    with h5py.File(made) as file:
        parents = file["parent"][()]
    assert len(crystals) == len(parents) >= 3
    found = []
    for index, parent in enumerate(parents):
        numbers, positions, cell = crystals.crystal(index)
        old = originals.crystal(parent)[0]
        assert not originals.is_validation[parent]
        changed = old != numbers
        assert len(set(old[changed])) == len(set(numbers[changed])) == 1
        assert HYDROGEN not in old[changed]
        found.append(Crystal(numbers, positions, cell))
    for evaluation in load_potential(SMALL, device="cpu").evaluate(found):
        # 0.05 plus the rounding of coordinates to 1 / 65536
        assert np.linalg.norm(evaluation.forces, axis=1).max() < 0.06
    assert not crystals.is_validation.any()
    assert crystals.has_hydrogen.all()


def test_substitutions_are_unique(made: Path) -> None:
    with h5py.File(made) as file:
        parents = file["parent"][()].tolist()
    pairs = list(zip(parents, _systems(CrystalSet([made])), strict=True))
    assert len(set(pairs)) == len(pairs)


def test_benchmark_and_held_out_systems_are_excluded(made: Path, tmp_path: Path) -> None:
    originals, systems = CrystalSet([DATA]), _systems(CrystalSet([made]))
    held_out = {frozenset(originals.crystal(i)[0].tolist()) for i in (6, 7)}
    assert held_out.isdisjoint(systems)
    left_out = systems[0]
    fewer = _made(tmp_path, ["".join(Atoms(sorted(left_out)).symbols)])
    assert left_out not in _systems(CrystalSet([fewer]))
    assert set(systems) - {left_out} == set(_systems(CrystalSet([fewer])))
