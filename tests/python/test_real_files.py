"""Public files with peculiarities: each input gives its host, or the reason for its refusal."""

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.formula import Formula
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from xtalfill.core.errors import InputError
from xtalfill.inputs.hosts import CheckedHost, Refusal, check_structures
from xtalfill.inputs.structures import read_structures
from xtalfill.inputs.structures.cif import read_cif
from xtalfill.inputs.structures.formula import parse_formula
from xtalfill.inputs.structures.labels import LabelReading, read_label, read_type
from xtalfill.inputs.structures.pairs import close_pairs

INPUTS = Path(__file__).resolve().parents[1] / "fixtures" / "inputs"


@dataclass(frozen=True)
class Case:
    """A file, how it is checked, and what must come of it.

    Attributes:
        file: Below tests/fixtures/inputs.
        host: Formula of the host and the number of missing sites, or None if it is refused.
        says: What a note or the reason must say.
        n_missing: As --n_missing.
        remove: As --remove_existing.
    """

    file: str
    host: tuple[str, int] | None
    says: tuple[str, ...] = ()
    n_missing: int | None = None
    remove: bool = False


BRUCITE = ("MgO2", 2)
BARIUM = ("Ba8O16", 16)
CASES = [
    Case("01_dum_h_occ2/li2so4_h2o.cif", ("Li4O10S2", 4)),
    Case("02_dum_h_occ1/li2so4_h2o.cif", ("Li4O10S2", 4), ("without coordinates: 2",)),
    Case("03_attached_question/brucite.cif", BRUCITE),
    Case("03c_attached_only/brucite.cif", BRUCITE, ("taken from the attached hydrogens",)),
    Case("04_HOh_label/fluckite.cif", None, ("lists 12 H",)),
    Case("04_HOh_label/fluckite.cif", ("As4Ca2Mn2O20", 12), ("12 H removed",), remove=True),
    Case("04_HOh_label/fluckite_noH.cif", ("As4Ca2Mn2O20", 12)),
    Case("05_OH_label/brucite_formula.cif", BRUCITE),
    Case("05_OH_label/brucite_noformula.cif", BRUCITE, ("taken from the labels",), n_missing=2),
    Case("05_OH_label/brucite_noformula.cif", BRUCITE, ("taken from the label OH of O",)),
    Case("15_pauling_oh/oh2.cif", ("MgO2", 4)),
    Case("06_sixth_alunite/alunite.cif", ("Al9K3O42S6", 18), ("special position: Al1",)),
    Case("07_three_digits/brucite.cif", BRUCITE, ("special position: O",)),
    Case("08_simple_fraction/boehmite.cif", ("Al4O8", 4)),
    Case("08_simple_fraction/boehmite_plain.cif", ("Al4O8", 4)),
    Case("09_tags/bom.cif", BRUCITE),
    Case("09_tags/mixed_case.cif", BRUCITE),
    Case("09_tags/upper_DATA.cif", BRUCITE),
    Case("09_tags/utf16.cif", None, ("UTF-16",)),
    Case("09_tags/no_block_header.cif", None, ("data_NAME is missing", "line 2")),
    Case("10_sg/P21n.cif", BARIUM),
    Case("10_sg/P2_1_n.cif", BARIUM),
    Case("10_sg/P21c_for_n.cif", BARIUM, ("only the number 14", "P 1 21/c 1 is assumed")),
    Case("10_sg/coooh_R-3m_R.cif", ("CoO2", 1)),
    Case("10_sg/coooh_R-3m.cif", ("CoO2", 1), ("R -3 m:R is assumed",)),
    Case("10_sg/spinel_o2_tag.cif", ("Al16Mg8O32", 8)),
    Case("10_sg/ref_tag_only.cif", BRUCITE),
    # The name does not determine the origin, and the usual one contradicts the formula.
    Case("25_rhomb_axes/magnesite.cif", None, ("C2 O12 Mg2", "another origin"), n_missing=None),
    Case("25_rhomb_axes/magnesite.cif", ("C2Mg2O12", 1), ("R -3 c:R is assumed",), n_missing=1),
    Case("11_type_question/hio3_formula.cif", ("I4O12", 4)),
    Case("11_type_question/no_label_only_type.cif", BRUCITE),
    Case("12_data_in_text/brucite.cif", BRUCITE),
    Case("12_data_in_text/fcf.cif", BRUCITE),
    Case("13_formula_off/solvent.cif", None, ("declares O2.05 Mg1",)),
    Case("13_formula_off/solvent.cif", BRUCITE, ("2 was given", "O2.05"), n_missing=2),
    Case("13_formula_off/squeeze.cif", ("I4O12", 4), ("declares C3 N1 O4 I1",), n_missing=4),
    Case("14_misc/occ_su.cif", BRUCITE, ("occupancy rounded to 1: O",)),
    Case("14_misc/wat_with_oxidation.cif", ("Ca4O24S4", 16)),
    Case("14_misc/nh4_label.cif", ("ClN", 4)),
    Case("14_misc/two_blocks_cell_global.cif", BRUCITE, ("block 'global'", "P 1 is assumed")),
    Case("16_duplicate_listed/hexamine.cif", BRUCITE, ("merged: O1B is O1",)),
    Case(
        "23_split_h/brucite.cif",
        BRUCITE,
        ("6 removed H are split positions of 2 sites",),
        remove=True,
    ),
    Case("28_wat_double_count/caoxite_noH.cif", None, ("24", "Wat1, Wat2, Wat3 of O: 12")),
    Case("29_formula_forms/su.cif", BRUCITE),
    Case("29_formula_forms/charge.cif", BRUCITE),
    Case("29_formula_forms/comma.cif", BRUCITE),
    Case("18_poscar/phonopy_three_scales.vasp", BRUCITE, n_missing=2),
    Case("19_extxyz/pbcF.extxyz", None, ("pbc is F",)),
    Case("20_sheets/sepline.csv", BRUCITE),
    Case("20_sheets/STRUC.VASP", BRUCITE, n_missing=2),
    Case("22_json/optimade.json", BRUCITE, n_missing=2),
    Case("30_more/ops_only_p1_listed_all.cif", BRUCITE, ("merged: O2 is O1",)),
]


