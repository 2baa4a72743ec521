"""Inputs of pw.x, its data file, and the diagnosis of recorded failures."""

from __future__ import annotations

import gzip
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ase.units import Bohr, Rydberg
from qe_tools.parsers import PwInputFile

from dft_examples import RECORDED, lih_job, lih_system, recorded
from xtalfill.core.errors import InputError
from xtalfill.dft import inputs
from xtalfill.dft.failures import PwFailure, diagnose, explain
from xtalfill.dft.inputs import write_input
from xtalfill.dft.job import read_job, write_job
from xtalfill.dft.output import last_geometry, steps_of
from xtalfill.dft.repair import DIAGONALISERS, FailedAttempt, repair
from xtalfill.dft.system import PwSettings, PwSystem
from xtalfill.dft.xmlfile import DataFileError, read_data_file

MAX_FORCE = lih_system().protocol.force_threshold * Rydberg / Bohr
KINDS = {
    "scf_not_converged": PwFailure.SCF,
    "diagonalisation": PwFailure.DIAGONALISATION,
    "bfgs_history": PwFailure.BFGS,
    "ionic_steps": PwFailure.IONIC_STEPS,
    "highest_band_occupied": PwFailure.BANDS,
    "walltime": PwFailure.WALLTIME,
    "memory": PwFailure.MEMORY,
    "memory_killed": PwFailure.MEMORY,
    "mpi_abort": PwFailure.MPI,
    "corrupt_xml": PwFailure.CORRUPT_XML,
    "refused_by_pw": PwFailure.REFUSED,
}


def written(system: PwSystem, **options: object) -> str:
    settings = replace(system.first_settings(), **options)
    scaled = system.atoms.get_scaled_positions(wrap=False)
    return write_input(system, settings, scaled=scaled, max_seconds=3600.0)


def test_thresholds_are_scaled_by_the_atoms() -> None:
    found = PwInputFile(written(lih_system())).namelists
    protocol = lih_system().protocol
    assert found["CONTROL"]["etot_conv_thr"] == pytest.approx(2 * 1e-4)
    assert found["ELECTRONS"]["conv_thr"] == pytest.approx(2 * 4e-10)
    assert found["CONTROL"]["forc_conv_thr"] == protocol.force_threshold  # not this one
    assert found["SYSTEM"]["degauss"] == protocol.degauss
    assert "nspin" not in found["SYSTEM"]
    assert "nosym" not in found["SYSTEM"]


def test_spin_starts_high_on_d_elements() -> None:
    atoms, pseudos = lih_system().atoms, lih_system().pseudos
    atoms.symbols = "FeH"
    system = lih_system(
        atoms=atoms,
        pseudos={"Fe": pseudos["Li"], "H": pseudos["H"]},
        valence={"Fe": 16.0, "H": 1.0},
        spin=True,
    )
    found = PwInputFile(written(system), validate_species_names=False).namelists["SYSTEM"]
    assert found["nspin"] == 2
    assert found["starting_magnetization(1)"] == 0.3
    assert found["starting_magnetization(2)"] == 0.03


def test_unexpected_input_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    real = inputs.write_espresso_in

    def wrong(file: object, atoms: object, **options: object) -> None:
        atoms.positions[1, 0] += 1e-6
        real(file, atoms, **options)

    monkeypatch.setattr(inputs, "write_espresso_in", wrong)
    with pytest.raises(InputError, match=r"lih .*unexpected position"):
        written(lih_system())
    monkeypatch.setattr(
        inputs,
        "write_espresso_in",
        lambda file, atoms, **options: real(file, atoms, **{**options, "kpts": (3, 2, 2)}),
    )
    with pytest.raises(InputError, match="unexpected k-point mesh"):
        written(lih_system())


def test_fixed_atoms_and_charge_are_written_and_verified(monkeypatch: pytest.MonkeyPatch) -> None:
    """An odd number of electrons needs only smearing."""
    system = replace(lih_system(), free=np.array([False, True]), extra=3)
    assert system.n_electrons == 7.0
    found = PwInputFile(written(system))
    assert found.atomic_positions["fixed_coords"] == [[True] * 3, [False] * 3]
    assert found.namelists["SYSTEM"]["tot_charge"] == -3.0
    assert found.namelists["SYSTEM"]["occupations"] == "smearing"
    assert found.namelists["CONTROL"]["calculation"] == "relax"
    still = PwInputFile(written(replace(system, free=np.zeros(2, dtype=bool))))
    assert still.namelists["CONTROL"]["calculation"] == "scf"
    assert "trust_radius_min" not in still.namelists.get("IONS", {})
    real = inputs.write_espresso_in

    def forgets(file: object, atoms: object, **options: object) -> None:
        atoms.set_constraint()
        real(file, atoms, **options)

    monkeypatch.setattr(inputs, "write_espresso_in", forgets)
    with pytest.raises(InputError, match="fixes unexpected atoms"):
        written(system)


