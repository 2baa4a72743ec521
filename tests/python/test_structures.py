"""Readers: each format gives the crystal that was written; malformed files give one line."""

import gzip
import json
import sqlite3
from collections.abc import Callable
from pathlib import Path

import ase.db
import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import FixAtoms
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pymatgen.core import Lattice, Molecule, Structure
from pymatgen.entries.computed_entries import ComputedStructureEntry
from pymatgen.io.ase import AseAtomsAdaptor

from xtalfill.core.errors import InputError
from xtalfill.inputs.structures import Entry, read_structures
from xtalfill.inputs.structures import entry as entry_module
from xtalfill.inputs.structures.formats import file_format, file_stem

WriteCif = Callable[..., Path]


def same_crystal(found: Atoms | None, expected: Atoms, *, exact: bool = False) -> bool:
    """Return whether two crystals agree site by site, in any order of the sites."""
    assert found is not None
    structures = [AseAtomsAdaptor.get_structure(atoms) for atoms in (found, expected)]
    if exact:
        return (
            np.array_equal(found.positions, expected.positions)
            and np.array_equal(found.cell, expected.cell)
            and np.array_equal(found.numbers, expected.numbers)
        )
    first, second = structures
    lattices = np.allclose(first.lattice.parameters, second.lattice.parameters, atol=1e-5)
    if not lattices or first.composition != second.composition:
        return False
    for site in first:
        others = [other for other in second if other.specie.Z == site.specie.Z]
        delta = np.array([other.frac_coords - site.frac_coords for other in others])
        if not (np.abs(delta - np.round(delta)) < 1e-6).all(axis=1).any():
            return False
    return True


def only(entries: list[Entry]) -> Entry:
    assert len(entries) == 1
    return entries[0]


def error_of(path: Path) -> str:
    """Return the error of a file with one structure."""
    entry = only(read_structures(path))
    assert entry.atoms is None
    assert entry.error is not None
    assert "\n" not in entry.error
    return entry.error


# --- names ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "kind", "stem"),
    [
        ("Mg.cif", "cif", "Mg"),
        ("Mg.CIF.GZ", "cif", "Mg"),
        ("POSCAR", "poscar", "POSCAR"),
        ("POSCAR_Mg", "poscar", "Mg"),
        ("POSCAR.mp-1.vasp", "poscar", "mp-1"),
        ("CONTCAR-7", "poscar", "7"),
        ("a.b.vasp", "poscar", "a.b"),
        ("frames.extxyz", "extxyz", "frames"),
        ("mp.db", "ase", "mp"),
        ("mp.json.gz", "json", "mp"),
        ("notes.txt", None, "notes.txt"),
    ],
)
def test_file_name_gives_format_and_id(name: str, kind: str, stem: str) -> None:
    assert file_format(Path(name)) == kind
    assert file_stem(Path(name)) == stem


# --- CIF -----------------------------------------------------------------------------------


def test_cif_keeps_cell_and_sites(tmp_path: Path, brucite: Atoms, write_cif: WriteCif) -> None:
    entry = only(read_structures(write_cif(brucite, tmp_path / "a.cif", significant_figures=10)))
    assert entry.error is None
    assert entry.fallback_id == "a"
    assert same_crystal(entry.atoms, brucite)


def test_cif_expands_symmetry_in_its_own_cell(tmp_path: Path, write_cif: WriteCif) -> None:
    spacegroup = Structure.from_spacegroup(
        "Fm-3m", Lattice.cubic(4.08), ["Li", "H"], [(0, 0, 0), (0.5, 0.5, 0.5)]
    )
    atoms = AseAtomsAdaptor.get_atoms(spacegroup)
    entry = only(read_structures(write_cif(atoms, tmp_path / "a.cif", symprec=0.01)))
    assert entry.atoms is not None
    assert len(entry.atoms) == 8  # the conventional cell, not the primitive one of 2
    assert same_crystal(entry.atoms, atoms)


