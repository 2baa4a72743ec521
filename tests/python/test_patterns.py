"""Powder patterns: simulation, fit to a measured pattern, files, and the command."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms

from hand_made_batches import Case, Made, build
from xtalfill.checks.diffraction import Radiation, simulate
from xtalfill.checks.measured import read_pattern
from xtalfill.checks.profile import Measured, Shape, fit_profile, profile
from xtalfill.cli.parser import main
from xtalfill.core.batch import write_batch
from xtalfill.core.errors import InputError
from xtalfill.results.patterns import make_pattern, phases_of_run, write_patterns

XRAY, NEUTRON = Radiation("xray", 1.54056), Radiation("neutron", 1.5)
EDGE = 4.590  # Å


def perovskite(*, at_edges: bool) -> Atoms:
    """Return SrAlH3 with hydrogen beside aluminium (edges) or beside strontium (faces)."""
    sites = [[0.5, 0, 0], [0, 0.5, 0], [0, 0, 0.5]] if at_edges else _FACES
    positions = [[0.5, 0.5, 0.5], [0, 0, 0], *sites]
    return Atoms("SrAlH3", scaled_positions=positions, cell=[EDGE] * 3, pbc=True)


_FACES = [[0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]]


def synthetic(atoms: Atoms, radiation: Radiation) -> Measured:
    """Return a pattern with noise, background, zero shift and thermal motion."""
    grid = np.arange(15, 100, 0.1)
    shape = Shape(zero=0.07, w=0.06, u=0.1, mixing=0.4, b=1.2)
    peaks = simulate(atoms, radiation, limits=(14, 101))
    counts = profile(peaks, grid, shape, wavelength=radiation.wavelength)
    counts = 5000 * counts / counts.max() + 200 + 300 * np.exp(-grid / 30)
    counts = np.random.default_rng(1).poisson(counts).astype(float)
    return Measured(grid, counts, np.sqrt(np.maximum(counts, 1)))


@pytest.fixture(scope="module")
def outdir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose answer is the wrong crystal by 10 meV/atom."""
    faces, edges = perovskite(at_edges=False), perovskite(at_edges=True)
    away = edges.positions[2:] - faces.positions[2:]
    made = [Made(relaxed=away, energy=0.0), Made(energy=0.05)]
    folder = tmp_path_factory.mktemp("run")
    (folder / "batches").mkdir()
    write_batch(build([Case("SrAlH3", faces, 3, made)]), folder / "batches" / "batch_0.h5")
    return folder


def test_positions_follow_braggs_law() -> None:
    peaks = simulate(perovskite(at_edges=True), XRAY, limits=(10, 60))
    first = 2 * np.degrees(np.arcsin(1.54056 / 2 / EDGE))
    assert peaks.two_theta[0] == pytest.approx(first, abs=1e-6)
    assert len(peaks.two_theta) == 7  # 100, 110, 111, 200, 210, 211, 220
    with pytest.raises(InputError, match="no xray pattern from 10 to"):
        simulate(perovskite(at_edges=True), XRAY, limits=(10, 10.1))


def test_a_profile_holds_the_area_of_its_peaks() -> None:
    grid = np.arange(10, 70, 0.01)
    peaks = simulate(perovskite(at_edges=True), NEUTRON, limits=(15, 60))
    area = profile(peaks, grid, Shape(mixing=0.0), wavelength=1.5).sum() * 0.01
    assert area == pytest.approx(peaks.intensity.sum(), rel=1e-3)


def test_neutrons_tell_the_two_sites_apart_and_x_rays_hardly(outdir: Path) -> None:
    phases = phases_of_run(outdir, [], minima=4)["SrAlH3"]
    assert [one.name for one in phases] == ["minimum 1", "minimum 2", "host", "reference"]
    assert phases[1].energy_above_best == pytest.approx(0.01)
    differ = {
        radiation.kind: {row.crystal: row.difference for row in one.rows}
        for radiation in (XRAY, NEUTRON)
        for one in [make_pattern("SrAlH3", phases, radiation)]
    }
    assert differ["xray"]["minimum 1"] == 0
    assert differ["xray"]["minimum 2"] < 0.06
    assert differ["neutron"]["minimum 2"] > 0.3
    assert differ["neutron"]["reference"] == pytest.approx(differ["neutron"]["minimum 2"])


