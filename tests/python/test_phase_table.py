"""`xtalfill phases`: the table of --competing_phases by a potential."""

from __future__ import annotations

import csv
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk

from xtalfill.checks.phases import read_phases
from xtalfill.cli.parser import main
from xtalfill.core.crystal import Crystal
from xtalfill.core.errors import InputError
from xtalfill.interactive.phase_table import PhaseTable, phase_table, reduced_composition
from xtalfill.interactive.settings import make_all_settings
from xtalfill.relax.potentials import load_potential

POTENTIAL = "oam-small"
CRYSTALS = {
    "hcp": bulk("Mg"),
    "bcc": bulk("Mg", "bcc", a=3.5),
    "periclase": bulk("MgO", "rocksalt", a=4.21),
    "twice": bulk("MgO", "rocksalt", a=4.21).repeat((2, 1, 1)),
    "stretched": bulk("MgO", "rocksalt", a=5.5),
    "salt": bulk("NaCl", "rocksalt", a=5.6),
}


@pytest.fixture(scope="module")
def phases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("phases") / "known.extxyz"
    for name, atoms in CRYSTALS.items():
        atoms.info["id"] = name
        ase.io.write(path, atoms, format="extxyz", append=True)
    return path


@pytest.fixture(scope="module")
def table(phases: Path) -> PhaseTable:
    return phase_table(phases, mlip=POTENTIAL)


def energy_of(atoms: Atoms) -> float:
    """Return the energy per atom by the potential itself."""
    settings = make_all_settings({"mlip": POTENTIAL, "mlip_rank": "none"}).relax
    potential = load_potential(settings.mlip, device="cpu")
    crystal = Crystal(atoms.numbers, atoms.positions, atoms.cell.array)
    return float(potential.evaluate([crystal])[0].energy) / len(atoms)


def test_each_composition_has_its_lowest_structure(table: PhaseTable) -> None:
    found = {row.composition: row for row in table.rows}
    assert list(found) == ["H", "Mg", "ClNa", "MgO"]  # elements first
    assert found["Mg"].id == min(("hcp", "bcc"), key=lambda name: energy_of(CRYSTALS[name]))
    assert found["MgO"].id in ("periclase", "twice")
    # No force acts in these crystals, so relaxation changes nothing.
    assert found["MgO"].energy_per_atom == pytest.approx(energy_of(CRYSTALS["periclase"]), abs=1e-4)
    assert found["H"].id == "H2 molecule"
    assert {row.potential for row in table.rows} == {POTENTIAL}
    assert (table.n_structures, table.refused) == (len(CRYSTALS), [])


def test_a_relaxed_phase_is_not_higher_than_as_given(tmp_path: Path) -> None:
    crystal = Atoms("Mg", cell=np.eye(3) * 3, pbc=True) + Atoms("O", positions=[[1.3, 1.4, 1.5]])
    ase.io.write(tmp_path / "one.extxyz", crystal, format="extxyz")
    given, relaxed = (
        phase_table(tmp_path / "one.extxyz", mlip=POTENTIAL, max_steps=steps) for steps in (0, 50)
    )
    energies = {row.composition: row.energy_per_atom for row in given.rows}
    assert energies["MgO"] == pytest.approx(energy_of(crystal), abs=1e-5)
    assert {row.composition: row.energy_per_atom for row in relaxed.rows}["MgO"] < energies["MgO"]


def test_phases_above_the_hull_do_not_change_it(tmp_path: Path) -> None:
    oxygen = Atoms("O2", positions=[[0, 0, 0], [0, 0, 1.23]], cell=np.eye(3) * 10, pbc=True)
    # this oxide would rather be magnesium and the other one
    unstable = Atoms(
        "Mg2O", positions=[[0, 0, 0], [4, 0, 0], [0, 4, 0]], cell=np.eye(3) * 8, pbc=True
    )
    for atoms in (CRYSTALS["hcp"], oxygen, CRYSTALS["periclase"], unstable):
        ase.io.write(tmp_path / "all.extxyz", atoms, format="extxyz", append=True)
    every = phase_table(tmp_path / "all.extxyz", mlip=POTENTIAL, max_steps=0)
    stable = phase_table(tmp_path / "all.extxyz", mlip=POTENTIAL, max_steps=0, stable=True)
    assert len(stable.rows) + stable.n_above == len(every.rows)
    assert set(stable.rows) <= set(every.rows)
    assert [row.composition for row in every.rows] == ["H", "Mg", "O", "Mg2O", "MgO"]
    assert [row.composition for row in stable.rows] == ["H", "Mg", "O", "MgO"]


def test_structures_of_many_elements_can_be_left_out(phases: Path) -> None:
    found = phase_table(phases, mlip=POTENTIAL, max_steps=0, most_elements=1)
    assert [row.composition for row in found.rows] == ["H", "Mg"]


def test_what_cannot_be_used_is_told(tmp_path: Path) -> None:
    wrong = [Atoms("Mg2", positions=[[0, 0, 0], [0, 0, 0.1]], cell=np.eye(3) * 4, pbc=True)]
    wrong.append(Atoms("Mg", cell=np.eye(3) * 4, pbc=False))
    for atoms in wrong:
        ase.io.write(tmp_path / "bad.extxyz", atoms, format="extxyz", append=True)
    with pytest.raises(InputError, match="no structure can be used as a phase"):
        phase_table(tmp_path / "bad.extxyz", mlip=POTENTIAL)
    ase.io.write(tmp_path / "bad.extxyz", bulk("Mg"), format="extxyz", append=True)
    found = phase_table(tmp_path / "bad.extxyz", mlip=POTENTIAL, max_steps=0)
    assert len(found.refused) == 2
    assert "not periodic" in found.refused[1]


def test_the_composition_is_reduced() -> None:
    assert reduced_composition(Atoms("OHMgHO")) == "H2MgO2"
    assert reduced_composition(Atoms("Mg4O4")) == "MgO"


def test_the_command_writes_a_table_for_the_pipeline(
    phases: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "phases.csv"
    main(["phases", str(phases), "--mlip", POTENTIAL, "--max_steps", "0", "-o", str(output)])
    assert "4 compositions of 6 structures, 0 refused" in capsys.readouterr().out
    with output.open(newline="") as file:
        energies = {
            row["composition"]: float(row["energy_per_atom"]) for row in csv.DictReader(file)
        }
    above, names = read_phases(output, potential=POTENTIAL).above(
        np.array([12, 1]), energies["Mg"] + energies["H"] + 0.2
    )
    assert above == pytest.approx(0.1)
    assert set(names.split(" + ")) == {"Mg", "H"}
    with pytest.raises(InputError, match="the energy is by oam-small, the run ranks by 7net-0"):
        read_phases(output, potential="7net-0")
