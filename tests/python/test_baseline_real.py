"""The potential method with pw.x and pp.x, with pseudopotentials made by ld1.x."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dft_examples import find_pw, made_pseudos, protocol
from potential_examples import RULES, lithium
from xtalfill.core.crystal import Crystal
from xtalfill.dft.launch import Machine
from xtalfill.dft.pw_runner import Folders, Limits
from xtalfill.dft.theory import LevelOfTheory
from xtalfill.proposals.dft_potential.calculation import SMEARING, PotentialCalculator
from xtalfill.proposals.dft_potential.grid import PP
from xtalfill.proposals.dft_potential.restore import PlacementError, restore


@pytest.fixture
def electrons(tmp_path: Path) -> PotentialCalculator:
    """Return a calculator with loose settings."""
    find_pw()
    if shutil.which(PP) is None:
        pytest.skip("no pp.x on PATH: install Quantum ESPRESSO (Debian: quantum-espresso)")
    pseudos = tmp_path / "pseudos"
    pseudos.mkdir()
    _, table = made_pseudos(pseudos)
    table = {name: replace(one, cutoff_wfc=20.0, cutoff_rho=80.0) for name, one in table.items()}
    loose = replace(protocol("fast"), kpoints_distance=0.5, nstep=10)
    valence = {"H": 1.0, "Li": 1.0}
    level = LevelOfTheory(
        protocol=loose, table=table, valence=valence, degauss=0.01, smearing=SMEARING
    )
    folders = Folders(pseudos, *(tmp_path / name for name in ("scratch", "kept", "checkpoint")))
    return PotentialCalculator("lih", level, Machine(), folders, Limits())


def test_electron_potential_is_lowest_at_the_nucleus(electrons: PotentialCalculator) -> None:
    """The sign: low at a proton, zero on average, rising away from it."""
    atom = Crystal(np.array([1]), np.zeros((1, 3)), np.eye(3) * 5.0)
    potential = electrons.potential(atom, 1)
    assert potential[0, 0, 0] == potential.min() < -20.0  # eV
    assert abs(potential.mean()) < 0.5
    assert potential.max() > 0.0
    along = potential[:5, 0, 0]  # from the nucleus to 0.7 Angstrom
    assert (np.diff(along) > 0).all()
    assert potential[potential.shape[0] // 2, 0, 0] > along[2]


def test_hydrogen_of_lithium_hydride_is_restored(
    electrons: PotentialCalculator, tmp_path: Path
) -> None:
    host = lithium()
    candidate = restore(
        host,
        1,
        1,
        samples=1,
        rules=RULES,
        solver=electrons,
        generator=np.random.default_rng(0),
    )[0]
    assert candidate.sites is not None, candidate.message
    scaled = np.linalg.solve(host.cell.T, candidate.sites.T).T
    assert scaled == pytest.approx(np.full((1, 3), 0.5), abs=0.01)
    names = {path.name for path in (tmp_path / "kept" / "1").iterdir()}
    assert names == {"pw.1.in", "pw.1.out.gz", "pw.1.xml.gz", "pp.in", "pp.out.gz"}
    assert all(one["cpu_seconds"] > 0 for one in electrons.runs)


def test_placed_atoms_relax_and_the_host_is_unchanged(electrons: PotentialCalculator) -> None:
    """Displaced hydrogen moves back, lithium stays, with one excess electron."""
    host = lithium()
    crystal = host.with_atoms(1, np.full((1, 3), 0.5) @ host.cell + [[0.2, 0.0, 0.0]])
    relaxed, potential = electrons.relaxed(crystal, np.array([False, True]), 0)
    assert np.array_equal(relaxed.positions[0], host.positions[0])
    away = relaxed.positions[1] - np.full(3, 0.5) @ host.cell
    assert np.linalg.norm(away) < 0.1
    assert np.isfinite(potential).all()


def test_error_of_pw_is_a_reason(electrons: PotentialCalculator) -> None:
    with pytest.raises(PlacementError, match=r"^pw\.x, refused by pw: "):
        electrons.potential(lithium(), -3)