def test_a_neutron_pattern_chooses_the_minimum_of_higher_energy(outdir: Path) -> None:
    phases = phases_of_run(outdir, ["SrAlH3"], minima=2)["SrAlH3"]
    measured = synthetic(perovskite(at_edges=False), NEUTRON)
    found = make_pattern("SrAlH3", phases, NEUTRON, measured=measured)
    first, second = found.rows[0], next(r for r in found.rows if r.crystal == "minimum 1")
    assert first.crystal in ("minimum 2", "reference")
    assert first.chi2 == pytest.approx(1.0, abs=0.1)
    assert second.rwp > 3 * first.rwp
    assert (first.zero, first.b) == (pytest.approx(0.07, abs=0.01), pytest.approx(1.2, abs=0.2))


def test_deuterium_scatters_otherwise() -> None:
    light = simulate(perovskite(at_edges=True), NEUTRON, limits=(10, 60))
    heavy = simulate(perovskite(at_edges=True), Radiation("neutron", 1.5, True), limits=(10, 60))
    assert not np.allclose(light.intensity, heavy.intensity, rtol=0.1)
    xray = simulate(perovskite(at_edges=True), Radiation("xray", 1.5, True), limits=(10, 60))
    assert np.allclose(
        xray.intensity,
        simulate(perovskite(at_edges=True), Radiation("xray", 1.5), limits=(10, 60)).intensity,
    )


def test_a_pattern_without_the_crystal_has_no_scale() -> None:
    grid = np.arange(15, 60, 0.1)
    flat = Measured(grid, np.full(len(grid), 100.0), np.full(len(grid), 10.0))
    peaks = simulate(perovskite(at_edges=True), XRAY, limits=(14, 61))
    fit = fit_profile(peaks, flat, wavelength=1.54056)
    assert fit.calculated == pytest.approx(100, abs=1e-6)


POINTS = [(10 + 0.1 * k, 100 + k % 7, 5.0) for k in range(60)]
CIF = """data_a
_diffrn_radiation_probe neutron
_diffrn_radiation_wavelength 1.494
_pd_meas_2theta_range_min 10
_pd_meas_2theta_range_inc 0.1
loop_
_pd_meas_counts_total
"""


# Headers as instruments and programs write them.
TOPAS = "/* d1b, 295 K */\n' 2Th  I  sigma\n"
GSAS = (
    "sample /nov12/11bmb\n# Start 2theta (deg) =    -16.0 \n# Calibrated wavelength = 0.413909\n"
    "BANK  1       60      60 CONS    1000.00     10.00 0 0 FXYE\n"
)
FULLPROF = "   10.0000    0.1000   15.9000   sample, 2.45 A\n"
PRF = "sample\n 1 60 1.5 1.5 0.0\n 2Theta\tYobs\tYcal\tYobs-Ycal\tBackg\n"
LOOP = """data_overall
loop_
_diffrn_radiation_wavelength
_diffrn_radiation_wavelength_wt
1.494 1.0
0.747 0.01
data_pattern
_diffrn_radiation_probe Neutron
loop_
_pd_meas_2theta_scan
_pd_meas_intensity_total
_pd_proc_ls_weight
"""


