"""Checks of single structures: each fault gives one line; valid hosts are not changed."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.geometry import minkowski_reduce
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pymatgen.core import Lattice, Structure

from xtalfill.core.errors import InputError
from xtalfill.inputs.hosts import (
    MAX_ID_LENGTH,
    CheckedHost,
    Refusal,
    assign_ids,
    check_geometry,
    check_structures,
    parse_element,
    safe_id,
)
from xtalfill.inputs.missing import parse_count
from xtalfill.inputs.structures import Entry, read_structures

WriteCif = Callable[..., Path]


def checked(
    entries: list[Entry], *, element: str = "H", n_missing: int | None = 2, remove: bool = False
) -> tuple[list[CheckedHost], dict[str, str]]:
    """Return the hosts, and the message of each failure by its id."""
    hosts, failures = check_structures(
        entries, element=element, n_missing=n_missing, remove_existing=remove
    )
    assert len(hosts) + len(failures) == len(entries)
    for failure in failures:
        assert failure.message.isprintable()
        assert len(failure.message) <= 400
    return hosts, {failure.id: failure.message for failure in failures}


def fault(atoms: Atoms, **options: Any) -> str:
    """Return why one structure, given as atoms, is refused."""
    hosts, failures = checked([Entry(source="s", fallback_id="x", atoms=atoms)], **options)
    assert not hosts
    return failures["x"]


# --- what passes ---------------------------------------------------------------------------


def test_host_is_kept_bit_identically_in_its_own_cell(rng: np.random.Generator) -> None:
    cell = np.array([[0.0, 5.1, 0.3], [4.9, 0.1, 0.0], [0.2, 0.3, 6.1]])  # left-handed, rotated
    assert np.linalg.det(cell) < 0
    scaled = np.array([[-1.3, 0.1, 2.2], [0.4, 0.6, 0.5]])  # not wrapped
    atoms = Atoms("MgO", scaled @ cell, cell=cell, pbc=True)
    entry = Entry(source="s", fallback_id="x", atoms=atoms.copy())
    (host,), _ = checked([entry])
    assert np.array_equal(host.atoms.positions, atoms.positions)
    assert np.array_equal(host.atoms.cell, atoms.cell)
    assert host.numbers.tolist() == [12, 8, 1, 1]


def test_present_hydrogen_belongs_to_the_host_unless_removed(brucite: Atoms) -> None:
    entry = Entry(source="s", fallback_id="x", atoms=brucite)
    (kept,), _ = checked([entry], n_missing=3)
    assert (len(kept.atoms), kept.n_missing) == (5, 3)
    (removed,), _ = checked([entry], n_missing=None, remove=True)
    assert (len(removed.atoms), removed.n_missing) == (3, 2)
    assert removed.notes == ("2 H removed",)
    (fewer,), _ = checked([entry], n_missing=1, remove=True)
    assert (len(fewer.atoms), fewer.n_missing) == (3, 1)


def test_removing_absent_sites_needs_n_missing(brucite_host: Atoms) -> None:
    assert fault(brucite_host, n_missing=None, remove=True).startswith("no n_missing")


def test_zero_missing_sites_is_refused(brucite_host: Atoms) -> None:
    entry = Entry(source="s", fallback_id="x", atoms=brucite_host, n_missing=0)
    hosts, failures = checked([entry], n_missing=2)
    assert not hosts
    assert failures["x"] == "n_missing is 0; it must be at least 1"


def test_values_of_the_entry_override_the_options(brucite_host: Atoms) -> None:
    entries = [
        Entry(source="s", fallback_id="own", atoms=brucite_host, n_missing="4", element="Li"),
        Entry(source="s", fallback_id="option", atoms=brucite_host, n_missing=" "),
    ]
    hosts, _ = checked(entries)
    assert [(h.id, h.element, h.n_missing) for h in hosts] == [("option", 1, 2), ("own", 3, 4)]


def test_element_unsupported_by_a_potential_is_refused(brucite_host: Atoms) -> None:
    def check(**known: frozenset[int]) -> tuple[list[CheckedHost], list[Refusal]]:
        entry = Entry(source="s", fallback_id="x", atoms=brucite_host)
        return check_structures(
            [entry], element="H", n_missing=2, remove_existing=False, known=known
        )

    hosts, _ = check(cheap=frozenset({1, 8, 12}), better=frozenset({1, 3, 8, 12}))
    assert len(hosts) == 1
    _, failures = check(cheap=frozenset({1, 8, 12}), better=frozenset({1, 8}))
    assert "better does not support Mg" in failures[0].message
    _, failures = check(cheap=frozenset({8, 12}))  # the element to fill must be supported, too
    assert "cheap does not support H" in failures[0].message


# --- geometry ------------------------------------------------------------------------------


def flatten(atoms: Atoms) -> None:
    atoms.cell[2] = atoms.cell[0] + atoms.cell[1]


def put_beyond_the_border(atoms: Atoms) -> None:
    atoms.positions[1] = atoms.positions[0] + atoms.cell[0] - 2 * atoms.cell[2] + [0.1, 0, 0.3]


FAULTS: list[tuple[Callable[[Atoms], Any], str]] = [
    (lambda atoms: atoms.set_cell(np.zeros((3, 3))), "no volume"),
    (flatten, "no volume"),
    (lambda atoms: atoms.set_cell(atoms.cell * 100), "Å³ per atom"),
    (lambda atoms: atoms.set_cell(atoms.cell * 0.25, scale_atoms=True), "Å³ per atom"),
    (lambda atoms: atoms.set_cell([0.4, 60, 20]), "own image"),
    (lambda atoms: atoms.cell.__setitem__((0, 0), np.inf), "not a finite number"),
    (lambda atoms: atoms.positions.__setitem__((1, 1), np.nan), "not a finite number"),
    (lambda atoms: atoms.positions.__setitem__((1, 1), 1e300), "beyond 100000 Å"),
    (
        lambda atoms: atoms.positions.__setitem__(1, atoms.positions[0] + [0, 0, 0.49]),
        "overlapping sites: Mg (site 1) and O (site 2) are 0.490 Å apart",
    ),
    (put_beyond_the_border, "overlapping sites: Mg (site 1) and O (site 2)"),
    (lambda atoms: atoms.set_pbc([True, True, False]), "periodic along a, b only"),
    (lambda atoms: atoms.set_pbc(False), "not periodic"),
    (lambda atoms: atoms.numbers.__setitem__(0, 0), "unknown element"),
    (lambda atoms: atoms.numbers.__setitem__(0, 4000), "unknown element"),
    (
        lambda atoms: atoms.set_array("occupancy", np.array([1.0, 0.7, 1.0])),
        "1 partially occupied sites: O (0.7)",
    ),
    (lambda atoms: atoms.__delitem__([0, 1, 2]), "no atoms"),
]


@pytest.mark.parametrize(("spoil", "reason"), FAULTS)
def test_each_fault_is_one_line(
    brucite_host: Atoms, spoil: Callable[[Atoms], Any], reason: str
) -> None:
    spoil(brucite_host)
    assert reason in fault(brucite_host)


def test_close_but_separate_sites_pass(brucite_host: Atoms) -> None:
    brucite_host.positions[1] = brucite_host.positions[0] + [0, 0, 0.51]
    check_geometry(brucite_host)


def test_overlapping_sites_may_be_removed(brucite: Atoms) -> None:
    brucite.positions[4] = brucite.positions[3] + [0, 0, 0.2]
    assert "overlapping" in fault(brucite)
    (host,), _ = checked([Entry(source="s", fallback_id="x", atoms=brucite)], remove=True)
    assert len(host.atoms) == 3


@settings(max_examples=200)
@example(  # a lattice vector exactly as long as the limit
    vectors=[0.5, 0.0, 0.0, 1.15, 4.0, 0.0, 0.0, 0.0, 2.0],
    scaled=[0.0, 0.625, *[0.0] * 9, 0.5],
    image=[0, 0, 0],
    delta=[0.0, 0.0, 0.5],
)
@given(
    vectors=st.lists(st.floats(-40, 40), min_size=9, max_size=9),
    scaled=st.lists(st.floats(-3, 3), min_size=12, max_size=12),
    image=st.lists(st.integers(-3, 3), min_size=3, max_size=3),
    delta=st.lists(st.floats(-0.5, 0.5), min_size=3, max_size=3),
)
def test_distance_check_equals_brute_force_in_any_cell(
    vectors: list[float], scaled: list[float], image: list[int], delta: list[float]
) -> None:
    cell = np.array(vectors).reshape(3, 3)
    positions = np.array(scaled).reshape(4, 3) @ cell
    positions[1] = positions[0] + np.array(image) @ cell + delta  # near an image of the first
    atoms = Atoms("LiNaKRb", positions, cell=cell, pbc=True)
    try:
        check_geometry(atoms)
    except InputError as error:
        message = str(error)
        if "overlapping" not in message:
            return
        expected = True
    else:
        expected = False
    shortest = shortest_by_brute_force(atoms)
    assert abs(shortest - 0.5) < 1e-9 or (shortest < 0.5) == expected


def shortest_by_brute_force(atoms: Atoms) -> float:
    """Return the shortest distance between different atoms over many images, Angstrom."""
    cell, _ = minkowski_reduce(np.asarray(atoms.cell))
    delta = atoms.positions[:, None] - atoms.positions[None]
    fractional = delta @ np.linalg.inv(cell)
    wrapped = fractional - np.round(fractional)
    shifts = np.array(np.meshgrid(*[range(-2, 3)] * 3)).reshape(3, -1).T
    distances = np.linalg.norm((wrapped[:, :, None] + shifts) @ cell, axis=-1).min(axis=-1)
    return float(distances[~np.eye(len(atoms), dtype=bool)].min())


# --- number of missing sites ---------------------------------------------------------------


@pytest.mark.parametrize("value", [3, 3.0, "3", " 3 ", "3.0", np.int64(3), np.float64(3)])
def test_whole_numbers(value: Any) -> None:
    assert parse_count(value) == 3


@pytest.mark.parametrize(
    "value", [True, "", "x", "1.5", 2.5, "nan", "inf", None, [2], np.array([1, 2]), "9" * 6000, {}]
)
def test_values_that_are_not_whole_numbers(value: Any) -> None:
    with pytest.raises(InputError, match="whole number"):
        parse_count(value)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("0", "at least 1"),
        ("-3", "at least 1"),
        ("two", "whole number"),
        ("73", "takes at most"),
        ("1000000000000", "takes at most"),
    ],
)
def test_number_of_sites_out_of_range(brucite_host: Atoms, value: str, reason: str) -> None:
    (entry,) = [Entry(source="s", fallback_id="x", atoms=brucite_host, n_missing=value)]
    hosts, failures = checked([entry])
    assert not hosts
    assert reason in failures["x"]


def test_no_number_of_sites_is_a_failure(brucite_host: Atoms) -> None:
    assert fault(brucite_host, n_missing=None).startswith("no n_missing")


def test_no_host_left(brucite: Atoms) -> None:
    assert "no host is left" in fault(brucite[brucite.numbers == 1], remove=True)


@pytest.mark.parametrize("symbol", ["Xx", "", "H2", "<b>", "1"])
def test_unknown_element_to_fill(brucite_host: Atoms, symbol: str) -> None:
    with pytest.raises(InputError, match="unknown element"):
        parse_element(symbol)
    (entry,) = [Entry(source="s", fallback_id="x", atoms=brucite_host, element=symbol or "?")]
    assert "unknown element" in checked([entry])[1]["x"]


@pytest.mark.parametrize(("symbol", "number"), [("H", 1), ("li", 3), (" Na ", 11), ("D", 1)])
def test_element_to_fill(symbol: str, number: int) -> None:
    assert parse_element(symbol) == number


# --- what a CIF declares -------------------------------------------------------------------


@pytest.fixture
def partial_cif(tmp_path: Path, brucite: Atoms, write_cif: WriteCif) -> Callable[..., Path]:
    """Return a function that writes brucite's CIF without the rows of some elements."""

    def write(*without: str, formula: str = "'Mg1 H2 O2'") -> Path:
        text = write_cif(brucite, tmp_path / "whole.cif").read_text()
        text = text.replace("'Mg1 H2 O2'", formula)
        rows = [row for row in text.splitlines() if not row.startswith(without)]
        path = tmp_path / "x.cif"
        path.write_text("\n".join(rows))
        return path

    return write