def test_cif_without_symmetry_keeps_coordinates_near_a_third(
    tmp_path: Path, write_cif: WriteCif
) -> None:
    atoms = Atoms("LiF", scaled_positions=[(0.33334, 0, 0), (0.8, 0.5, 0.66665)], cell=[4, 4, 4])
    entry = only(read_structures(write_cif(atoms, tmp_path / "a.cif")))
    assert entry.atoms is not None
    scaled = entry.atoms.get_scaled_positions()
    assert sorted(scaled[:, 0].round(6)) == [0.33334, 0.8]
    assert sorted(scaled[:, 2].round(6)) == [0.0, 0.66665]


def test_gzipped_cif(tmp_path: Path, brucite: Atoms, write_cif: WriteCif) -> None:
    plain = write_cif(brucite, tmp_path / "a.cif")
    packed = tmp_path / "b.cif.gz"
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    entry = only(read_structures(packed))
    assert entry.fallback_id == "b"
    assert same_crystal(entry.atoms, brucite)


def test_gzip_bomb_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(entry_module, "MAX_TEXT_BYTES", 1 << 20)
    bomb = tmp_path / "a.cif.gz"
    bomb.write_bytes(gzip.compress(b" " * (1 << 22)))
    assert "larger than" in error_of(bomb)


def test_every_cif_block_is_read_despite_a_bad_one(
    tmp_path: Path, brucite: Atoms, rocksalt: Atoms, write_cif: WriteCif
) -> None:
    first = write_cif(brucite, tmp_path / "1.cif").read_text()
    second = write_cif(rocksalt, tmp_path / "2.cif").read_text()
    broken = first.replace("_cell_length_a   3.14", "_cell_length_a   ?")
    path = tmp_path / "many.cif"
    path.write_text("data_global\n_publ_author_name 'A. N.'\n" + first + broken + second)
    entries = read_structures(path)
    assert [entry.fallback_id for entry in entries] == ["many_0", "many_1", "many_2"]
    assert [entry.error is None for entry in entries] == [True, False, True]
    assert same_crystal(entries[2].atoms, rocksalt)


def test_truncated_cif_never_gives_a_wrong_crystal(
    tmp_path: Path, brucite: Atoms, write_cif: WriteCif
) -> None:
    text = write_cif(brucite, tmp_path / "whole.cif").read_text()
    lines = text.splitlines(keepends=True)
    path = tmp_path / "cut.cif"
    for n_lines in range(len(lines) - 1):
        path.write_text("".join(lines[:n_lines]))
        entry = only(read_structures(path))
        if entry.error is None:
            # A file cut between two rows can be read; CHECK detects it by the declared formula.
            assert entry.atoms is not None
            assert entry.evidence.formula == {12: 1.0, 8: 2.0, 1: 2.0}
            assert len(entry.atoms) < 5
        else:
            assert "\n" not in entry.error


def test_cif_with_a_shared_site_keeps_both_elements(tmp_path: Path) -> None:
    mixed = Structure(Lattice.cubic(4), [{"Na": 0.5, "K": 0.5}, "Cl"], [(0, 0, 0), (0.5, 0.5, 0.5)])
    path = tmp_path / "mixed.cif"
    mixed.to(filename=str(path))
    entry = only(read_structures(path))
    assert entry.atoms is not None
    assert dict(zip(entry.atoms.symbols, entry.atoms.arrays["occupancy"], strict=True)) == {
        "Na": 0.5,
        "K": 0.5,
        "Cl": 1.0,
    }


def test_cif_with_partial_occupancy_keeps_it(tmp_path: Path) -> None:
    partial = Structure(Lattice.cubic(4), [{"Na": 0.5}, "Cl"], [(0, 0, 0), (0.5, 0.5, 0.5)])
    path = tmp_path / "partial.cif"
    partial.to(filename=str(path))
    entry = only(read_structures(path))
    assert entry.atoms is not None
    assert dict(zip(entry.atoms.symbols, entry.atoms.arrays["occupancy"], strict=True)) == {
        "Na": 0.5,
        "Cl": 1.0,
    }