def test_job_round_trip(tmp_path: Path) -> None:
    turn = np.array([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    origin = np.array([0.1, 0.2, 0.3])
    job = replace(
        lih_job(free=np.array([False, True])),
        rotation=turn,
        origin=origin,
        shift_host=0.01,
        shift_filled=0.004,
    )
    write_job(job, tmp_path / "job.json")
    back = read_job(tmp_path / "job.json")
    assert back.system.atoms == job.system.atoms
    arrays = [(one.rotation, one.origin, one.system.free) for one in (back, job)]
    assert all(np.array_equal(*pair) for pair in zip(*arrays, strict=True))
    same = replace(job.system, atoms=back.system.atoms, free=back.system.free)
    assert repr(back.system) == repr(same)
    assert back.n_symmetry == job.n_symmetry
    assert (back.shift_host, back.shift_filled) == (job.shift_host, job.shift_filled)
    # pw.x gets cell @ R.T
    assert back.cell @ turn.T == pytest.approx(job.system.atoms.cell.array)
    assert job.system.n_electrons == 4.0


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("batch_0000.1", "../../x.1"),
        ("H.pbe-rrkjus_psl.1.0.0.UPF", "/etc/passwd"),
        ("xtalfill-dft-job 3", "xtalfill-dft-job 2"),
        ('"ecutwfc"', '"ecut"'),
        ('"origin"', '"start"'),
        ('"H"\n', '"Na"\n'),
    ],
)
def test_a_forged_job_is_refused(tmp_path: Path, old: str, new: str) -> None:
    path = tmp_path / "job.json"
    write_job(lih_job(), path)
    path.write_text(path.read_text(encoding="utf-8").replace(old, new), encoding="utf-8")
    with pytest.raises(InputError, match="not a job of PLAN_DFT"):
        read_job(path)


def test_data_file_agrees_with_the_text(tmp_path: Path) -> None:
    run = recorded("success", tmp_path)
    assert run.data is not None
    text = steps_of(replace(run, data=None))  # read by ASE from the output
    assert run.data.version == "6.7MaX"
    assert run.data.relaxed
    assert run.data.n_electrons == 4.0
    assert run.data.n_waves == pytest.approx(114.58 * 30**1.5 / (6 * math.pi**2), rel=0.1)
    assert 0 < run.data.core_seconds < 60
    assert f"{run.data.n_symmetry} Sym. Ops." in run.stdout or run.data.n_symmetry == 1
    assert len(run.data.steps) == len(text)
    for ours, theirs in zip(run.data.steps, text, strict=True):
        assert ours.energy == pytest.approx(theirs.energy, abs=1e-4)
        assert np.abs(ours.forces - theirs.forces).max() < 1e-4
        assert np.abs(ours.scaled - theirs.scaled).max() < 1e-6
    assert np.abs(run.data.steps[-1].forces).max() < MAX_FORCE


@pytest.mark.parametrize(
    ("occupations", "top"),
    [
        ("1.0 0.0", 1.0),  # as recorded: spin-up
        ("0.0 1.0", 1.0),
        ("0.2 0.3", 0.3),
        ("0.3 0.2", 0.3),
        ("-0.01 -0.02", 0.0),  # from cold smearing
    ],
)
def test_highest_band_of_either_spin(tmp_path: Path, occupations: str, top: float) -> None:
    data = recorded("spin", tmp_path).data
    assert data is not None
    assert (data.n_bands, data.n_electrons, data.top_occupation) == (1, 1.0, 1.0)
    assert data.magnetization == pytest.approx(1.0)
    content = gzip.decompress((RECORDED / "spin" / "pwscf.xml.gz").read_bytes()).decode()
    before, after = content.split('<occupations size="2">', 1)
    after = after.split("</occupations>", 1)[1]
    path = tmp_path / "changed.xml"
    path.write_text(f"{before}<occupations>{occupations}</occupations>{after}", encoding="utf-8")
    assert read_data_file(path).top_occupation == top


def test_only_the_highest_band_counts(tmp_path: Path) -> None:
    """Two bands per spin: up (1, 0.4), down (1, 0.1); one k-point has lower occupations."""
    content = gzip.decompress((RECORDED / "spin" / "pwscf.xml.gz").read_bytes()).decode()
    point = content[content.index("<ks_energies>") : content.index("</band_structure>")]
    points = "".join(
        f"<ks_energies><occupations>{text}</occupations></ks_energies>"
        for text in ("1 0.4 1 0.1", "1 0.2 1 0.3")
    )
    path = tmp_path / "changed.xml"
    content = content.replace(point, points).replace("<nbnd_up>1<", "<nbnd_up>2<")
    path.write_text(content, encoding="utf-8")
    assert read_data_file(path).top_occupation == 0.4