def test_formula_of_a_cif_gives_n_missing(partial_cif: Callable[..., Path]) -> None:
    for formula in ("'Mg1 H2 O2'", "'H4 Mg2 O4'", "'Mg (O D)2'", "'Mg1 H2.00 O2'"):
        (host,), _ = checked(read_structures(partial_cif("  H ", formula=formula)), n_missing=None)
        assert host.n_missing == 2
        assert host.notes == ("n_missing 2 taken from the declared formula",)


def test_given_number_overrides_the_formula_with_a_note(
    partial_cif: Callable[..., Path],
) -> None:
    (host,), _ = checked(read_structures(partial_cif("  H ")), n_missing=3)
    assert host.n_missing == 3
    assert host.notes == ("n_missing 3 was given; the declared formula: 2",)


@pytest.mark.parametrize("formula", ["'Mg1 O2'", "'x Mg + y'", "?", "'Mg1 H2.5 O2'"])
def test_formula_without_information(partial_cif: Callable[..., Path], formula: str) -> None:
    _, failures = checked(read_structures(partial_cif("  H ", formula=formula)), n_missing=None)
    assert failures["x"].startswith("no n_missing")


def test_cif_without_some_host_sites_is_refused(partial_cif: Callable[..., Path]) -> None:
    for without in (("  O  O2",), ("  Mg",), ("  O ",)):
        _, failures = checked(read_structures(partial_cif(*without)), n_missing=None)
        assert "declares Mg1 O2" in failures["x"] or "declares O2 Mg1" in failures["x"]
        assert "truncated" in failures["x"]
        hosts, _ = checked(read_structures(partial_cif(*without)), n_missing=2)
        assert any("truncated" in note for note in hosts[0].notes)


