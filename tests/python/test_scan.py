"""`xtalfill scan`: every structure gets a row; incomplete ones are found and can be filled."""

from __future__ import annotations

import csv
import gzip
from collections.abc import Iterator
from pathlib import Path

import ase.db
import ase.io
import h5py
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, make_supercell
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from pymatgen.analysis.bond_valence import BV_PARAMS, ELECTRONEG, calculate_bv_sum
from pymatgen.io.ase import AseAtomsAdaptor

from stage_settings import defaults
from xtalfill.cli.parser import main
from xtalfill.core.errors import InputError
from xtalfill.core.settings import make_settings
from xtalfill.inputs import scan_valence
from xtalfill.inputs.check import CheckSettings, run_check
from xtalfill.inputs.hosts import check_structures
from xtalfill.inputs.scan import Judgement, judge
from xtalfill.inputs.scan_valence import charge_balance, counted_protons, site_valences
from xtalfill.inputs.structures import Entry, read_structures, stream_structures
from xtalfill.inputs.structures.evidence import Evidence, HydrogenCount
from xtalfill.inputs.structures.formats import frame_entries
from xtalfill.results.scan import scan


def portlandite() -> Atoms:
    """Return Ca(OH)2 with its hydrogen (Desgranges et al. 1993): Ca, O, O, H, H."""
    return Atoms(
        "CaO2H2",
        scaled_positions=[
            (0, 0, 0), (1 / 3, 2 / 3, 0.2337), (2 / 3, 1 / 3, 0.7663),
            (1 / 3, 2 / 3, 0.4281), (2 / 3, 1 / 3, 0.5719),
        ],
        cell=[3.5889, 3.5889, 4.9110, 90, 90, 120],
        pbc=True,
    )  # fmt: skip


def without_hydrogen(atoms: Atoms) -> Atoms:
    return atoms[atoms.numbers != 1]


def judged(atoms: Atoms, evidence: Evidence | None = None) -> Judgement:
    return judge(Entry("x", "x", atoms=atoms, evidence=evidence or Evidence()))


def salammoniac() -> Atoms:
    """Return NH4Cl without its hydrogen."""
    return bulk("NCl", "cesiumchloride", a=3.876)


def sodium_peroxide() -> Atoms:
    """Return a layer of O2 dumb-bells between sodium: 2 Na and a peroxide."""
    scaled = [(0, 0, 0.5), (0.5, 0.5, 0), (0.5, 0.5, 0.383), (0.5, 0.5, 0.617)]
    return Atoms("Na2O2", scaled_positions=scaled, cell=[3.4, 3.4, 6.4], pbc=True)


def test_portlandite_lacks_two_protons_at_its_oxygens() -> None:
    found = judged(without_hydrogen(portlandite()))
    assert (found.status, found.n_missing, found.sites) == ("missing", 2, (1, 2))
    assert "charge_balance: 2 positive charges are missing" in found.evidence


def test_with_its_hydrogen_it_is_complete() -> None:
    found = judged(portlandite())
    assert (found.status, found.evidence, found.sites) == ("complete", (), ())


def test_half_of_the_hydrogen() -> None:
    found = judged(portlandite()[:4])
    assert (found.status, found.n_missing, found.sites) == ("missing", 1, (2,))


@pytest.mark.parametrize(
    "atoms",
    [bulk("MgO", "rocksalt", a=4.212), bulk("ZnS", "zincblende", a=5.41), bulk("Fe"),
     bulk("NaCl", "rocksalt", a=5.64), bulk("GaN", "wurtzite", a=3.19, c=5.19),
     bulk("C", "diamond", a=3.567), sodium_peroxide()],
    ids=lambda atoms: atoms.get_chemical_formula(),
)  # fmt: skip
def test_crystals_without_hydrogen_are_complete(atoms: Atoms) -> None:
    assert judged(atoms).status == "complete"


def test_water_without_hydrogen() -> None:
    apart = Atoms("CaO", [(0, 0, 0), (3, 3, 3)], cell=[6, 6, 6], pbc=True)
    found = judged(apart)
    assert (found.status, found.sites) == ("missing", (1,))
    assert "hydrate: O (site 2) without a neighbour" in found.evidence