def check(
    path: Path, *, n_missing: int | None = None, remove: bool = False, element: str = "H"
) -> tuple[list[CheckedHost], list[Refusal]]:
    return check_structures(
        read_structures(path), element=element, n_missing=n_missing, remove_existing=remove
    )


def check_text(
    text: str, *, n_missing: int | None = None, remove: bool = False, element: str = "H"
) -> CheckedHost | str:
    """Return the host of a CIF with one block, or the reason for its refusal."""
    hosts, failures = check_structures(
        read_cif(text, source="x.cif", stem="x"), element=element, n_missing=n_missing,
        remove_existing=remove,
    )  # fmt: skip
    return hosts[0] if hosts else failures[0].message


def formula(atoms: Atoms) -> dict[str, int]:
    return Formula(str(atoms.symbols)).count()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.file)
def test_each_input_gives_its_host_or_the_reason(case: Case) -> None:
    hosts, failures = check(INPUTS / case.file, n_missing=case.n_missing, remove=case.remove)
    if case.host is None:
        assert not hosts
        said = failures[0].message
    else:
        assert not failures
        assert formula(hosts[0].atoms) == Formula(case.host[0]).count()
        assert hosts[0].n_missing == case.host[1]
        said = "; ".join(hosts[0].notes)
    for words in case.says:
        assert words in said


def test_every_input_is_tested() -> None:
    sheets = {"20_sheets/nmissing_typo.csv", "13_formula_off/sheet.csv", "22_json/lines.jsonl"}
    found = {str(path.relative_to(INPUTS)) for path in INPUTS.rglob("*") if path.is_file()}
    named_by_sheets = {"20_sheets/a.vasp", "20_sheets/brucite.cif.txt"}
    assert found == {case.file for case in CASES} | sheets | named_by_sheets


def test_json_lines_are_all_read() -> None:
    hosts, failures = check(INPUTS / "22_json/lines.jsonl", n_missing=2)
    assert not failures
    assert [(host.id, formula(host.atoms)) for host in hosts] == [
        (name, {"Mg": 1, "O": 2}) for name in "ab"
    ]


def test_unknown_column_of_a_sheet_is_named() -> None:
    with pytest.raises(InputError, match=r"column 'nmissing'.*'n_missing'"):
        read_structures(INPUTS / "20_sheets/nmissing_typo.csv")
    hosts, failures = check(INPUTS / "13_formula_off/sheet.csv")
    assert [host.id for host in hosts] == ["solvent", "squeeze"]
    assert [failure.id for failure in failures] == ["iron"]


