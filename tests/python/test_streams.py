"""Large inputs: trees of files, JSON by records, duplicates, numbers that the evidence gives."""

from __future__ import annotations

import csv
import json
import os
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from hypothesis import given, settings
from hypothesis import strategies as st
from pymatgen.io.ase import AseAtomsAdaptor

from stage_settings import defaults
from xtalfill.core.errors import ConfigError
from xtalfill.core.settings import make_settings
from xtalfill.inputs.check import CheckSettings, run_check
from xtalfill.inputs.duplicates import find_duplicates
from xtalfill.inputs.hosts import CheckedHost, assign_ids, check_structures
from xtalfill.inputs.structures import Entry, read_structures, stream_structures
from xtalfill.results.collect import write_refusals
from xtalfill.results.tables import read_tables, structure_rows

POSCAR = """x
1.0
3.14 0 0
-1.57 2.719 0
0 0 4.77
Mg O
1 2
Direct
0 0 0
0.33 0.67 0.22
0.67 0.33 0.78
"""


def names_of(path: Path) -> list[str]:
    """Return the ids of an input, as CHECK has them."""
    return [name for name, _, problem in assign_ids(read_structures(path)) if problem is None]


# --- a tree --------------------------------------------------------------------------------


def test_a_tree(tmp_path: Path) -> None:
    for name in ("b.vasp", "a/b/POSCAR", "a/b/CONTCAR", "a/b.vasp", "a_b.vasp", "ä/x y.vasp",
                 ".git/c.vasp", "a/.c.vasp", "a/readme.txt", "Mg.vasp", "Mg.poscar"):  # fmt: skip
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(POSCAR)
    (tmp_path / "a" / "loop").symlink_to(tmp_path, target_is_directory=True)
    streamed = list(stream_structures(tmp_path))
    assert [one.entry.source for one in streamed] == [
        "Mg.poscar", "Mg.vasp", "a_b.vasp", "b.vasp", "a/b.vasp", "a/b/CONTCAR", "a/b/POSCAR",
        "ä/x y.vasp",
    ]  # fmt: skip
    names = names_of(tmp_path)
    assert names[:4] == ["Mg.poscar", "Mg.vasp", "a_b", "b"]
    assert len({name.lower() for name in names}) == len(streamed)
    assert all(
        set(name) <= set("abcdefghijklmnopqrstuvwxyzMgPOSCARNT0123456789._-") for name in names
    )
    assert streamed[5].file == tmp_path / "a" / "b" / "CONTCAR"


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads every folder")
def test_a_closed_folder_is_a_row(tmp_path: Path) -> None:
    (tmp_path / "a.vasp").write_text(POSCAR)
    (tmp_path / "closed").mkdir(mode=0)
    entries = read_structures(tmp_path)
    (tmp_path / "closed").chmod(0o755)
    assert "Permission denied" in str(entries[1].error)


def test_memory_does_not_grow_with_a_tree(tmp_path: Path) -> None:
    def peak(count: int) -> int:
        for number in range(count):
            folder = tmp_path / str(count) / f"{number // 10:03}"
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"{number}.vasp").write_text(POSCAR)
        tracemalloc.start()
        found = sum(1 for _ in stream_structures(tmp_path / str(count)))
        highest = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert found == count
        return highest

    peak(10)  # loads what is loaded once
    assert peak(200) < peak(20) + 200_000


# --- JSON ----------------------------------------------------------------------------------