def test_cif_with_two_atoms_on_one_site(
    tmp_path: Path, brucite: Atoms, write_cif: WriteCif
) -> None:
    brucite.positions[4] = brucite.positions[3]
    entry = only(read_structures(write_cif(brucite, tmp_path / "a.cif")))
    assert entry.atoms is not None
    assert len(entry.atoms) == 4
    assert any("merged" in note for note in entry.notes)


@pytest.mark.parametrize("unknown", ["?", "."])
def test_cif_sites_without_coordinates_are_skipped_and_reported(
    tmp_path: Path, brucite: Atoms, write_cif: WriteCif, unknown: str
) -> None:
    text = write_cif(brucite, tmp_path / "a.cif").read_text()
    rows = [
        f"  H  {row.split()[1]}  1  {unknown}  {unknown}  {unknown}  1\n"
        if row.startswith("  H ")
        else row
        for row in text.splitlines(keepends=True)
    ]
    path = tmp_path / "b.cif"
    path.write_text("".join(rows))
    entry = only(read_structures(path))
    assert entry.atoms is not None
    assert sorted(entry.atoms.symbols) == ["Mg", "O", "O"]  # no H at the origin
    assert entry.evidence.unlocated == {1: 2.0}
    assert entry.evidence.formula == {12: 1.0, 8: 2.0, 1: 2.0}


def test_cif_whose_space_group_cannot_be_expanded(
    tmp_path: Path, brucite: Atoms, write_cif: WriteCif
) -> None:
    text = write_cif(brucite, tmp_path / "a.cif").read_text()
    head, tail = text.split("loop_\n _symmetry_equiv_pos_site_id", 1)
    text = head + tail.split("1  'x, y, z'\n", 1)[1]
    path = tmp_path / "b.cif"
    path.write_text(text)
    assert only(read_structures(path)).error is None  # P 1 is unambiguous
    path.write_text(text.replace("'P 1'", "'P x y z'").replace("_Tables_number   1", "_x 1"))
    assert "space group" in error_of(path)


def test_deuterium_is_read_as_hydrogen_and_noted(
    tmp_path: Path, brucite: Atoms, write_cif: WriteCif
) -> None:
    text = write_cif(brucite, tmp_path / "a.cif").read_text().replace("  H  H", "  D  D")
    cif = tmp_path / "d.cif"
    cif.write_text(text)
    xyz = tmp_path / "d.extxyz"
    ase.io.write(xyz, brucite)
    xyz.write_text(xyz.read_text().replace("\nH ", "\nD "))
    for path in (cif, xyz):
        entry = only(read_structures(path))
        assert entry.notes == ["deuterium read as hydrogen"]
        assert same_crystal(entry.atoms, brucite)


# --- POSCAR --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a.vasp", "POSCAR", "POSCAR_x", "CONTCAR", "a.poscar"])
@pytest.mark.parametrize("direct", [True, False])
def test_poscar(tmp_path: Path, brucite: Atoms, name: str, direct: bool) -> None:
    ase.io.write(tmp_path / name, brucite, format="vasp", direct=direct)
    entry = only(read_structures(tmp_path / name))
    assert same_crystal(entry.atoms, brucite)


def test_poscar_without_symbols_is_refused(tmp_path: Path, brucite: Atoms) -> None:
    path = tmp_path / "POSCAR"
    ase.io.write(path, brucite, format="vasp")
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(["no symbols here\n", *lines[1:5], *lines[6:]]))
    assert "add the line with the element symbols" in error_of(path)


@pytest.mark.parametrize("n_lines", [0, 1, 3, 6, 9, 11])
def test_truncated_poscar(tmp_path: Path, brucite: Atoms, n_lines: int) -> None:
    path = tmp_path / "POSCAR"
    ase.io.write(path, brucite, format="vasp")
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:n_lines]))
    assert "truncated" in error_of(path)