def test_relaxed_water_is_more_oxygen_than_an_ozonide() -> None:
    ozonide = Atoms("KO3", [(0, 0, 0), (3, 3, 3), (3, 3, 4.3), (3, 3, 5.6)], cell=[6, 6, 8.6])
    ozonide.pbc = True
    assert judged(ozonide).status == "complete"
    found = judged(ozonide + Atoms("O", [(3, 3, 6.9)]))
    assert found.status == "missing"
    assert found.evidence[-1] == "composition: more oxygen than an ozonide of these cations has"


def test_ammonium() -> None:
    found = judged(salammoniac())
    assert found.status == "missing"
    assert "ammonia: N (site 1) without a neighbour" in found.evidence


def test_a_bare_skeleton() -> None:
    ethane = Atoms("C2", [(0, 0, 0), (0, 0, 1.54)], cell=[6, 6, 7], pbc=True)
    found = judged(ethane)
    assert found.status == "missing"
    assert found.evidence[-1] == "skeleton: C (site 1), C (site 2) without hydrogen"


def test_an_element_without_parameters_hides_its_neighbours() -> None:
    valences = site_valences(bulk("OsO", "rocksalt", a=6.0))
    assert valences.judged.tolist() == [True, False]
    assert valences.lacking.tolist() == [0.0, 0.0]


@pytest.mark.parametrize(
    ("distance", "evidence"),
    [(0.55, "hydrogen_distance: H (site 1) is 0.55 Å from its neighbour"),
     (2.6, "hydrogen_distance: H (site 1) is bonded to nothing")],
)  # fmt: skip
def test_impossible_hydrogens(distance: float, evidence: str) -> None:
    atoms = Atoms("HF", [(0, 0, 0), (0, 0, distance)], cell=[7, 7, 7], pbc=True)
    found = judged(atoms)
    assert found.status in ("suspect", "missing")
    assert evidence in found.evidence


@pytest.mark.parametrize("distance", [0.7, 1.2])
def test_possible_hydrogens(distance: float) -> None:
    atoms = Atoms("HF", [(0, 0, 0), (0, 0, distance)], cell=[7, 7, 7], pbc=True)
    assert not any("hydrogen_distance" in item for item in judged(atoms).evidence)


def test_what_cannot_be_judged() -> None:
    with pytest.raises(InputError, match="truncated"):
        judge(Entry("x", "x", error="truncated"))
    with pytest.raises(InputError, match="no atoms"):
        judge(Entry("x", "x"))
    with pytest.raises(InputError, match="not periodic"):
        judged(Atoms("O"))


HOST = without_hydrogen(portlandite())


def test_the_formula_decides() -> None:
    found = judged(HOST, Evidence(formula={20: 1, 8: 2, 1: 2}))
    assert (found.status, found.score, found.n_missing) == ("missing", 1.0, 2)
    assert found.evidence[0] == "stated: H missing by the declared formula: 2"


@pytest.mark.parametrize(("most", "count"), [(2.0, 2), (4.0, 2)], ids=["one number", "an interval"])
def test_agreeing_sources_decide_together(most: float, count: int) -> None:
    labels = HydrogenCount(2.0, most, "the labels OH1")
    found = judged(HOST, Evidence(formula={20: 1, 8: 2, 1: 2}, named=labels))
    assert found.n_missing == count


def test_an_interval_alone_does_not_decide() -> None:
    found = judged(HOST, Evidence(named=HydrogenCount(2, 4, "the labels OH2")))
    assert (found.status, found.score, found.n_missing) == ("missing", 1.0, None)


def test_contradicting_sources_do_not_decide() -> None:
    attached = HydrogenCount(4, 4, "the attached hydrogens")
    found = judged(HOST, Evidence(formula={20: 1, 8: 2, 1: 2}, attached=attached))
    assert (found.status, found.n_missing) == ("missing", None)
    assert len([item for item in found.evidence if item.startswith("stated")]) == 2


def test_another_element() -> None:
    cobaltate = bulk("CoO", "rocksalt", a=4.26)
    found = judged(cobaltate, Evidence(formula={3: 1, 27: 1, 8: 1}))
    assert (found.status, found.element, found.n_missing) == ("missing", 3, 1)


