"""Protocols, pseudopotentials, k-points and symmetry of a calculation."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from ase import Atoms
from ase.build import bulk

from dft_examples import REPOSITORY, TABLE, protocol
from xtalfill.core.errors import ConfigError
from xtalfill.dft.protocols import read_protocol
from xtalfill.dft.pseudos import (
    UpfHeader,
    check_files,
    cutoffs,
    functionals,
    header_of,
    library_of,
    read_table,
)
from xtalfill.dft.symmetry import (
    SymmetrisedCrystal,
    irreducible_kpoints,
    kpoint_mesh,
    standard_setting,
    symmetrise,
)

PROTOCOLS = REPOSITORY / "assets" / "protocols"


def test_balanced_protocol_is_that_of_the_paper() -> None:
    balanced = protocol("balanced")
    assert balanced.kpoints_distance == 0.15
    assert balanced.force_threshold == 1e-4
    assert balanced.energy_threshold_per_atom == 1e-5
    assert (balanced.smearing, balanced.degauss) == ("cold", 0.02)


def test_protocols_tighten_in_their_order() -> None:
    loose, middle, tight = (protocol(name) for name in ("fast", "balanced", "stringent"))
    for name in ("kpoints_distance", "force_threshold", "scf_threshold_per_atom", "degauss"):
        assert getattr(loose, name) > getattr(middle, name) > getattr(tight, name)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"degauss": {"value": 0.02, "unit": "Ry"}}, "degauss needs value, unit and source"),
        ({"degauss": {"value": -1, "unit": "Ry", "source": "x"}}, "must be a positive float"),
        ({"nstep": {"value": 2.5, "unit": "", "source": "x"}}, "must be a positive int"),
        ({"nstep": {"value": True, "unit": "", "source": "x"}}, "must be a positive int"),
        ({"smearing": {"value": "hot", "unit": "", "source": "x"}}, "smearing is not one of"),
        ({"colour": {"value": 1, "unit": "", "source": "x"}}, "missing or unknown"),
    ],
)
def test_a_wrong_protocol_is_refused(tmp_path: Path, change: dict, said: str) -> None:
    content = yaml.safe_load((PROTOCOLS / "fast.yaml").read_text(encoding="utf-8"))
    path = tmp_path / "fast.yaml"
    path.write_text(yaml.safe_dump(content | change), encoding="utf-8")
    with pytest.raises(ConfigError, match=said):
        read_protocol(path)


def test_table_has_the_cutoffs_of_sssp() -> None:
    table = read_table(TABLE)
    assert len(table) == 103
    assert table["H"].filename == "H.pbe-rrkjus_psl.1.0.0.UPF"
    assert cutoffs(table, ["H", "Li", "H"]) == (60.0, 480.0)
    assert cutoffs(table, ["Ag", "Al"]) == (50.0, 240.0)  # the largest of each, from two elements


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ({"filename": "../H.UPF"}, "not a plain file"),
        ({"filename": "-H.UPF"}, "not a plain file"),
        ({"cutoff_wfc": 0}, "cutoffs of H"),
        ({"cutoff_rho": "many"}, "not a table"),
    ],
)
def test_a_wrong_table_is_refused(tmp_path: Path, entry: dict, said: str) -> None:
    good = {"filename": "H.UPF", "md5": "0" * 32, "cutoff_wfc": 30, "cutoff_rho": 240}
    path = tmp_path / "table.json"
    path.write_text(json.dumps({"H": good | entry}), encoding="utf-8")
    with pytest.raises(ConfigError, match=said):
        read_table(path)


def pseudo_folder(folder: Path) -> tuple[Path, Path]:
    """Write one file in each UPF format, and their table."""
    files = {
        "H": b'<UPF version="2.0.1"><PP_HEADER functional="PBE" z_valence="1.00000000E+000"/>',
        "Li": b"<PP_HEADER>\n SLA  PW   PBX  PBC    PBE   Exchange-Correlation functional\n"
        b"    3.00000000000      Z valence\n</PP_HEADER>",
    }
    table = {}
    for symbol, content in files.items():
        (folder / f"{symbol}.UPF").write_bytes(content)
        digest = hashlib.md5(content, usedforsecurity=False).hexdigest()
        table[symbol] = {
            "filename": f"{symbol}.UPF",
            "md5": digest,
            "cutoff_wfc": 30,
            "cutoff_rho": 240,
        }
    path = folder / "table.json"
    path.write_text(json.dumps(table), encoding="utf-8")
    return folder, path


def test_files_are_compared_with_the_table(tmp_path: Path) -> None:
    folder, path = pseudo_folder(tmp_path)
    table = read_table(path)
    found = check_files(table, folder, ["H", "Li", "Xx"])
    assert found == {"H": UpfHeader(1.0, "PBE"), "Li": UpfHeader(3.0, "PBE")}
    for digest in ("0" * 32, "f" * 32):
        other = table | {"H": replace(table["H"], md5=digest)}
        with pytest.raises(ConfigError, match=r"H\.UPF \(md5 differs from the table\)"):
            check_files(other, folder, ["H"])
    (folder / "H.UPF").write_bytes(b"another")
    (folder / "Li.UPF").unlink()
    with pytest.raises(ConfigError) as caught:
        check_files(table, folder, ["H", "Li"])
    assert "lacks 2" in str(caught.value)
    assert "H.UPF (md5 differs from the table)" in str(caught.value)
    assert "Li.UPF (No such file or directory)" in str(caught.value)
    assert check_files(table, folder, []) == {}


def test_a_file_without_valence_electrons_is_refused() -> None:
    with pytest.raises(ConfigError, match="declares no valence electrons"):
        header_of(b"<PP_HEADER/>", name="H.UPF")


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("PBE", "PBE"),
        ("SLA  PW   PBX  PBC", "PBE"),
        (" SLA-PW-PBE-PBE ", "PBE"),
        ("SLA+PW+PSX+PSC+PBEsol", "PBEsol"),
        ("pbesol", "PBEsol"),
        ("SLA  PW   NOGX NOGC", "LDA (PW)"),
        ("SLA PZ NOGX NOGC", "LDA (PZ)"),
        ("SCAN", "SCAN"),
        ("", ""),
    ],
)
def test_the_functional_is_that_of_the_file(written: str, name: str) -> None:
    second = f'<PP_HEADER functional="{written}" z_valence="1.0"/>'
    assert header_of(second.encode(), name="H.UPF").functional == name
    first = f"<PP_HEADER>\n {written}  Exchange-Correlation functional\n  1.0  Z valence\n"
    assert header_of(first.encode(), name="H.UPF").functional == name


def test_functionals_of_several_files_are_listed() -> None:
    assert functionals({"H": UpfHeader(1.0, "PBE"), "O": UpfHeader(6.0, "PBE")}) == "PBE"
    mixed = {"H": UpfHeader(1.0, "PBEsol"), "O": UpfHeader(6.0, "PBE"), "Li": UpfHeader(1.0, "")}
    assert functionals(mixed) == "PBE and PBEsol"
    assert functionals({}) == ""


def test_library_is_identified_by_its_content(tmp_path: Path) -> None:
    """The layout does not matter; a changed cutoff or element gives another table."""
    content = json.loads(TABLE.read_text(encoding="utf-8"))
    path = tmp_path / "mine.json"
    path.write_text(json.dumps(content, sort_keys=True, indent=1), encoding="utf-8")
    assert library_of(read_table(path)) == "SSSP 1.3.0 PBE efficiency"
    path = tmp_path / "sssp_1.3.0_pbe_efficiency.json"
    for changed in (
        content | {"H": content["H"] | {"cutoff_wfc": 61.0}},
        {symbol: entry for symbol, entry in content.items() if symbol != "Xe"},
    ):
        path.write_text(json.dumps(changed), encoding="utf-8")
        assert library_of(read_table(path)) == ""


@pytest.mark.parametrize(("name", "divisions"), [("fast", 6), ("balanced", 11), ("stringent", 16)])
def test_mesh_of_a_cube(name: str, divisions: int) -> None:
    cube = Atoms("H", cell=[4.0] * 3, pbc=True)
    assert kpoint_mesh(cube, protocol(name).kpoints_distance) == (divisions,) * 3


def test_mesh_is_the_coarsest_within_the_distance() -> None:
    atoms = Atoms("H", cell=[3.1, 4.7, 9.9, 81, 97, 103], pbc=True)
    lengths = 2 * np.pi * np.linalg.norm(atoms.cell.reciprocal(), axis=1)
    mesh = np.array(kpoint_mesh(atoms, 0.2))
    assert (lengths / mesh <= 0.2).all()
    assert (lengths / np.maximum(mesh - 1, 0.5) > 0.2).all()


def test_approximate_symmetry_is_restored() -> None:
    perfect = bulk("LiH", "rocksalt", a=4.08, cubic=True)
    shaken, is_host = perfect.copy(), perfect.numbers == 3
    shaken.rattle(0.002, seed=7)
    assert whole(shaken, is_host, tolerance=1e-5).n_symmetry == 1
    found = whole(shaken, is_host, tolerance=0.02)
    assert found.n_symmetry == whole(perfect, is_host, tolerance=1e-5).n_symmetry == 192
    away = found.atoms.positions - perfect.positions
    assert np.abs(away - away.mean(axis=0)).max() < 1e-9  # up to a common translation
    moved = np.linalg.norm(found.atoms.positions - shaken.positions, axis=1)
    assert found.shift_host == pytest.approx(moved[is_host].max())
    assert found.shift_filled == pytest.approx(moved[~is_host].max())
    assert 0 < max(found.shift_host, found.shift_filled) < 0.01


def whole(atoms: Atoms, is_host: np.ndarray, *, tolerance: float = 0.05) -> SymmetrisedCrystal:
    return symmetrise(atoms, is_host, tolerance=tolerance, tolerance_filled=0.01)


def hydrogen_bond(off: float) -> tuple[Atoms, np.ndarray]:
    """Return a proton between two oxygens, off their mirror plane; Mg distinguishes x from y."""
    positions = [[0, 0, 0], [2, 2.2, 0], [2, 2.2, 2.5], [2, 2.2, 1.25 + off]]
    atoms = Atoms("MgOOH", positions=positions, cell=[4.0, 4.4, 5.0], pbc=True)
    atoms.positions[0, 2] = 3.75
    return atoms, np.array([True, True, True, False])


@pytest.mark.parametrize(("off", "stays"), [(0.0, False), (0.004, False), (0.03, True)])
def test_proton_off_a_mirror_is_not_symmetrised(off: float, stays: bool) -> None:
    """Within 0.01 Å it moves to the mirror; at 0.03 Å one bond is longer than the other."""
    atoms, is_host = hydrogen_bond(off)
    found = whole(atoms, is_host)
    bonds = found.atoms.get_distances(3, [1, 2], mic=True)
    if stays:
        assert bonds == pytest.approx([1.25 + off, 1.25 - off], abs=1e-9)
        assert found.n_symmetry == 4  # the mirrors along x and y remain
        assert found.shift_filled == 0.0
    else:
        assert bonds == pytest.approx([1.25, 1.25], abs=1e-9)
        assert found.n_symmetry == 8
        assert found.shift_filled == pytest.approx(off, abs=1e-9)


def test_a_host_atom_may_move_farther_than_a_filled_site() -> None:
    atoms, is_host = hydrogen_bond(0.004)
    atoms.positions[0, 0] += 0.02
    found = whole(atoms, is_host)
    assert found.n_symmetry == 8
    assert found.shift_host == pytest.approx(0.02 * 2 / 3)  # the mean of the host is fixed
    assert found.shift_filled == pytest.approx(np.hypot(0.004, 0.02 / 3))
    assert whole(atoms, is_host, tolerance=0.01).n_symmetry == 4


def test_symmetry_broken_by_one_site_is_dropped() -> None:
    """One of four protons is 0.03 Å off: the remaining group moves none and is trivial."""
    atoms = bulk("LiH", "rocksalt", a=4.08, cubic=True)
    is_host, off = atoms.numbers == 3, np.array([0.03, 0.0, 0.0])
    atoms.positions[np.flatnonzero(~is_host)[0]] += off
    found = whole(atoms, is_host)
    assert found.n_symmetry == 8  # 4mm along x, and nothing but that
    assert found.atoms.positions == pytest.approx(atoms.positions, abs=1e-9)
    atoms.positions[np.flatnonzero(~is_host)[0]] += [-0.018, 0.03, 0.048]
    assert whole(atoms, is_host).n_symmetry == 1


def test_where_the_origin_lies_does_not_matter(rng: np.random.Generator) -> None:
    for off in (0.004, 0.03):
        atoms, is_host = hydrogen_bond(off)
        atoms.rattle(0.001, seed=3)
        first = whole(atoms, is_host)
        for _ in range(5):
            moved = atoms.copy()
            moved.positions += rng.normal(size=3)
            other = whole(moved, is_host)
            assert other.n_symmetry == first.n_symmetry
            assert other.shift_filled == pytest.approx(first.shift_filled, abs=1e-6)


def test_crystal_is_rotated_to_the_standard_setting() -> None:
    atoms = bulk("LiH", "rocksalt", a=4.08)
    atoms.rotate(37.0, (1, 2, 3), rotate_cell=True)
    atoms.positions += [0.3, 0.1, 0.2]
    rotation, origin = standard_setting(atoms, tolerance=1e-5)
    assert rotation @ rotation.T == pytest.approx(np.eye(3), abs=1e-12)
    turned = np.abs(atoms.cell.array @ rotation.T)
    seen = atoms.get_scaled_positions(wrap=False) - origin
    assert (2 * seen) == pytest.approx(np.round(2 * seen), abs=1e-6)  # sites of high symmetry
    assert np.sort(turned, axis=1) == pytest.approx(np.array([[0.0, 2.04, 2.04]] * 3), abs=1e-9)


def test_a_crystal_without_symmetry_stays_as_it_is(rng: np.random.Generator) -> None:
    atoms = Atoms("LiHON", positions=rng.random((4, 3)) * 3, cell=[4, 5, 6, 80, 95, 100], pbc=True)
    found = whole(atoms, np.array([True, False, True, True]), tolerance=0.01)
    assert (found.n_symmetry, found.shift_host, found.shift_filled) == (1, 0.0, 0.0)
    assert np.array_equal(found.atoms.positions, atoms.positions)


def test_symmetry_reduces_the_kpoints() -> None:
    atoms = bulk("LiH", "rocksalt", a=4.08)
    assert irreducible_kpoints(atoms, (4, 4, 4), tolerance=1e-5) == 8
    broken = atoms.copy()
    broken.positions[1] += [0.1, 0.05, 0.2]
    assert irreducible_kpoints(broken, (4, 4, 4), tolerance=1e-5) == 36  # time reversal alone