def test_poscar_of_an_unknown_element(tmp_path: Path, brucite: Atoms) -> None:
    path = tmp_path / "POSCAR"
    ase.io.write(path, brucite, format="vasp")
    path.write_text(path.read_text().replace("Mg", "Xq"))
    assert "unknown element" in error_of(path)


# --- extended XYZ --------------------------------------------------------------------------


def test_extxyz_is_read_bit_identically(tmp_path: Path, rng: np.random.Generator) -> None:
    frames = []
    for number in range(5):
        atoms = Atoms("LiO2H", rng.uniform(-9, 9, (4, 3)), cell=rng.normal(0, 5, (3, 3)), pbc=True)
        atoms.info = {"id": f"x{number}", "n_missing": number + 1, "element": "H"}
        frames.append(atoms)
    path = tmp_path / "f.extxyz"
    with path.open("w") as file:
        for atoms in frames:
            lattice = " ".join(repr(float(x)) for x in np.asarray(atoms.cell).ravel())
            info = atoms.info
            file.write(f'4\nLattice="{lattice}" id={info["id"]} n_missing={info["n_missing"]}')
            file.write(" element=H\n")
            for symbol, xyz in zip(atoms.symbols, atoms.positions, strict=True):
                file.write(f"{symbol} {' '.join(repr(float(x)) for x in xyz)}\n")
    entries = read_structures(path)
    for entry, atoms in zip(entries, frames, strict=True):
        assert same_crystal(entry.atoms, atoms, exact=True)
        assert (entry.id, int(entry.n_missing), entry.element) == tuple(atoms.info.values())


def test_extxyz_id_is_kept_as_written(tmp_path: Path, brucite: Atoms) -> None:
    path = tmp_path / "f.extxyz"
    ase.io.write(path, brucite)
    frame = path.read_text()
    written = ["id=007", "id=T", 'id="1e5"', "material_id=mp-7 name=x", 'remark="say id=3"']
    path.write_text("".join(frame.replace('pbc="', f'{item} pbc="') for item in written))
    assert [entry.id for entry in read_structures(path)] == ["007", "T", "1e5", "mp-7", None]


def test_names_shared_by_frames_are_not_used_as_ids(tmp_path: Path, brucite: Atoms) -> None:
    path = tmp_path / "f.extxyz"
    frames = [brucite.copy() for _ in range(3)]
    for atoms, name in zip(frames, ["MgO2H2", "MgO2H2", "alone"], strict=True):
        atoms.info["name"] = name
    ase.io.write(path, frames)
    entries = read_structures(path)
    assert [entry.id for entry in entries] == [None, None, "alone"]
    assert [entry.fallback_id for entry in entries] == ["f_0", "f_1", "f_2"]


def test_bad_frame_does_not_affect_the_others(tmp_path: Path, brucite: Atoms) -> None:
    path = tmp_path / "f.extxyz"
    ase.io.write(path, brucite)
    good = path.read_text()
    bad = [
        good.replace("Mg ", "Qq "),
        good.replace("Lattice=", "Lattice=x"),
        good.replace("O ", "O x"),
    ]
    path.write_text("\n\n".join([good, *bad, good]))
    entries = read_structures(path)
    assert [entry.error is None for entry in entries] == [True, False, False, False, True]
    assert "unknown element 'Qq'" in str(entries[1].error)


def test_truncated_extxyz_keeps_complete_frames(tmp_path: Path, brucite: Atoms) -> None:
    path = tmp_path / "f.extxyz"
    ase.io.write(path, [brucite, brucite])
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:-2]))
    first, second = read_structures(path)
    assert first.error is None
    assert "truncated: 5 atoms declared, 3 lines left" in str(second.error)
    path.write_text("".join(lines[:6]) + "".join(lines[7:]))
    assert [entry.error is None for entry in read_structures(path)] == [False, False]


def test_molecule_without_lattice_is_read_as_not_periodic(tmp_path: Path) -> None:
    path = tmp_path / "water.xyz"
    path.write_text("3\nwater\nO 0 0 0\nH 0 0 1\nH 0 1 0\n")
    entry = only(read_structures(path))
    assert entry.atoms is not None
    assert not entry.atoms.pbc.any()