def test_data_file_refuses_what_pw_does_not_write(tmp_path: Path) -> None:
    content = gzip.decompress((RECORDED / "success" / "pwscf.xml.gz").read_bytes()).decode()
    path = tmp_path / "pwscf.xml"
    bomb = '<!DOCTYPE x [<!ENTITY a "aaaaaaaa">]>'
    broken = {
        "declares a document type": content.replace("?>", f"?>{bomb}", 1),
        "p.* declares a document type": content.replace("?>", "?><!DOCTYPE x>", 1),
        "is damaged": content[:20000],
        "no output": content.replace("<output>", "<result>").replace("</output>", "</result>"),
        "incomplete": " 1.0</a1>".join(content.rsplit("</a1>", 1)),
    }
    for said, text in broken.items():
        path.write_text(text, encoding="utf-8")
        with pytest.raises(DataFileError, match=said if said != "incomplete" else "damaged"):
            read_data_file(path)
    with pytest.raises(DataFileError, match="cannot be read"):
        read_data_file(tmp_path / "none.xml")


def test_success_is_not_a_failure(tmp_path: Path) -> None:
    assert diagnose(recorded("success", tmp_path), max_force=MAX_FORCE) is None


def test_every_recorded_failure_has_its_kind() -> None:
    folders = {path.name for path in RECORDED.iterdir() if path.is_dir()}
    assert folders == {*KINDS, "success", "spin"}
    assert set(KINDS.values()) == set(PwFailure)


@pytest.mark.parametrize(("name", "kind"), KINDS.items())
def test_recorded_failures_are_diagnosed(tmp_path: Path, name: str, kind: PwFailure) -> None:
    run = recorded(name, tmp_path)
    assert diagnose(run, max_force=MAX_FORCE) is kind
    said = explain(run, kind)
    assert said
    assert "\n" not in said


def test_bfgs_convergence_with_large_forces_is_a_failure(tmp_path: Path) -> None:
    run = recorded("bfgs_history", tmp_path)
    assert run.exit_code == 0
    assert run.data is not None
    assert run.data.relaxed  # pw.x reports convergence
    assert diagnose(run, max_force=math.inf) is None


@pytest.mark.parametrize("name", ["walltime", "ionic_steps", "memory_killed"])
def test_the_last_geometry_survives_a_failure(tmp_path: Path, name: str) -> None:
    scaled = last_geometry(recorded(name, tmp_path))
    assert scaled is not None
    assert scaled.shape == (2, 3)
    moved = np.abs(scaled - lih_system().atoms.get_scaled_positions(wrap=False)).max()
    assert 1e-6 < moved < 0.1


def test_attempt_without_a_complete_step_has_no_geometry(tmp_path: Path) -> None:
    assert last_geometry(recorded("scf_not_converged", tmp_path)) is None


def situation(**options: object) -> FailedAttempt:
    return FailedAttempt(replace(lih_system().first_settings(), **options), 6, 4.0, 80)


def test_scf_repair_reduces_mixing_then_screens_locally() -> None:
    first = repair(PwFailure.SCF, situation())
    assert (first.settings.mixing_beta, first.settings.electron_maxstep) == (0.32, 120)
    assert first.settings.mixing_mode == "plain"
    second = repair(PwFailure.SCF, FailedAttempt(first.settings, 6, 4.0, 80))
    assert second.settings.mixing_beta == pytest.approx(0.256)
    assert second.settings.mixing_mode == "local-TF"


def test_diagonalisers_are_tried_in_their_order() -> None:
    names, now = [], situation()
    while (found := repair(PwFailure.DIAGONALISATION, now)) is not None:
        names.append(found.settings.diagonalization)
        assert not found.keep_density
        now = FailedAttempt(found.settings, 6, 4.0, 80)
    assert names == list(DIAGONALISERS[1:])


def test_bfgs_repair_reduces_steps_then_damps() -> None:
    actions, now = [], situation()
    while (found := repair(PwFailure.BFGS, now)) is not None:
        assert found.keep_density
        actions.append((found.settings.ion_dynamics, found.settings.trust_radius_min))
        now = FailedAttempt(found.settings, 6, 4.0, 80)
    assert [name for name, _ in actions] == ["bfgs", "bfgs", "damp"]
    assert actions[1][1] == pytest.approx(1e-5)


def test_other_repairs() -> None:
    assert repair(PwFailure.BANDS, situation()).settings.nbnd == 10
    assert (
        repair(
            PwFailure.BANDS, FailedAttempt(lih_system().first_settings(), 200, 4.0, 80)
        ).settings.nbnd
        == 210
    )
    assert repair(PwFailure.MEMORY, situation(ranks=4, pools=4)).settings.pools == 1
    assert repair(PwFailure.MEMORY, situation()).settings.mixing_ndim == 4
    assert repair(PwFailure.MEMORY, situation(mixing_ndim=4)) is None
    halved = repair(PwFailure.MPI, situation(ranks=6, pools=6)).settings
    assert (halved.ranks, halved.pools) == (3, 3)
    assert repair(PwFailure.MPI, situation()).settings == PwSettings(0.4, 80, 50)
    assert repair(PwFailure.CORRUPT_XML, situation()).settings == situation().settings
    assert repair(PwFailure.REFUSED, situation()) is None
    assert repair(PwFailure.WALLTIME, situation()) is None