def test_a_formula_that_no_element_explains() -> None:
    found = judged(bulk("MgO", "rocksalt", a=4.212), Evidence(formula={12: 1, 9: 2}))
    assert found.status == "suspect"
    assert found.evidence[0].startswith("formula: the file lists O1 Mg1 but declares")


def test_a_contradicted_formula_leaves_the_number_of_the_labels_open() -> None:
    labels = HydrogenCount(2, 2, "the labels OH1")
    found = judged(HOST, Evidence(formula={12: 1, 8: 2, 1: 2}, named=labels))
    assert (found.status, found.n_missing) == ("missing", None)
    assert found.evidence[1].startswith("formula: the file lists O2 Ca1 but declares O2 Mg1")


def test_a_fulfilled_formula() -> None:
    found = judged(portlandite(), Evidence(formula={20: 1, 8: 2, 1: 2}))
    assert (found.status, found.evidence) == ("complete", ())


def test_the_parameters_are_those_of_pymatgen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scan_valence, "SOFTNESS", 0.31)  # of calculate_bv_sum
    atoms = bulk("TiO2", "fluorite", a=4.8)
    structure = AseAtomsAdaptor.get_structure(atoms)
    expected = [
        calculate_bv_sum(site, structure.get_neighbors(site, scan_valence.CUTOFF))
        for site in structure
    ]
    found = site_valences(atoms).charge
    peroxide = site_valences(atoms).alike
    assert found == pytest.approx(expected, rel=1e-6)
    assert (peroxide[atoms.numbers == 8] > 0).all()
    assert scan_valence._sizes() == {
        element.Z: (one["r"], one["c"]) for element, one in BV_PARAMS.items()
    }
    assert tuple(element.symbol for element in ELECTRONEG) == scan_valence._NEGATIVE


@hypothesis_settings(max_examples=15, deadline=None)
@given(
    shift=st.tuples(*[st.floats(-5, 5)] * 3),
    order=st.permutations(range(3)),
    double=st.integers(0, 2),
)
def test_cell_origin_and_order_do_not_matter(
    shift: tuple[float, float, float], order: list[int], double: int
) -> None:
    host = without_hydrogen(portlandite())
    moved = host[order]
    moved.translate(shift)
    matrix = np.eye(3, dtype=int)
    matrix[double, double] = 2
    found, first = judged(make_supercell(moved, matrix)), judged(host)
    assert found.score == pytest.approx(first.score, abs=1e-9)
    assert found.n_missing == 4
    assert len(found.sites) == 4


def test_charges() -> None:
    host = without_hydrogen(portlandite())
    balance = charge_balance(host.numbers, site_valences(host))
    assert balance == scan_valence.ChargeBalance(nearest=2, fewest=2, most=2)
    oxide = bulk("FeO", "rocksalt", a=4.33)
    balance = charge_balance(oxide.numbers, site_valences(oxide))
    assert balance == scan_valence.ChargeBalance(nearest=0, fewest=-1, most=0)


@pytest.mark.parametrize(
    ("nearest", "fewest", "expected"), [(2, 2, 2), (2, 1, None), (1, 1, None), (8, 8, None)]
)
def test_a_count_needs_one_balance_that_the_valences_confirm(
    monkeypatch: pytest.MonkeyPatch, nearest: int, fewest: int, expected: int | None
) -> None:
    balance = scan_valence.ChargeBalance(nearest, fewest, most=nearest)
    monkeypatch.setattr("xtalfill.inputs.scan_valence.charge_balance", lambda *_: balance)
    valences = site_valences(HOST)
    assert 1.4 < valences.lacking.sum() < 1.8
    assert counted_protons(HOST.numbers, valences) == expected


def test_the_fewest_charges_need_common_states() -> None:
    oxide = bulk("CuO", "rocksalt", a=4.2)  # Cu2+ is common, Cu3+ and Cu4+ are known
    balance = charge_balance(oxide.numbers, site_valences(oxide))
    assert balance is not None
    assert balance.fewest == 0


def test_a_metal_has_no_balance() -> None:
    iron = bulk("Fe")
    assert charge_balance(iron.numbers, site_valences(iron)) is None


FRAMES = st.lists(
    st.tuples(st.integers(1, 4), st.integers(0, 2), st.sampled_from(["", "id=a", "name=b"])),
    min_size=1, max_size=5,
)  # fmt: skip