# --- ASE database --------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a.db", "a.json"])
def test_ase_database(tmp_path: Path, brucite: Atoms, rocksalt: Atoms, name: str) -> None:
    brucite.set_constraint(FixAtoms([0]))
    rocksalt.calc = SinglePointCalculator(rocksalt, energy=-1.0)
    database = ase.db.connect(tmp_path / name)
    database.write(brucite, material_id="mp-1", n_missing=2, element="H")
    database.write(rocksalt, data={"anything": [1, 2, 3]})
    first, second = read_structures(tmp_path / name)
    assert (first.id, first.n_missing, first.element) == ("mp-1", 2, "H")
    assert same_crystal(first.atoms, brucite, exact=True)
    assert (second.id, second.fallback_id) == (None, "a_2")
    assert same_crystal(second.atoms, rocksalt, exact=True)


def test_ase_database_is_never_written(tmp_path: Path, brucite: Atoms) -> None:
    path = tmp_path / "a.db"
    ase.db.connect(path).write(brucite)
    before = path.read_bytes()
    path.chmod(0o400)
    tmp_path.chmod(0o500)
    try:
        assert only(read_structures(path)).error is None
    finally:
        tmp_path.chmod(0o700)
    assert path.read_bytes() == before
    assert [item.name for item in tmp_path.iterdir()] == ["a.db"]


def test_damaged_row_does_not_affect_the_others(tmp_path: Path, brucite: Atoms) -> None:
    path = tmp_path / "a.db"
    database = ase.db.connect(path)
    for _ in range(3):
        database.write(brucite)
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE systems SET positions = x'00' WHERE id = 2")
    entries = read_structures(path)
    assert [entry.error is None for entry in entries] == [True, False, True]


def test_foreign_or_damaged_database(tmp_path: Path, brucite: Atoms) -> None:
    path = tmp_path / "a.db"
    path.write_bytes(b"not a database at all" * 100)
    assert "cannot be read as ASE database" in error_of(path)
    path.unlink()
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE other (x)")
    assert "cannot be read as ASE database" in error_of(path)


# --- pymatgen JSON -------------------------------------------------------------------------


def test_pymatgen_json_layouts(tmp_path: Path, brucite: Atoms) -> None:
    structure = AseAtomsAdaptor.get_structure(brucite)
    plain = structure.as_dict()
    computed = ComputedStructureEntry(structure, -3.0, entry_id="mp-9").as_dict()
    record = {"structure": plain, "id": "r", "n_missing": 2, "element": "H"}
    path = tmp_path / "s.json"
    for data, ids in [
        (plain, [None]),
        (record, ["r"]),
        ([plain, record, computed], [None, "r", "mp-9"]),
        ({"x": plain, "y": record}, ["x", "y"]),
    ]:
        path.write_text(json.dumps(data))
        entries = read_structures(path)
        assert [entry.id for entry in entries] == ids
        assert all(same_crystal(entry.atoms, brucite) for entry in entries)
    oxidized = structure.copy().add_oxidation_state_by_element({"Mg": 2, "O": -2, "H": 1})
    path.write_text(json.dumps(oxidized.as_dict()))
    assert same_crystal(only(read_structures(path)).atoms, brucite)