def test_fraction_and_decimal_give_the_same_crystal() -> None:
    pair = [
        check(INPUTS / "08_simple_fraction" / name)[0][0].atoms
        for name in ("boehmite.cif", "boehmite_plain.cif")
    ]
    np.testing.assert_array_equal(pair[0].positions, pair[1].positions)


def test_rhombohedral_axes_keep_the_bonds_of_hexagonal_ones() -> None:
    (host,), _ = check(INPUTS / "10_sg/coooh_R-3m_R.cif")
    bonds = host.atoms.get_all_distances(mic=True)[0, 1:]
    assert bonds == pytest.approx([1.90, 1.90], abs=0.01)  # heterogenite


# --- kinds: variations of one CIF ------------------------------------------------------------

HEAD = """data_x
_cell_length_a {a}
_cell_length_b {b}
_cell_length_c {c}
_cell_angle_alpha 90
_cell_angle_beta 90
_cell_angle_gamma {gamma}
"""
SITES = "loop_\n_atom_site_label\n_atom_site_fract_x\n_atom_site_fract_y\n_atom_site_fract_z\n"


def cubic(*lines: str, rows: str, a: float = 4.0, tags: str = "") -> str:
    head = HEAD.format(a=a, b=a, c=a, gamma=90)
    return head + "\n".join(lines) + "\n" + SITES + tags + rows


OXYGEN_AT_HALF = "O1 0.5 0.5 0.5\n"


@pytest.mark.parametrize(
    ("label", "known", "element"),
    [
        ("HO1", "Mg O H", "H"),
        ("HO1", "Ho O", "Ho"),
        ("Ho1", "Mg O H", "H"),
        ("CL1", "Cl Na O", "Cl"),
        ("CA1", "C H O", "C"),
        ("CA1", "Ca H O", "Ca"),
        ("Co2", "C O H", "C"),
        ("NaX", "Na O", "Na"),
        ("Wat1", "O H Mg", "O"),
        ("Ow1", "O H Mg", "O"),
        ("OW1", "W O", "O"),
        ("Fe3+M1", "Fe O", "Fe"),
        ("D1", "Mg O D2", "H"),
    ],
)
def test_two_letters_are_one_element_only_if_known(label: str, known: str, element: str) -> None:
    text = cubic(f"_chemical_formula_sum '{known}'", rows=f"{label} 0 0 0\n" + OXYGEN_AT_HALF)
    (entry,) = read_cif(text, source="x", stem="x")
    assert entry.atoms is not None
    assert entry.atoms.symbols[0] == element


@pytest.mark.parametrize("label", ["Ho1", "CL1", "T1", "X1", "Q1", "Va", "M2", "?"])
def test_ambiguous_or_unknown_label_is_refused(label: str) -> None:
    refused = check_text(cubic(rows=f"{label} 0 0 0\n" + OXYGEN_AT_HALF), n_missing=1)
    assert isinstance(refused, str)
    assert (label if label != "?" else "row 1") in refused


@pytest.mark.parametrize(
    ("label", "fewest", "most"),
    [
        ("O-H2", 1, 1), ("O(H)3", 1, 1), ("OH", 1, 1), ("OH1", 1, 1), ("OH2", 1, 2), ("OH3", 1, 3),
        ("OH4", 1, 1), ("NH4", 4, 4), ("NH3", 1, 3), ("Wat2", 2, 2), ("Ow1", 2, 2), ("O1", 0, 0),
    ],
)  # fmt: skip
def test_hydrogens_from_a_label(label: str, fewest: int, most: int) -> None:
    reading = read_label(label, known=frozenset({"O", "N", "H"}))
    assert (reading.fewest, reading.most) == (fewest, most)


@pytest.mark.parametrize(
    ("symbol", "count"), [("OH", 1), ("OH2", 2), ("OH1-", 1), ("NH4+", 4), ("O2-", 0), ("Wat", 2)]
)
def test_hydrogens_from_a_type(symbol: str, count: int) -> None:
    reading = read_type(symbol, known=frozenset())
    assert reading is not None
    assert (reading.fewest, reading.most) == (count, count)