@hypothesis_settings(max_examples=25, deadline=None)
@given(frames=FRAMES, cut=st.integers(0, 3))
def test_every_frame_is_an_entry(frames: list[tuple[int, int, str]], cut: int) -> None:
    lines = []
    for count, blank, key in frames:
        lines += [""] * blank
        lines += [str(count), f'Lattice="9 0 0 0 9 0 0 0 9" {key}']
        lines += [f"O {site * 2.0} 0.0 0.0" for site in range(count)]
    lines = lines[: len(lines) - min(cut, frames[-1][0])]
    entries = list(frame_entries(lines, "x.extxyz", "x"))
    assert len(entries) == len(frames)
    broken = min(cut, frames[-1][0]) > 0
    assert [entry.error is not None for entry in entries] == (
        [False] * (len(frames) - 1) + [broken]
    )
    sizes = [len(entry.atoms) for entry in entries if entry.atoms is not None]
    assert sizes == [count for count, _, _ in frames][: len(sizes)]


def test_each_format_gives_what_check_reads(tmp_path: Path) -> None:
    crystals = [portlandite(), bulk("MgO", "rocksalt", a=4.2)]
    ase.io.write(tmp_path / "x.extxyz", crystals)
    with ase.db.connect(tmp_path / "x.db") as database:
        for atoms in crystals:
            database.write(atoms)
    folder = tmp_path / "folder"
    folder.mkdir()
    for number, atoms in enumerate(crystals):
        ase.io.write(folder / f"{number}.cif", atoms)
    (tmp_path / "x.csv").write_text("structure\nfolder/0.cif\nfolder/none.cif\n")
    for name in ("x.extxyz", "x.db", "folder", "x.csv"):
        read = read_structures(tmp_path / name)
        streamed = [one.entry for one in stream_structures(tmp_path / name)]
        assert [one.source for one in streamed] == [one.source for one in read]
        for one, other in zip(streamed, read, strict=True):
            assert one.error == other.error
            assert (one.atoms is None) == (other.atoms is None)
            assert one.atoms is None or one.atoms == other.atoms


def test_hdf5(tmp_path: Path) -> None:
    crystals = [portlandite(), bulk("MgO", "rocksalt", a=4.2)]
    path = tmp_path / "x.h5"
    write_crystals(path, crystals)
    found = [one.entry for one in stream_structures(path)]
    assert [one.id for one in found] == ["mp-0", "mp-1"]
    for one, atoms in zip(found, crystals, strict=True):
        assert one.atoms is not None
        apart = one.atoms.get_scaled_positions() - atoms.get_scaled_positions()
        assert apart - np.round(apart) == pytest.approx(np.zeros((len(atoms), 3)), abs=1e-5)
    with h5py.File(path, "a") as file:
        del file["cell"]
    (broken,) = stream_structures(path)
    assert broken.entry.error == "holds no dataset 'cell'; give a file of crystals"


def test_a_frame_is_read_when_it_is_asked_for() -> None:
    def lines() -> Iterator[str]:
        yield from ("1", 'Lattice="9 0 0 0 9 0 0 0 9"', "O 0 0 0")
        raise AssertionError("the second frame was read, too")

    assert next(frame_entries(lines(), "x.extxyz", "x")).error is None