def test_sites_without_coordinates_are_missing_sites_only_of_the_element(
    partial_cif: Callable[..., Path],
) -> None:
    path = partial_cif()
    text = path.read_text()
    for element in ("H", "O"):
        rows = [
            f"  {element}  {element}9  1  ?  ?  ?  1" if row.startswith(f"  {element} ") else row
            for row in text.splitlines()
        ]
        path.write_text("\n".join(rows))
        hosts, failures = checked(read_structures(path), n_missing=None)
        if element == "H":
            assert hosts[0].n_missing == 2
            assert len(hosts[0].atoms) == 3
        else:
            assert "a site of O has no coordinates" in failures["x"]


def test_half_occupied_hydrogen_may_be_removed_but_not_kept(tmp_path: Path) -> None:
    structure = Structure(
        Lattice.cubic(4.0),
        ["Mg", "O", {"H": 0.5}, {"H": 0.5}],
        [(0, 0, 0), (0.5, 0.5, 0.5), (0.5, 0.5, 0.72), (0.5, 0.5, 0.76)],
    )
    path = tmp_path / "x.cif"
    structure.to(filename=str(path))
    _, failures = checked(read_structures(path), n_missing=None)
    assert "2 partially occupied sites: H2 (0.5), H3 (0.5)" in failures["x"]
    (host,), _ = checked(read_structures(path), n_missing=None, remove=True)
    assert (len(host.atoms), host.n_missing) == (2, 1)