@pytest.mark.parametrize(
    ("text", "counts"),
    [
        ("C6 H6, 2(H2 O)", {6: 6, 1: 10, 8: 2}),
        ("0.5(H2 O), Mg O", {1: 1, 8: 1.5, 12: 1}),
        ("Mg (O D)2", {12: 1, 8: 2, 1: 2}),
        ("H2 Mg O2 2+", {1: 2, 12: 1, 8: 2}),
        ("K0.5 - x Na x", None),
        ("?", None),
    ],
)
def test_formulas(text: str, counts: dict[int, float] | None) -> None:
    assert parse_formula(text) == counts


@pytest.mark.parametrize(("occupancy", "missing"), [("2.", 4), ("1.", 2), ("0.5", 1)])
def test_unlocated_sites_count_with_their_occupancy(occupancy: str, missing: int) -> None:
    operations = "loop_\n_symmetry_equiv_pos_as_xyz\n'x,y,z'\n'-x,-y,-z'"
    rows = f"Mg1 0 0 0 1 d\nO1 0.3 0.3 0.3 1 d\nH1 -1. -1. -1. {occupancy} dum\n"
    host = check_text(
        cubic(operations, tags="_atom_site_occupancy\n_atom_site_calc_flag\n", rows=rows)
    )
    assert isinstance(host, CheckedHost)
    assert (formula(host.atoms), host.n_missing) == ({"Mg": 1, "O": 2}, missing)


def test_unambiguous_space_group_name_needs_no_note() -> None:
    head = HEAD.format(a=5.0, b=6.0, c=7.0, gamma=90) + SPACE_GROUPS["name"] + "\n"
    head += "_chemical_formula_sum 'Mg O8 H'\n"
    host = check_text(head + SITES + "Mg1 0 0 0\nO1 0.2 0.3 0.4\n", n_missing=1)
    assert isinstance(host, CheckedHost)
    assert host.notes == ()


def test_sum_of_occupancies_is_noted() -> None:
    text = cubic(LITHIUM[0], tags=LITHIUM[1], rows=LITHIUM[2].format(first="0.5", second="0.5"))
    host = check_text(text, element="Li", remove=True)
    assert isinstance(host, CheckedHost)
    assert "n_missing 2 is the sum of the removed occupancies" in host.notes


@pytest.mark.parametrize("flag", ["dum", "DUM"])
def test_dummy_site_is_skipped_and_noted(flag: str) -> None:
    text = cubic(
        "_chemical_formula_sum 'Mg O H2'",
        tags="_atom_site_calc_flag\n",
        rows=f"Mg1 0 0 0 d\nO1 0.5 0.5 0.5 d\nX1 0.1 0.1 0.1 {flag}\n",
    )
    host = check_text(text)
    assert isinstance(host, CheckedHost)
    assert (formula(host.atoms), host.n_missing) == ({"Mg": 1, "O": 1}, 2)
    assert "dummy site X1 is ignored" in host.notes


SPACE_GROUPS = {
    "operations": "loop_\n_symmetry_equiv_pos_as_xyz\n" + "\n".join(
        f"'{sx}x,{sy}y,{sz}z'" for sx in ("", "-") for sy in ("", "-") for sz in ("", "-")
    ),
    "Hall symbol": "_space_group_name_Hall '-P 2 2'",
    "name": "_symmetry_space_group_name_H-M 'P m m m'",
    "name without blanks": "_symmetry_space_group_name_H-M Pmmm",
    "number": "_space_group_IT_number 47",
    "dotted tag": "_space_group.name_H-M_alt 'P m m m'",
}  # fmt: skip


@pytest.mark.parametrize("way", SPACE_GROUPS)
def test_all_declarations_of_a_space_group_give_the_same_crystal(way: str) -> None:
    head = HEAD.format(a=5.0, b=6.0, c=7.0, gamma=90)
    text = head + SPACE_GROUPS[way] + "\n" + SITES + "Mg1 0 0 0\nO1 0.2 0.3 0.4\n"
    host = check_text(text, n_missing=1)
    assert isinstance(host, CheckedHost)
    assert formula(host.atoms) == {"Mg": 1, "O": 8}


