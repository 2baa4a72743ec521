"""A scan in parts: the same tables as in one process, and parts that hardly change."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from nextflow_project import REPOSITORY
from xtalfill.core.errors import InputError
from xtalfill.inputs.scan_parts import divide, judge_part, read_judged
from xtalfill.inputs.scanned import scan_one
from xtalfill.inputs.structures import Entry, Streamed, UnreadFile, list_structures, servers
from xtalfill.inputs.structures.evidence import Evidence, HydrogenCount
from xtalfill.inputs.structures.servers import download, read_download
from xtalfill.results.scan import scan, write_findings

CIFS = REPOSITORY / "tests" / "fixtures" / "inputs"


def in_parts(structures: Iterable[Streamed | UnreadFile], folder: Path, most: int) -> None:
    """Divide, judge each part, write the tables into `folder`/out."""
    names = divide(structures, folder / "parts", most=most)
    assert {path.stem for path in (folder / "parts").iterdir()} == set(names)
    for name in set(names):
        files = (folder / "parts" / f"{name}.files").read_text().splitlines()
        part, output = folder / "parts" / f"{name}.jsonl", folder / f"{name}.jsonl"
        judge_part(part, output, files=map(Path, files))
    found = read_judged(folder / f"{name}.jsonl" for name in names)
    write_findings(found, folder / "out", "input")


def files_of(folder: Path) -> dict[str, bytes]:
    """Return the content of each file of a folder by its path."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


@pytest.mark.parametrize("most", [1, 4, 1000])
def test_a_tree_of_cifs_with_all_kinds_of_evidence(tmp_path: Path, most: int) -> None:
    found = scan(CIFS, tmp_path / "one")
    assert min(found.counts["missing"], found.counts["failed"], found.counts["complete"]) > 0
    in_parts(list_structures(CIFS), tmp_path, most)
    assert files_of(tmp_path / "out") == files_of(tmp_path / "one")


def test_names_that_no_list_carries_are_read_at_once(tmp_path: Path) -> None:
    tree = tmp_path / "a tree"
    tree.mkdir()
    source = CIFS / "05_OH_label"
    names = ("plain.cif", "two\nlines.cif", "'; rm x.cif", "ä*.cif")
    for name, cif in zip(names, sorted(source.rglob("*.cif")) * 2, strict=True):
        shutil.copy(cif, tree / name)
    (tree / "link.cif").symlink_to(tree / "plain.cif")
    scan(tree, tmp_path / "one")
    in_parts(list_structures(tree), tmp_path, 10)
    assert files_of(tmp_path / "out") == files_of(tmp_path / "one")
    listed = "".join(path.read_text() for path in (tmp_path / "parts").glob("*.files"))
    assert sorted(Path(name).name for name in listed.splitlines()) == ["link.cif", "plain.cif"]


def test_structures_of_one_file_with_equal_ids(tmp_path: Path) -> None:
    host = Atoms("CaO", [(0, 0, 0), (3, 3, 3)], cell=[6, 6, 6], pbc=True)
    host.positions += np.random.default_rng(1).normal(scale=0.01, size=(2, 3))
    host.info["id"] = "twice"
    ase.io.write(tmp_path / "x.extxyz", [host, bulk("MgO", "rocksalt", a=4.2), host, host])
    scan(tmp_path / "x.extxyz", tmp_path / "one")
    in_parts(list_structures(tmp_path / "x.extxyz"), tmp_path, 1)
    found = files_of(tmp_path / "out")
    assert len([name for name in found if name.startswith("hosts/")]) == 3
    assert found == files_of(tmp_path / "one")


def test_a_server_has_its_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record = {"id": "a", "lattice_mat": (np.eye(3) * 4.2).tolist(), "coords": [[0, 0, 0]]}
    records = [{"atoms": record | {"elements": ["O"], "cartesian": True}}, {"nothing": 1}]
    monkeypatch.setitem(servers._SCHEMES, "https", lambda _url: iter(records))
    scan("https://db.example.org/optimade", tmp_path / "one")
    path, count = download("https://db.example.org/optimade", tmp_path)
    assert count == 2
    in_parts(map(Streamed, read_download(path)), tmp_path, 10)
    found = files_of(tmp_path / "out")
    assert b"db.example.org entry 0" in found["scan.csv"]
    assert found == files_of(tmp_path / "one")