@settings(max_examples=25)
@given(
    records=st.lists(st.one_of(st.integers(), st.text(max_size=5), st.just({"a": [1, {"b": 2}]}))),
    indent=st.sampled_from([None, 2]),
    cut=st.integers(0, 3),
)
def test_a_list_is_read_record_by_record(
    tmp_path_factory: pytest.TempPathFactory, records: list[Any], indent: int | None, cut: int
) -> None:
    path = tmp_path_factory.mktemp("json") / "x.json"
    text = json.dumps(records, indent=indent)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("xtalfill.inputs.structures.jsonrecords._CHUNK", 3)
        path.write_text(text[: len(text) - cut])
        entries = read_structures(path)
    whole = cut == 0 and bool(records)
    assert all(entry.error for entry in entries)  # none of them is a structure
    if whole:
        assert [entry.fallback_id for entry in entries] == [f"x_{n}" for n in range(len(records))]
    elif records:
        assert entries[-1].fallback_id in ("x_rest", "x")


def test_a_list_that_breaks_off_keeps_what_was_read(tmp_path: Path) -> None:
    record = {"material_id": "mp-1", "structure": AseAtomsAdaptor.get_structure(HOST).as_dict()}
    text = json.dumps([record, {**record, "material_id": "mp-2"}])
    path = tmp_path / "summary.json"
    path.write_text(text[:-30])
    first, rest = read_structures(path)
    assert (first.id, first.error) == ("mp-1", None)
    assert "breaks off" in str(rest.error)


def test_jarvis(tmp_path: Path) -> None:
    atoms = {
        "lattice_mat": HOST.cell.tolist(), "coords": HOST.get_scaled_positions().tolist(),
        "elements": list(HOST.symbols), "cartesian": False,
    }  # fmt: skip
    (tmp_path / "jdft_3d.json").write_text(json.dumps([{"jid": "JVASP-1", "atoms": atoms}] * 2))
    entries = read_structures(tmp_path / "jdft_3d.json")
    assert [entry.id for entry in entries] == ["JVASP-1"] * 2
    assert entries[1].atoms is not None
    assert np.allclose(entries[1].atoms.positions, HOST.positions)


def test_json_lines_are_read_when_they_are_asked_for(tmp_path: Path) -> None:
    line = json.dumps({"numbers": [8], "positions": [[0, 0, 0]], "cell": [3, 3, 3], "id": "o"})
    path = tmp_path / "x.jsonl"
    path.write_text(f"{line}\n\n{line}\n{{broken\n" + '{"xtalfill_stopped": "no more"}\n')
    entries = [one.entry for one in stream_structures(path)]
    assert [entry.fallback_id for entry in entries] == ["x_0", "x_1", "x_2", "x_rest"]
    assert "not valid JSON" in str(entries[2].error)
    assert entries[3].error == "no more"
    path.write_text(json.dumps([json.loads(line)] * 2, indent=1))  # a document, not lines
    assert [entry.id for entry in read_structures(path)] == ["o", "o"]


# --- duplicates ----------------------------------------------------------------------------

HOST = Atoms(
    "MgO2",
    scaled_positions=[(0, 0, 0), (1 / 3, 2 / 3, 0.22), (2 / 3, 1 / 3, 0.78)],
    cell=[3.14, 3.14, 4.77, 90, 90, 120],
    pbc=True,
)


def checked(name: str, atoms: Atoms, n_missing: int = 2, element: int = 1) -> CheckedHost:
    return CheckedHost(name, name, atoms, element, n_missing)


def another_setting(atoms: Atoms) -> Atoms:
    """Return the same crystal in another cell, origin, orientation and order, a little strained."""
    moved = atoms[[2, 0, 1]]
    moved.set_cell(moved.cell * 1.005, scale_atoms=True)
    moved.translate([0.7, 0.2, 1.1])
    moved.set_cell(moved.cell.array @ np.eye(3) + np.array([[0, 0, 0], [0, 0, 0], moved.cell[0]]))
    moved.rotate(33, "z", rotate_cell=True)
    moved.wrap()
    return moved


def test_the_same_crystal_in_another_setting() -> None:
    hosts = [checked("b", another_setting(HOST)), checked("a", HOST), checked("c", HOST)]
    assert find_duplicates(hosts) == {"b": "a", "c": "a"}
    assert find_duplicates(hosts[::-1]) == {"b": "a", "c": "a"}