def test_formula_resolves_an_ambiguous_origin() -> None:
    rows = "Mg 0.125 0.125 0.125\nAl 0.5 0.5 0.5\nO 0.2624 0.2624 0.2624\n"
    lines = ("_chemical_formula_sum 'Mg Al2 O4 H'", "_symmetry_space_group_name_H-M 'F d -3 m'")
    host = check_text(cubic(*lines, rows=rows, a=8.08))
    assert isinstance(host, CheckedHost)
    assert formula(host.atoms) == {"Mg": 8, "Al": 16, "O": 32}
    assert any("F d -3 m:2 is assumed" in note for note in host.notes)
    shifted = "Mg 0 0 0\nAl 0.625 0.625 0.625\nO 0.3874 0.3874 0.3874\n"
    other = check_text(cubic(*lines, rows=shifted, a=8.08))
    assert isinstance(other, CheckedHost)
    assert any("F d -3 m:1 is assumed" in note for note in other.notes)
    distances = [np.sort(h.atoms.get_all_distances(mic=True).ravel()) for h in (host, other)]
    np.testing.assert_allclose(*distances, atol=1e-6)


def test_operations_that_do_not_fit_the_cell_are_refused() -> None:
    hexagonal = "loop_\n_symmetry_equiv_pos_as_xyz\n'x,y,z'\n'-y,x-y,z'\n'-x+y,-x,z'"
    refused = check_text(cubic(hexagonal, rows="Mg 0.1 0.2 0.3\n"), n_missing=1)
    assert "do not fit the cell" in str(refused)


def test_operations_that_form_no_group_are_refused() -> None:
    lines = "loop_\n_symmetry_equiv_pos_as_xyz\n'x,y,z'\n'-y,x,z'"
    assert "do not form a group" in str(
        check_text(cubic(lines, rows="Mg 0.1 0.2 0.3\n"), n_missing=1)
    )


@pytest.mark.parametrize(
    ("place", "count"),
    [("0 0.010", 1), ("0.008 0.008", 1), ("0 0.020", 4), ("0.01 0.016", 4), ("0.02 0.2", 8)],
)
def test_chained_images_form_one_site(place: str, count: int) -> None:
    head = HEAD.format(a=6.0, b=6.0, c=6.0, gamma=90)
    rows = f"Mg1 0 0 0.5\nO1 {place} 0\n"
    text = head + "_space_group_IT_number 123\n" + SITES + rows
    (entry,) = read_cif(text, source="x", stem="x")
    assert entry.atoms is not None
    assert formula(entry.atoms) == {"Mg": 1, "O": count}
    if count == 1:
        np.testing.assert_allclose(entry.atoms.positions[1], 0, atol=1e-9)


@given(
    x=st.floats(0, 1, exclude_max=True), y=st.floats(0, 1, exclude_max=True),
    digits=st.integers(3, 6),
)  # fmt: skip
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_multiplicity_follows_from_lagrange(x: float, y: float, digits: int) -> None:
    """4/mmm: the multiplicity of (x, y, 0), with any rounding."""
    rows = f"Mg1 0 0 0.5\nO1 {x:.{digits}f} {y:.{digits}f} 0\n"
    head = HEAD.format(a=6.0, b=6.0, c=6.0, gamma=90)
    text = head + "_space_group_IT_number 123\n" + SITES + rows
    (entry,) = read_cif(text, source="x", stem="x")
    if entry.error is not None:  # images that almost coincide are refused
        assert "O1" in entry.error
        return
    assert entry.atoms is not None
    count = int((entry.atoms.numbers == 8).sum())
    assert count in (1, 2, 4, 8)
    distances = entry.atoms.get_all_distances(mic=True)[1:, 1:]
    assert (distances[np.triu_indices(count, 1)] >= 0.09).all()


@pytest.mark.parametrize(
    ("text", "same"),
    [("\u2212.25", "-.25"), ("-1/4", "-0.25"), ("-2.5e-1", "-0.25"), ("-.25(12)", "-.25")],
)
def test_number_formats(text: str, same: str) -> None:
    pair = [check_text(cubic(rows=f"Mg1 {x} 0.5 0.5\nO1 0 0 0\n"), n_missing=1)
            for x in (text, same)]  # fmt: skip
    assert all(isinstance(host, CheckedHost) for host in pair)
    np.testing.assert_array_equal(*[host.atoms.positions for host in pair])  # type: ignore[union-attr]