NUMBERS = st.floats(-20, 20)
STATED = st.none() | st.builds(HydrogenCount, st.just(1.0), st.just(2.0), st.text(max_size=8))


@hypothesis_settings(max_examples=40, deadline=None)
@given(
    positions=arrays(np.float64, (3, 3), elements=NUMBERS),
    occupancy=st.none() | arrays(np.float64, 3, elements=st.floats(0.1, 1.0)),
    formula=st.none() | st.dictionaries(st.integers(1, 90), st.floats(0.5, 9), max_size=3),
    named=STATED,
    attached=STATED,
    name=st.none() | st.text(max_size=8),
)
def test_what_a_judgement_needs_comes_back_bit_for_bit(
    tmp_path_factory: pytest.TempPathFactory,
    positions: np.ndarray,
    occupancy: np.ndarray | None,
    formula: dict[int, float] | None,
    named: HydrogenCount | None,
    attached: HydrogenCount | None,
    name: str | None,
) -> None:
    folder = tmp_path_factory.mktemp("part")
    atoms = Atoms("CaO2", positions, cell=[5.1, 6.2, 7.3], pbc=True)
    if occupancy is not None:
        atoms.set_array("occupancy", occupancy)
    evidence = Evidence(formula=formula, unlocated={1: 2.0}, named=named, attached=attached)
    entry = Entry("source", "x", atoms=atoms, id=name, evidence=evidence)
    (part,) = divide([Streamed(entry)], folder, most=1)
    judge_part(folder / f"{part}.jsonl", folder / "judged")
    (found,) = read_judged([folder / "judged"])
    expected = scan_one(Streamed(entry))
    assert vars(found) | {"host": None} == vars(expected) | {"host": None}
    assert (found.host is None) == (expected.host is None)
    if found.host is not None and expected.host is not None:
        assert found.host == expected.host


def plain(number: int) -> Streamed:
    """Return a structure of which only the name counts."""
    return Streamed(Entry(f"frame {number}", f"x_{number}", error="none"))


@pytest.mark.parametrize("change", ["insert", "remove"])
def test_a_structure_more_or_less_changes_few_parts(tmp_path: Path, change: str) -> None:
    structures = [plain(number) for number in range(2000)]
    before = divide(structures, tmp_path / "a", most=20)
    assert before == divide(structures, tmp_path / "b", most=20)
    counts = [len((tmp_path / "a" / f"{name}.jsonl").read_text().splitlines()) for name in before]
    assert (max(counts) <= 20, sum(counts)) == (True, 2000)
    changed = structures.copy()
    if change == "insert":
        changed.insert(700, plain(-1))
    else:
        del changed[700]
    after = divide(changed, tmp_path / "c", most=20)
    assert 0 < len(set(after) - set(before)) <= 6 < len(before) / 15


def test_a_damaged_part_is_told_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_text('{"source": "x", ')
    with pytest.raises(InputError, match=r"x\.jsonl: no whole part of a scan; repeat the run"):
        judge_part(tmp_path / "x.jsonl", tmp_path / "y.jsonl")
    assert not (tmp_path / "y.jsonl").exists()
    with pytest.raises(InputError, match=r"x\.jsonl: not what a server gave; repeat the run"):
        list(read_download(tmp_path / "x.jsonl"))


def test_the_order_of_the_parts_is_that_of_the_input(tmp_path: Path) -> None:
    names = divide(map(plain, range(50)), tmp_path, most=4)
    lines = [
        json.loads(line)["source"]
        for name in names
        for line in (tmp_path / f"{name}.jsonl").read_text().splitlines()
    ]
    assert lines == [f"frame {number}" for number in range(50)]