@pytest.mark.parametrize(
    "other",
    [checked("b", HOST, n_missing=1), checked("b", HOST, element=3),
     checked("b", Atoms("AlO2", HOST.positions, cell=HOST.cell, pbc=True)),
     checked("b", HOST.repeat((1, 1, 2)), n_missing=4)],
    ids=["number", "element", "host", "supercell"],
)  # fmt: skip
def test_other_tasks_are_no_duplicates(other: CheckedHost) -> None:
    assert find_duplicates([checked("a", HOST), other]) == {}


def test_a_swollen_or_distorted_crystal_is_another_one() -> None:
    swollen, moved = HOST.copy(), HOST.copy()
    swollen.set_cell(swollen.cell * [1, 1, 1.1], scale_atoms=True)
    moved.positions[1] += (0, 0, 0.5)
    hosts = [checked("a", HOST), checked("b", swollen), checked("c", moved)]
    assert find_duplicates(hosts) == {}


def test_a_duplicate_is_a_row_of_the_results(tmp_path: Path) -> None:
    lines = [
        {"id": name, "numbers": atoms.numbers.tolist(), "positions": atoms.positions.tolist(),
         "cell": atoms.cell.tolist(), "n_missing": 2}
        for name, atoms in [("one", HOST), ("two", another_setting(HOST))]
    ]  # fmt: skip
    source = tmp_path / "x.jsonl"
    source.write_text("".join(json.dumps(line) + "\n" for line in lines))
    counts = {}
    for duplicates in ("keep", "fill_once"):
        values = {**defaults("check"), "duplicates": duplicates}
        choice = make_settings(values, CheckSettings, source="test")
        report = run_check(source, references=None, settings=choice, outdir=tmp_path / duplicates)
        counts[duplicates] = (len(report["structures"]), len(report["duplicates"]))
    assert counts == {"keep": (2, 0), "fill_once": (1, 1)}
    check = tmp_path / "fill_once" / "check.json"
    row = next(row for row in structure_rows(read_tables(check, [])) if row.id == "two")
    assert (row.status, row.duplicate_of, row.message) == (
        "duplicate", "one", "the same crystal as one"
    )  # fmt: skip
    write_refusals(check, tmp_path)
    with (tmp_path / "results.csv").open(newline="") as file:
        cells = {line["id"]: line for line in csv.DictReader(file)}
    assert (cells["two"]["status"], cells["two"]["n_missing"], cells["two"]["method"]) == (
        "duplicate", "2", ""
    )  # fmt: skip


# --- n_missing auto ------------------------------------------------------------------------


def counted(atoms: Atoms, *, element: str = "H", own: Any = None) -> tuple[int | None, str]:
    """Return the number that CHECK takes with --n_missing auto, and why."""
    entry = Entry("x", "x", atoms=atoms, n_missing=own)
    hosts, failures = check_structures(
        [entry], element=element, n_missing="auto" if own is None else None, remove_existing=False
    )
    if failures:
        return None, failures[0].message
    return hosts[0].n_missing, hosts[0].notes[0]


def test_the_evidence_decides_the_number() -> None:
    note = "n_missing 2 taken from charge balance and bond valences"
    assert counted(HOST) == (2, note)
    assert counted(HOST, own=" Auto ") == (2, note)


def test_evidence_that_does_not_decide_is_told() -> None:
    count, why = counted(bulk("MgO", "rocksalt", a=4.212))
    assert count is None
    assert "missing charges 0 to 0, missing valences" in why
    assert "nothing states the number of Li" in counted(HOST, element="Li")[1]


@pytest.mark.parametrize("value", ["many", "0", 0, "-1", "1.5"])
def test_a_number_is_whole_or_auto(value: Any) -> None:
    with pytest.raises(ConfigError, match=r"give 1 or more, or auto"):
        make_settings({**defaults("check"), "n_missing": value}, CheckSettings, source="test")