def test_non_ascii_text_and_repeated_operations_are_accepted() -> None:
    lines = (
        "_journal_volume 385–386",
        "_publ_author_name 'Müller, Å.'",
        "loop_\n_symmetry_equiv_pos_as_xyz\n'x,y,z'\n' +x,  +y,+z'\n'-x,-y,-z'\n'-x,-y,-z'",
    )
    host = check_text(cubic(*lines, rows="Mg1 0 0 0\nO1 0.3 0.3 0.3\n"), n_missing=1)
    assert isinstance(host, CheckedHost)
    assert formula(host.atoms) == {"Mg": 1, "O": 2}


@pytest.mark.parametrize(("symbol", "known"), [("Ge", "Li P S"), ("Ge4+", "Ge S"), ("GE", "S")])
def test_type_is_an_element_even_if_absent_from_the_formula(symbol: str, known: str) -> None:
    assert read_type(symbol, known=frozenset(known.split())) == LabelReading(32)


@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=30)
def test_close_pairs_equal_brute_force_over_images(seed: int) -> None:
    rng = np.random.default_rng(seed)
    cell = np.diag([3.0, 4.0, 5.0]) + rng.uniform(-1, 1, (3, 3))
    fractional = rng.uniform(-2, 2, (12, 3))
    fractional[6:] = fractional[:6] + rng.integers(-2, 3, (6, 3))
    fractional[6:] += rng.uniform(0, 0.2, (6, 1)) * rng.normal(size=(6, 3)) @ np.linalg.inv(cell)
    shifts = np.array([(i, j, k) for i in range(-6, 7) for j in range(-6, 7) for k in range(-6, 7)])
    expected = {
        (i, j) for i in range(12) for j in range(i + 1, 12)
        if np.linalg.norm((fractional[i] - fractional[j] + shifts) @ cell, axis=1).min() < 0.15
    }  # fmt: skip
    assert {tuple(pair) for pair in close_pairs(fractional, cell, 0.15).tolist()} == expected


LITHIUM = (
    "loop_\n_symmetry_equiv_pos_as_xyz\n'x,y,z'\n'-x,-y,-z'\n",
    "_atom_site_occupancy\n",
    "O1 0.5 0.5 0.5 1\nLi1 0.1 0.2 0.3 {first}\nLi2 0.4 0.1 0.2 {second}\n",
)


@pytest.mark.parametrize(
    ("first", "second", "count"), [("0.5", "0.5", 2), ("0.25", "0.75", 2), ("0.66", "0.345", 2)]
)
def test_partially_occupied_sites_to_fill_are_counted(first: str, second: str, count: int) -> None:
    text = cubic(LITHIUM[0], tags=LITHIUM[1], rows=LITHIUM[2].format(first=first, second=second))
    host = check_text(text, element="Li", remove=True)
    assert isinstance(host, CheckedHost)
    assert host.n_missing == count
    refused = check_text(text, element="Li")
    assert "4 partially occupied sites: Li1 (" in str(refused)


def test_fractional_sum_of_occupancies_suggests_a_supercell() -> None:
    text = cubic(LITHIUM[0], tags=LITHIUM[1], rows=LITHIUM[2].format(first="0.5", second="0.167"))
    refused = str(check_text(text, element="Li", remove=True))
    assert "Li1, Li2 sum to 1.33" in refused
    assert "supercell of 3 cells, which has about 4" in refused


def test_disordered_host_is_refused_with_its_sites() -> None:
    rows = "O1 0.5 0.5 0.5 1\nNa1 0 0 0 0.5\nK1 0 0 0 0.5\nLi1 0.1 0.2 0.3 1\n"
    refused = check_text(cubic(tags=LITHIUM[1], rows=rows), element="Li", remove=True)
    assert "Na1 (0.5), K1 (0.5)" in str(refused)


def test_occupancies_of_one_element_at_one_position_are_summed() -> None:
    rows = "O1 0.5 0.5 0.5 0.51\nO2 0.5 0.5 0.5 0.5\nMg1 0 0 0 1\n"
    host = check_text(cubic(tags=LITHIUM[1], rows=rows), n_missing=1)
    assert isinstance(host, CheckedHost)
    assert formula(host.atoms) == {"Mg": 1, "O": 1}