def test_json_never_builds_classes_named_in_the_file(tmp_path: Path, brucite: Atoms) -> None:
    data = AseAtomsAdaptor.get_structure(brucite).as_dict()
    touched = tmp_path / "touched"
    hostile = {"@module": "pathlib", "@class": "Path", "@version": "1", "args": [str(touched)]}
    opener = {"@callable": "open", "@module": "builtins", "@bound": None}
    data |= {"@module": "subprocess", "@class": "Popen", "args": ["touch", str(touched)]}
    data["sites"][0]["properties"] = {"a": hostile, "b": opener}
    data["properties"] = {"c": hostile}
    path = tmp_path / "s.json"
    path.write_text(json.dumps(data))
    assert same_crystal(only(read_structures(path)).atoms, brucite)
    assert not touched.exists()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "damaged, truncated"),
        ("{", "damaged, truncated"),
        ("3", "neither a structure"),
        ("[]", "no structure"),
        ("{}", "no structure"),
        ("[" * 100_000, "damaged, truncated"),
        ('{"lattice": 3, "sites": 4}', "cannot be read as a structure in JSON"),
        ('{"structure": null}', "is not a structure"),
        ('{"ids": [1], "nextid": 2}', "cannot be read as ASE database row"),
    ],
)
def test_bad_json(tmp_path: Path, text: str, reason: str) -> None:
    path = tmp_path / "s.json"
    path.write_text(text)
    assert reason in error_of(path)


def test_molecule_in_json_is_not_periodic(tmp_path: Path) -> None:
    path = tmp_path / "s.json"
    molecule = Molecule(["O", "H"], [(0, 0, 0), (0, 0, 1)])
    path.write_text(json.dumps([molecule.as_dict(), 7]))
    first, second = read_structures(path)
    assert "not periodic" in str(first.error)
    assert "is not a structure" in str(second.error)


# --- folder --------------------------------------------------------------------------------


def test_folder(hosts_folder: Path) -> None:
    (hosts_folder / "README.md").write_text("not a structure")
    (hosts_folder / "._brucite.cif").write_bytes(b"\0\1")
    (hosts_folder / "z.cif").write_text("nothing")
    entries = read_structures(hosts_folder)
    assert [(entry.fallback_id, entry.error is None) for entry in entries] == [
        ("LiH", True),
        ("brucite", True),
        ("z", False),
    ]


def test_folder_without_structures_and_missing_input(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no CIF or POSCAR file"):
        read_structures(tmp_path)
    with pytest.raises(InputError, match="no such file"):
        read_structures(tmp_path / "absent.csv")
    (tmp_path / "a.docx").write_text("x")
    with pytest.raises(InputError, match=r"give a \.csv sheet"):
        read_structures(tmp_path / "a.docx")


# --- sample sheet --------------------------------------------------------------------------


def test_sheet_paths_are_relative_to_the_link_target(
    tmp_path: Path, hosts_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sheet = tmp_path / "hosts.csv"
    absolute = hosts_folder / "POSCAR_LiH"
    sheet.write_text(
        "id,structure,element,n_missing\n"
        f"b,hosts/brucite.cif,H,2\n\nl,{absolute},,4\n,hosts/brucite.cif,,\n"
    )
    elsewhere = tmp_path / "work"
    elsewhere.mkdir()
    (elsewhere / "link.csv").symlink_to(sheet)
    monkeypatch.chdir(elsewhere)
    for path in (sheet, Path("link.csv")):
        entries = read_structures(path)
        assert [entry.error for entry in entries] == [None] * 3
        assert [(e.id, e.element, e.n_missing) for e in entries] == [
            ("b", "H", "2"),
            ("l", None, "4"),
            (None, None, None),
        ]
        assert entries[1].source == f"{path.name} line 4 ({absolute})"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_sheet_dialects_of_spreadsheets(
    tmp_path: Path, hosts_folder: Path, encoding: str, separator: str, newline: str
) -> None:
    rows = [["N_missing", " Structure ", "ID", "comment"], ["2", "hosts/brucite.cif", "b", "é"]]
    sheet = tmp_path / "s.csv"
    sheet.write_bytes(newline.join(separator.join(row) for row in rows).encode(encoding))
    entry = only(read_structures(sheet))
    assert (entry.id, entry.n_missing, entry.error) == ("b", "2", None)


def test_each_bad_row_gives_one_entry_with_its_line(tmp_path: Path, hosts_folder: Path) -> None:
    frames = tmp_path / "two.extxyz"
    atoms = ase.io.read(hosts_folder / "brucite.cif")
    ase.io.write(frames, [atoms, atoms])
    sheet = tmp_path / "s.csv"
    sheet.write_text(
        "id,structure,element,n_missing\n"
        "good,hosts/brucite.cif,H,2\n"
        "gone,hosts/absent.cif,H,2\n"
        "none,,H,2\n"
        "long,hosts/brucite.cif,H,2,5\n"
        "kind,hosts/readme.txt,H,2\n"
        "many,two.extxyz,H,2\n"
        "dir.cif,hosts,H,2\n"
    )
    entries = read_structures(sheet)
    reasons = ["no such file", "names no structure", "5 cells", "format", "2 structures", "format"]
    assert entries[0].error is None
    for line, (entry, reason) in enumerate(zip(entries[1:], reasons, strict=True), start=3):
        assert reason in str(entry.error)
        assert entry.source.startswith(f"s.csv line {line}")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "no column 'structure'"),
        (b"\n\n", "no column 'structure'"),
        (b"a,b\n1,2\n", "no column 'structure'"),
        (b"id,structure,id\n", "'id' twice"),
        (b"id,structure\n\n,\n", "no row"),
        (b"id,structure\n\xff\xfe,x\n", "not UTF-8"),
    ],
)
def test_invalid_sheets_are_refused(tmp_path: Path, content: bytes, reason: str) -> None:
    sheet = tmp_path / "s.csv"
    sheet.write_bytes(content)
    with pytest.raises(InputError, match=reason):
        read_structures(sheet)


