"""Exports: CIF, OPTIMADE and ASE files that other programs read back as the same crystal."""

from __future__ import annotations

import json
from pathlib import Path

import ase.db
import ase.io
import gemmi
import numpy as np
import pytest
from ase import Atoms
from ase.spacegroup import crystal
from optimade.models import StructureResource
from pymatgen.analysis.structure_matcher import StructureMatcher
from pymatgen.core import Structure
from pymatgen.io.ase import AseAtomsAdaptor

import xtalfill
from hand_made_batches import brucite, lithium_hydride
from test_database import RECIPE, RUN, outdir, records  # noqa: F401  fixtures
from xtalfill.cli.parser import main
from xtalfill.database.connect import open_database
from xtalfill.database.optimade import FIELDS, PREFIX
from xtalfill.database.records import Record
from xtalfill.database.runs import register
from xtalfill.database.store import add
from xtalfill.inputs.structures import read_structures
from xtalfill.results.cif import format_cif


def with_flags(atoms: Atoms, element: str) -> tuple[Atoms, np.ndarray]:
    return atoms, np.array([symbol != element for symbol in atoms.symbols])


def monoclinic() -> Atoms:
    """NaHCO3-like cell in P2_1/c, moved off its origin and off its symmetric positions a little."""
    sites = [(0.28, 0.01, 0.71), (0.08, 0.24, 0.28), (0.19, 0.36, 0.30), (0.06, 0.24, 0.1)]
    atoms = crystal(
        ("Na", "C", "O", "H"), sites, spacegroup=14, cellpar=(7.5, 9.7, 4.5, 90, 107, 90)
    )
    atoms.positions += np.array((0.1, 0.2, 0.3))
    atoms.positions += np.random.default_rng(1).normal(0, 1e-3, (len(atoms), 3))
    return atoms


CRYSTALS = {
    "P -3 m 1": with_flags(brucite(), "H"),
    "F m -3 m": with_flags(lithium_hydride(), "H"),
    "P 1 21/c 1": with_flags(monoclinic(), "H"),
}


@pytest.mark.parametrize("group", CRYSTALS)
def test_a_cif_with_symmetry_is_the_same_crystal(group: str, tmp_path: Path) -> None:
    atoms, is_host = CRYSTALS[group]
    skewed = atoms.copy()
    skewed.rotate(31.7, (1, 2, 3), rotate_cell=True)
    tags = {"_tcod_total_energy": -10.0, "_note": 'it\'s "so"'}
    text = format_cif(skewed, name="a b", is_host=is_host, tags=tags, symmetry=True)
    (tmp_path / "x.cif").write_text(text)
    block = gemmi.cif.read_string(text).sole_block()
    small = gemmi.make_small_structure_from_block(block)
    assert small.spacegroup.xhm() == group
    assert len(small.sites) < len(atoms)
    true = AseAtomsAdaptor.get_structure(atoms)
    matcher = StructureMatcher(scale=False)
    for found in (
        Structure.from_file(tmp_path / "x.cif"),
        AseAtomsAdaptor.get_structure(ase.io.read(tmp_path / "x.cif")),
    ):
        assert matcher.get_rms_dist(true, found)[1] < 5e-3
        assert len(found) == len(small.get_all_unit_cell_sites())
    per_atom = float(block.find_value("_tcod_total_energy")) / len(found)
    assert per_atom == pytest.approx(-10.0 / len(atoms))
    assert block.name == "a_b"
    assert block.find_value("_audit_creation_method") == f"'xtalfill {xtalfill.__version__}'"


def test_a_cif_tells_what_was_restored() -> None:
    atoms, is_host = CRYSTALS["P -3 m 1"]
    for symmetry in (False, True):
        text = format_cif(atoms, name="mg", is_host=is_host, symmetry=symmetry)
        block = gemmi.cif.read_string(text).sole_block()
        tags = ("label", "type_symbol", "calc_flag", "calc_attached_atom")
        for label, symbol, flag, attached in block.find("_atom_site_", tags):
            assert flag == ("calc" if symbol == "H" else "d"), label
            assert attached[0] == ("O" if symbol == "H" else "."), label
    assert "calc_flag" not in format_cif(atoms, name="mg")


def test_without_symmetry_every_digit_and_the_cell_are_kept() -> None:
    atoms, is_host = CRYSTALS["P 1 21/c 1"]
    text = format_cif(atoms, name="x", is_host=is_host)
    found = gemmi.make_small_structure_from_block(gemmi.cif.read_string(text).sole_block())
    assert found.spacegroup.xhm() == "P 1"
    fractions = np.array([site.fract.tolist() for site in found.sites])
    np.testing.assert_allclose(
        fractions, atoms.get_scaled_positions(wrap=False), rtol=0, atol=1e-11
    )