# --- ids -----------------------------------------------------------------------------------


@given(name=st.text(max_size=300))
def test_an_id_is_safe_as_a_file_name_and_stays_the_same(name: str) -> None:
    clean = safe_id(name)
    assert len(clean) <= MAX_ID_LENGTH
    assert not set(clean) - set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-")
    assert not clean.startswith((".", "-"))
    assert safe_id(clean) == clean


def test_safe_ids() -> None:
    assert safe_id("mp-1_a.b") == "mp-1_a.b"
    assert re.fullmatch(r"_\.\._etc_passwd-[0-9a-f]{8}", safe_id("../../etc/passwd"))
    assert re.fullmatch(r"help-[0-9a-f]{8}", safe_id("--help"))
    assert re.fullmatch(r"e_script-[0-9a-f]{8}", safe_id("é<script>"))
    assert re.fullmatch(r"[0-9a-f]{8}", safe_id("石膏"))
    assert len({safe_id(name) for name in ("a b", "a_b", "a(b", "å_b", "石膏", "高岭石")}) == 6
    long = [safe_id("x" * 150 + tail) for tail in "ab"]
    assert long[0] != long[1]


@given(names=st.lists(st.text(max_size=4), max_size=8), data=st.data())
def test_ids_are_unique_and_do_not_depend_on_the_order(
    names: list[str], data: st.DataObject
) -> None:
    def usable(order: list[int]) -> list[tuple[str, str]]:
        entries = [Entry(source=f"s{i}", fallback_id=f"f{i}", id=names[i]) for i in order]
        assigned = assign_ids(entries)
        assert [entry for _, entry, _ in assigned] == entries
        return sorted((name, entry.source) for name, entry, problem in assigned if not problem)

    straight = usable(list(range(len(names))))
    assert straight == usable(data.draw(st.permutations(range(len(names)))))
    assert len({name for name, _ in straight}) == len(straight)
    assert all(name for name, _ in straight)


def test_structures_that_share_an_id_are_all_refused_and_name_each_other(
    tmp_path: Path, brucite_host: Atoms
) -> None:
    frames = [brucite_host.copy() for _ in range(3)]
    for atoms, name in zip(frames, ["a_b", "a_b", "c"], strict=True):
        atoms.info["id"] = name
    ase.io.write(tmp_path / "f.extxyz", frames)
    hosts, failures = check_structures(
        read_structures(tmp_path / "f.extxyz"), element="H", n_missing=2, remove_existing=False
    )
    assert [host.id for host in hosts] == ["c"]
    assert [failure.id for failure in failures] == ["a_b", "a_b"]
    assert "also f.extxyz frame 1" in failures[0].message
    assert "also f.extxyz frame 0" in failures[1].message


def test_a_changed_id_is_noted(brucite_host: Atoms) -> None:
    entry = Entry(source="s", fallback_id="x", id="my crystal", atoms=brucite_host)
    (host,), _ = checked([entry])
    assert host.id.startswith("my_crystal-")
    assert host.notes == (f"id 'my crystal' was changed to {host.id!r}",)