FILES = settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])


@FILES
@given(content=st.binary(max_size=300))
def test_arbitrary_bytes_as_sheet_give_rows_or_an_input_error(
    tmp_path: Path, content: bytes
) -> None:
    sheet = tmp_path / "s.csv"
    sheet.write_bytes(content)
    try:
        entries = read_structures(sheet)
    except InputError:
        return
    assert entries
    assert all((entry.atoms is None) == (entry.error is not None) for entry in entries)


CELLS = st.text(max_size=12).filter(lambda text: not set(text) & set('\r\n",;\t'))


@FILES
@given(rows=st.lists(st.lists(CELLS, min_size=1, max_size=6), max_size=8))
def test_every_row_of_a_sheet_gives_an_entry(tmp_path: Path, rows: list[list[str]]) -> None:
    sheet = tmp_path / "s.csv"
    rows = [row for row in rows if not row[0].startswith("#")]
    lines = ["id,structure,element,n_missing", *(",".join(row) for row in rows)]
    sheet.write_text("\n".join(lines), encoding="utf-8")
    filled = [n for n, row in enumerate(rows, start=2) if any(cell.strip() for cell in row)]
    if not filled:
        with pytest.raises(InputError, match="no row"):
            read_structures(sheet)
        return
    entries = read_structures(sheet)
    assert [entry.source.split(" (")[0] for entry in entries] == [f"s.csv line {n}" for n in filled]
    assert all(entry.error and "\n" not in entry.error for entry in entries)


@FILES
@given(
    content=st.binary(max_size=400),
    name=st.sampled_from(["a.cif", "POSCAR", "a.extxyz", "a.db", "a.json", "a.cif.gz"]),
)
def test_arbitrary_bytes_as_structure_file_give_entries(
    tmp_path: Path, content: bytes, name: str
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    entries = read_structures(path)
    assert entries
    assert all((entry.atoms is None) == (entry.error is not None) for entry in entries)


@FILES
@given(data=st.data())
def test_corrupted_file_gives_entries(
    tmp_path: Path, hosts_folder: Path, data: st.DataObject
) -> None:
    for source in sorted(hosts_folder.iterdir()):
        text = source.read_text()
        start = data.draw(st.integers(0, len(text)))
        stop = data.draw(st.integers(start, min(start + 30, len(text))))
        path = tmp_path / source.name
        path.write_text(text[:start] + data.draw(st.text(max_size=10)) + text[stop:])
        entries = read_structures(path)
        assert all(entry.atoms is not None or entry.error for entry in entries)