def test_symmetry_does_not_mix_what_was_given_and_what_was_restored() -> None:
    atoms, is_host = CRYSTALS["F m -3 m"]
    mixed = is_host.copy()
    mixed[-1] = not mixed[-1]  # one hydrogen was there
    text = format_cif(atoms, name="x", is_host=mixed, symmetry=True)
    block = gemmi.cif.read_string(text).sole_block()
    rows = block.find("_atom_site_", ["type_symbol", "calc_flag", "symmetry_multiplicity"])
    counts: dict[tuple[str, str], int] = {}
    for symbol, flag, number in rows:
        counts[symbol, flag] = counts.get((symbol, flag), 0) + int(number)
    assert counts["H", "calc"] == 3 * counts["H", "d"]


@pytest.fixture
def database(records: list[Record], tmp_path: Path) -> str:  # noqa: F811
    """Return a database with mg, lih and one that failed."""
    url = str(tmp_path / "results.db")
    with open_database(url, create=True) as found:
        register(found, RUN)
        add(found, records, uid=RUN.uid, recipe=RECIPE)
    return url


def test_optimade_lines_are_valid(database: str, outdir: Path, tmp_path: Path) -> None:  # noqa: F811
    for source in (database, str(outdir)):
        main(["export", source, "--format", "optimade", "-o", str(tmp_path / "x.jsonl")])
        header, info, *lines = map(json.loads, (tmp_path / "x.jsonl").read_text().splitlines())
        assert header["x-optimade"]["meta"]["api_version"]
        assert (info["type"], info["id"]) == ("info", "structures")
        assert {line["id"] for line in lines} == {"mg", "lih"}
        for line in lines:
            own = {key for key in line["attributes"] if key.startswith(PREFIX)}
            assert own == set(info["properties"]) == {PREFIX + name for name in FIELDS}
            found = StructureResource(**line)
            assert found.attributes.nsites == len(found.attributes.cartesian_site_positions)
        read = read_structures(tmp_path / "x.jsonl")
        assert {(entry.id, entry.error) for entry in read} == {("mg", None), ("lih", None)}
        (mg,) = (line["attributes"] for line in lines if line["id"] == "mg")
        assert mg["chemical_formula_anonymous"] == "A2B2C"
        assert mg["_xtalfill_restored_sites"] == [3, 4]
        np.testing.assert_array_equal(mg["cartesian_site_positions"], brucite().positions)


def test_cif_and_dft(database: str, tmp_path: Path) -> None:
    main(["export", database, "--format", "cif", "-o", str(tmp_path / "cifs")])
    assert {path.name for path in (tmp_path / "cifs").iterdir()} == {"mg.cif", "lih.cif"}
    text = (tmp_path / "cifs" / "mg.cif").read_text()
    assert "_computing_structure_solution 'xtalfill" in text
    assert "method host, sample 0, seed 42'" in text
    main(["export", database, "--format", "cif", "--dft", "-o", str(tmp_path / "dft")])
    block = gemmi.cif.read(str(tmp_path / "dft" / "mg.cif")).sole_block()
    assert block.find_value("_tcod_software_package") == "'Quantum ESPRESSO'"
    assert float(block.find_value("_tcod_total_energy")) == -100.0


def test_ase_database(database: str, tmp_path: Path) -> None:
    main(["export", database, "--format", "ase", "--element", "Mg", "-o", str(tmp_path / "x.db")])
    (row,) = ase.db.connect(tmp_path / "x.db").select()
    assert (row.data["id"], row.energy, row.xtalfill_status) == ("mg", -10.0, "ok")
    np.testing.assert_array_equal(row.toatoms().positions, brucite().positions)


def test_table_and_refusals(database: str, outdir: Path, tmp_path: Path) -> None:  # noqa: F811
    main(["export", database, "--format", "csv", "-o", str(tmp_path / "x.csv")])
    assert (tmp_path / "x.csv").read_text().count("\n") == 4
    with pytest.raises(SystemExit):
        main(["export", str(outdir), "--format", "csv", "--id", "mg", "-o", str(tmp_path / "y")])
    with pytest.raises(SystemExit):
        main(["export", database, "--format", "csv", "-o", str(tmp_path / "no" / "y.csv")])
