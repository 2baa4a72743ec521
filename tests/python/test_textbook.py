"""The textbook crystals: formula, Z, density and X-H lengths are facts."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import pytest
import spglib
from ase.formula import Formula
from ase.units import kg, m

from tool_runs import REPOSITORY, tool, tool_module

make_textbook = tool_module("make_textbook")

FOLDER = REPOSITORY / "assets" / "textbook"
ENTRIES = make_textbook.read_entries(FOLDER)
# Å: range of the distance between hydrogen and the element that it is bound to.
LENGTHS = {
    "O": (0.93, 1.07), "N": (1.0, 1.05), "B": (1.1, 1.25), "Al": (1.55, 1.65), "F": (1.12, 1.16),
    "Ni": (1.48, 1.6), "Mg": (1.9, 2.0), "Ca": (2.2, 2.45), "Ti": (1.9, 1.95), "Pd": (2.0, 2.1),
    "Fe": (1.55, 1.7),
}  # fmt: skip
each_entry = pytest.mark.parametrize("entry", ENTRIES, ids=[entry["id"] for entry in ENTRIES])


def test_there_are_thirty_crystals_with_a_source() -> None:
    assert len({entry["id"] for entry in ENTRIES}) == 30
    assert all(entry["source"] for entry in ENTRIES)
    assert {entry["hydrogen"] for entry in ENTRIES} == {"neutron", "hydrogen bond", "DFT"}


@each_entry
def test_symmetry_gives_formula_and_z(entry: dict[str, Any]) -> None:
    formula = Counter(Formula(entry["formula"]).count())
    cell = Counter(make_textbook.conventional_cell(entry).get_chemical_symbols())
    if "interstitial" in entry:
        cell = Counter({symbol: n * np.prod(entry["supercell"]) for symbol, n in cell.items()})
        cell["H"] += 1
    assert cell == {symbol: n * entry["z"] for symbol, n in formula.items()}


@each_entry
def test_the_symbol_is_that_of_the_setting(entry: dict[str, Any]) -> None:
    setting = spglib.get_spacegroup_type(entry["hall_number"])
    full = setting.international_full.replace(" ", "")
    letter, rest = full[0], full[1:]
    names = {setting.international_short, full, letter + rest.strip("1")}
    if "centring" in entry:
        names = {"C1"}
    if rest.startswith("1") and rest.endswith("1"):  # monoclinic, axis b
        names.add(letter + rest[1:-1])
    assert entry["space_group"] in names


@each_entry
def test_density_is_that_of_the_handbook(entry: dict[str, Any]) -> None:
    if "density" not in entry:
        pytest.skip("no handbook has this form")
    atoms = make_textbook.build(entry)
    density = atoms.get_masses().sum() / atoms.get_volume() / (1000 * kg / m**3)
    assert density == pytest.approx(entry["density"], rel=0.02)


@each_entry
def test_lengths_are_sensible_and_nothing_clashes(entry: dict[str, Any]) -> None:
    atoms = make_textbook.build(entry)
    for symbol, length in make_textbook.hydrogen_bonds(atoms):
        low, high = LENGTHS[symbol]
        assert low <= length <= high, (symbol, length)
    distances = atoms.repeat(2).get_all_distances(mic=True)
    assert distances[distances > 0].min() > 0.9


def test_known_structures() -> None:
    crystals = {entry["id"]: make_textbook.build(entry) for entry in ENTRIES}
    # Wyckoff positions: octahedra of Pd, tetrahedra of Ti, the middle of FHF.
    assert make_textbook.hydrogen_bonds(crystals["PdH"]) == [("Pd", 2.045)]
    assert make_textbook.hydrogen_bonds(crystals["TiH2"]) == [("Ti", 1.929)]
    assert make_textbook.hydrogen_bonds(crystals["KHF2"]) == [("F", 1.129)]
    # The O-H···O bond of KDP is 2.5 Å.
    kdp = crystals["KDP"].repeat(2)
    hydrogen = int(np.flatnonzero(kdp.numbers == 1)[0])
    to_oxygen = kdp.get_distances(hydrogen, np.flatnonzero(kdp.numbers == 8), mic=True)
    assert np.sort(to_oxygen)[:2].sum() == pytest.approx(2.5, abs=0.02)
    # Each molecule of ice has two hydrogens.
    for name in ("ice_Ih", "ice_VIII", "ice_XI", "H2O2"):
        atoms = crystals[name].repeat(2)
        oxygen, hydrogen = (np.flatnonzero(atoms.numbers == number) for number in (8, 1))
        near = atoms.get_all_distances(mic=True)[np.ix_(oxygen, hydrogen)] < 1.2
        assert set(near.sum(axis=1)) == {1 if name == "H2O2" else 2}


def test_files_are_up_to_date(tmp_path: Path) -> None:
    for name in ("crystals.json", "README.md"):
        (tmp_path / name).write_bytes((FOLDER / name).read_bytes())
    make_textbook.main(["--folder", str(tmp_path)])
    assert (tmp_path / "README.md").read_bytes() == (FOLDER / "README.md").read_bytes()
    made, kept = (ase.io.read(path / "crystals.extxyz", ":") for path in (tmp_path, FOLDER))
    for one, other in zip(made, kept, strict=True):
        assert one.info["id"] == other.info["id"]
        np.testing.assert_allclose(one.positions, other.positions, atol=1e-7)


def test_table_of_a_run(tmp_path: Path) -> None:
    rows = [
        ("brucite", "host", "True", "True", "True", "0.0123", "-0.0001"),
        ("KDP", "voids", "False", "False", "False", "", "0.365"),
        ("KDP", "host", "True", "False", "True", "", "-0.002"),
        ("MgH2", "host", "True", "False", "False", "", ""),
    ]
    head = "id,method,best_of_all,matched,les,rmsd,energy_above_reference"
    (tmp_path / "results.csv").write_text("\n".join([head, *map(",".join, rows)]) + "\n")
    built = {entry["id"]: make_textbook.build(entry) for entry in ENTRIES}
    frames = []
    for name, method, *_ in rows[:3]:
        frames.append(built[name].copy())
        frames[-1].info = {"id": name, "method": method}
    frames[1].rattle(0.1)
    ase.io.write(tmp_path / "selected.extxyz", frames)
    output = tmp_path / "data" / "textbook.json"
    output.parent.mkdir()
    printed = tool("textbook_table.py", tmp_path, "--output", output)
    table = json.loads(output.read_text(encoding="utf-8"))
    assert [row["key"] for row in table["rows"]] == ["brucite", "MgH2", "KDP"]
    assert "| brucite | 5 | found | O 0.99 | O 0.99 | 0.01 | −0.1 |" in printed
    assert "| KDP | 16 | lower | O 1.07 | O 1.07 | – | −2.0 |" in printed
    assert "| magnesium hydride | 6 | missed | – | Mg 1.94 | – | – |" in printed