def counts_in_lines() -> str:
    return "\n".join("".join(f"{y:8d}" for _, y, _ in POINTS[k : k + 10]) for k in range(0, 60, 10))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.xy", "# theta I\n" + "\n".join(f"{x:.2f} {y}" for x, y, _ in POINTS)),
        ("a.xye", "XYDATA\n" + "\n".join(f"{x:.2f} {y} {e}" for x, y, e in POINTS)),
        ("a.csv", "two_theta,counts\n" + "\n".join(f"{x:.2f},{y}" for x, y, _ in POINTS)),
        ("b.xye", TOPAS + "\n".join(f" {x:.4f}  {y:.3f}  {e:.3f}" for x, y, e in POINTS)),
        ("c.fxye", GSAS + "\n".join(f"{100 * x:15.4f}{y:15.3f}{e:12.2f}" for x, y, e in POINTS)),
        ("d.xye", "\n".join(f"{x:.2f} 0.{y}D+03 5.0D+00" for x, y, _ in POINTS)),
        ("b.txt", "\n".join(f"{x:.2f}\t{y},0".replace(".", ",") for x, y, _ in POINTS)),
        ("b.csv", "\n".join(f"{x:.2f};{y}".replace(".", ",") for x, y, _ in POINTS)),
        ("a.dat", FULLPROF + counts_in_lines()),
        ("a.prf", PRF + "\n".join(f"{x:.2f}\t{y}\t99\t{y - 99}\t50" for x, y, _ in POINTS)),
        ("c.cif", LOOP + "\n".join(f"{x:.2f} {y} 0.04" for x, y, _ in POINTS)),
        ("a.cif", CIF + "\n".join(str(y) for _, y, _ in POINTS)),
        ("b.cif", CIF + "\n".join(f"{y}(5)" for _, y, _ in POINTS)),
    ],
)
def test_patterns_are_read(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    found = read_pattern(tmp_path / name)
    assert np.allclose(found.measured.two_theta, [x for x, _, _ in POINTS])
    assert np.allclose(found.measured.intensity, [y for _, y, _ in POINTS])
    given = name.endswith("xye") or name in ("b.cif", "c.cif")
    assert np.allclose(found.measured.sigma, 5 if given else np.sqrt(found.measured.intensity))
    told = ("neutron", 1.494) if name.endswith("cif") else (None, None)
    assert (found.kind, found.wavelength) == told


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("nothing here", "no powder pattern"),
        (GSAS.replace("FXYE", "STD") + "10 100 10 101\n" * 60, "GSAS data as CONS STD"),
        (GSAS.replace("CONS", "SLOG") + "10 100 10\n" * 60, "GSAS data as SLOG FXYE"),
        ("10 11 12 13 14 15 16 17 18 19\n" * 60, "10 numbers in a line"),
        ("\n".join(f"{k} 5" for k in range(100, 200)), "give degrees between 0 and 180"),
    ],
)
def test_what_is_no_pattern_is_one_line(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "a.xy").write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=says):
        read_pattern(tmp_path / "a.xy")
    with pytest.raises(InputError, match="cannot be read"):
        read_pattern(tmp_path / "none.xy")


def test_files_and_command(
    outdir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["pattern", str(outdir), "--radiation", "neutron", "-o", str(tmp_path / "out")])
    printed = capsys.readouterr().out
    assert "SrAlH3: neutron, 1.5 Å" in printed
    assert "minimum 2" in printed
    with (tmp_path / "out" / "patterns.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["crystal"] for row in rows] == ["minimum 1", "minimum 2", "host", "reference"]
    assert float(rows[1]["energy_above_best"]) == pytest.approx(0.01)
    assert (tmp_path / "out" / "SrAlH3_neutron.png").stat().st_size > 1000
    with pytest.raises(SystemExit):
        main(["pattern", str(outdir), "--id", "other"])
    assert "other has no answer in this run" in capsys.readouterr().err


def test_a_measured_pattern_needs_its_radiation(
    outdir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    measured = synthetic(perovskite(at_edges=True), NEUTRON)
    table = np.column_stack([measured.two_theta, measured.intensity])
    np.savetxt(tmp_path / "a.xy", table)
    with pytest.raises(SystemExit):
        main(["pattern", str(outdir), "--pattern", str(tmp_path / "a.xy")])
    assert "does not tell the radiation; give --radiation" in capsys.readouterr().err


def test_profiles_are_written_beside_the_measured_points(outdir: Path, tmp_path: Path) -> None:
    phases = phases_of_run(outdir, [], minima=1)["SrAlH3"][:1]
    measured = synthetic(perovskite(at_edges=True), XRAY)
    files = write_patterns([make_pattern("SrAlH3", phases, XRAY, measured=measured)], tmp_path)
    table = np.genfromtxt(files[1], delimiter=",", names=True)
    assert table.dtype.names == ("two_theta", "measured", "minimum_1")
    assert np.allclose(table["measured"], measured.intensity)