SPLIT = "O1 0.0 0.0 0.0\nO2 0.69 0.0 0.0\nH1 0.25 0.0 0.0\nH2 0.44 0.0 0.0\n"


def test_split_proton_is_one_site_and_molecular_hydrogen_two() -> None:
    bridge = check_text(cubic(rows=SPLIT), remove=True)
    assert isinstance(bridge, CheckedHost)
    assert bridge.n_missing == 1
    assert any("are split positions of 1 sites" in note for note in bridge.notes)
    molecule = "O1 0.0 0.0 0.0\nH1 0.4 0.5 0.5\nH2 0.585 0.5 0.5\n"
    host = check_text(cubic(rows=molecule), remove=True)
    assert isinstance(host, CheckedHost)
    assert host.n_missing == 2


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("0.5 0.5 0.5", "0.5 abc 0.5"), ("O1", "_atom_site_fract_y", "'abc'")),
        (("_cell_length_b 4.0", "_cell_length_b ?"), ("_cell_length_b",)),
        (("_cell_length_b 4.0", "_cell_length_b -4"), ("no volume",)),
        (("loop_", "loop_ 3"), ("line", "invalid CIF")),
        (("0.5 0.5 0.5", "0.5 0.5"), ("line",)),
    ],
)
def test_messages_name_the_label_the_tag_or_the_line(
    change: tuple[str, str], words: tuple[str, ...]
) -> None:
    text = cubic(rows="Mg1 0 0 0\n" + OXYGEN_AT_HALF)
    assert change[0] in text
    try:
        said = str(check_text(text.replace(*change), n_missing=1))
    except InputError as error:
        said = str(error)
    for word in words:
        assert word in said
    for jargon in ("StopIteration", "ZeroDivision", "reshape", "IndexError", "KeyError"):
        assert jargon not in said


def test_ids_in_any_script_stay_distinct(tmp_path: Path) -> None:
    text = (INPUTS / "09_tags/bom.cif").read_bytes()
    for name in ("石膏", "高岭石", "гипс", "brucite (1)", "brucite_1_"):
        (tmp_path / f"{name}.cif").write_bytes(text)
    hosts, failures = check(tmp_path)
    assert not failures
    assert len({host.id for host in hosts}) == 5


def test_duplicate_json_key_is_reported(tmp_path: Path) -> None:
    record = (INPUTS / "22_json/lines.jsonl").read_text().splitlines()[0]
    path = tmp_path / "x.json"
    path.write_text('{"a": %s, "b": %s, "a": %s}' % (record, record, record))  # noqa: UP031
    hosts, failures = check(path, n_missing=2)
    assert [host.id for host in hosts] == ["b"]
    assert [failure.id for failure in failures] == ["a", "a"]


def test_too_many_sites_are_refused_before_they_are_read(tmp_path: Path) -> None:
    rows = "".join(f"O{i} 0.{i:05d} 0.5 0.5\n" for i in range(20_001))
    refused = check_text(cubic(rows=rows), n_missing=1)
    assert "lists 20001 sites" in str(refused)


def test_folder_or_pipe_is_reported_as_such(tmp_path: Path) -> None:
    import os

    os.mkfifo(tmp_path / "pipe.cif")
    with pytest.raises(InputError, match="pipe"):
        read_structures(tmp_path / "pipe.cif")
    (tmp_path / "folder.cif").mkdir()
    sheet = tmp_path / "s.csv"
    sheet.write_text("# made by hand\nid,structure\nx,folder.cif\n# end\ny,pipe.cif\n")
    assert [entry.error for entry in read_structures(sheet)] == [
        "is a folder; name a file in it",
        "is a pipe or a device; write it to a file first",
    ]


def test_sheet_with_all_inputs_reads_every_row() -> None:
    """Each row of a sheet may name any of these files; none affects the others."""
    names = sorted({case.file for case in CASES if case.file.endswith((".cif", ".vasp"))})
    rows = [{"id": name.replace("/", "_"), "structure": name} for name in names]
    sheet = INPUTS / "all.csv"
    try:
        with sheet.open("w", newline="") as file:
            writer = csv.DictWriter(file, fieldnames=["id", "structure"])
            writer.writeheader()
            writer.writerows(rows)
        hosts, failures = check(sheet)
    finally:
        sheet.unlink()
    assert len(hosts) + len(failures) == len(names)
    assert len(hosts) > 30