def test_a_file_that_breaks_off_keeps_what_was_read(tmp_path: Path) -> None:
    numbers = np.random.default_rng(1).random((400, 3))
    frames = [f'1\nLattice="9 0 0 0 9 0 0 0 9"\nO {x} {y} {z}\n' for x, y, z in numbers]
    path = tmp_path / "x.extxyz.gz"
    data = gzip.compress("".join(frames).encode())
    path.write_bytes(data[: len(data) // 2])
    found = [one.entry for one in stream_structures(path)]
    assert 100 < len(found) < 300
    assert [one.fallback_id for one in found if one.error] == ["x_rest"]


def test_a_frame_larger_than_any_crystal(tmp_path: Path) -> None:
    path = tmp_path / "x.extxyz"
    path.write_text("999999999\n\n")
    (found,) = stream_structures(path)
    assert "999999999 atoms declared, more than the limit" in (found.entry.error or "")


def write_crystals(path: Path, crystals: list[Atoms]) -> None:
    sizes = np.array([len(atoms) for atoms in crystals])
    fractions = np.concatenate([atoms.get_scaled_positions() for atoms in crystals])
    with h5py.File(path, "w") as file:
        file["atomic_number"] = np.concatenate([atoms.numbers for atoms in crystals])
        file["frac_coords"] = (np.round(fractions * 65536) % 65536).astype("uint16")
        file["cell"] = np.array([np.asarray(atoms.cell) for atoms in crystals])
        file["n_atoms"], file["offset"] = sizes, np.cumsum(sizes) - sizes
        file["material_id"] = np.array([f"mp-{k}".encode() for k in range(len(crystals))])


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "cifs"
    folder.mkdir()
    ase.io.write(folder / "complete.cif", portlandite())
    ase.io.write(folder / "host.cif", without_hydrogen(portlandite()))
    (folder / "broken.cif").write_text("data_x\n_cell_length_a 3\n")
    main(["scan", str(folder), "-o", str(tmp_path / "out")])
    assert "3 structures: 1 complete, 1 failed, 1 missing" in capsys.readouterr().out
    broken, complete, host = rows_of(tmp_path / "out" / "scan.csv")
    assert "lists no atom sites" in broken["message"]
    assert (broken["status"], broken["n_atoms"]) == ("failed", "")
    assert (complete["status"], complete["element"], complete["sites"]) == ("complete", "", "")
    assert (host["status"], host["n_missing"], host["sites"]) == ("missing", "2", "2 3")
    (row,) = rows_of(tmp_path / "out" / "hosts.csv")
    assert row["structure"] == str((folder / "host.cif").resolve())


def test_the_sheet_is_an_input(tmp_path: Path) -> None:
    host = without_hydrogen(portlandite())
    host.info["id"] = "twice"
    ase.io.write(tmp_path / "x.extxyz", [host, bulk("MgO", "rocksalt", a=4.2), host])
    found = scan(tmp_path / "x.extxyz", tmp_path / "out")
    assert found.counts == {"missing": 2, "complete": 1}
    assert found.n_uncounted == 0
    hosts, failures = check_structures(
        read_structures(tmp_path / "out" / "hosts.csv"),
        element="H",
        n_missing=None,
        remove_existing=False,
    )
    assert not failures
    assert [one.n_missing for one in hosts] == [2, 2]
    assert hosts[0].atoms.positions == pytest.approx(host.positions, abs=1e-7)


def test_a_row_without_a_number_says_what_to_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    water = Atoms("CaO", [(0, 0, 0), (3, 3, 3)], cell=[6, 6, 6], pbc=True)
    ase.io.write(tmp_path / "x.extxyz", [water, without_hydrogen(portlandite())])
    out = tmp_path / "out"
    main(["scan", str(tmp_path / "x.extxyz"), "-o", str(out)])
    said = capsys.readouterr().out
    assert "rows without n_missing: 1 of 2" in said
    assert f"write the numbers into {out / 'hosts.csv'}" in said
    settings = make_settings(defaults("check"), CheckSettings, source="test")
    run_check(out / "hosts.csv", references=None, settings=settings, outdir=tmp_path / "c")
    errors = capsys.readouterr().err
    assert (
        "SKIPPED x_0 (hosts.csv line 2 (hosts/x_0.extxyz)): no n_missing: nothing tells" in errors
    )
    assert "write the number into the column n_missing of the sheet" in errors
    assert "HINT skipped for want of n_missing: 1;" in errors


@pytest.mark.parametrize("text", ["x\n", "1\n\nO 0 0 0\n"], ids=["unreadable", "a molecule"])
def test_nothing_can_be_judged(tmp_path: Path, text: str) -> None:
    (tmp_path / "x.extxyz").write_text(text)
    with pytest.raises(SystemExit) as stop:
        main(["scan", str(tmp_path / "x.extxyz"), "-o", str(tmp_path / "out")])
    assert stop.value.code == 65
    (row,) = rows_of(tmp_path / "out" / "scan.csv")
    assert row["status"] == "failed"
    assert row["message"]


def test_no_input(tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["scan", str(tmp_path / "none.cif"), "-o", str(tmp_path / "out")])
    assert stop.value.code == 65
    assert not (tmp_path / "out").exists()
