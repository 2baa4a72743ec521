"""The stage CHECK: batches and check.json, which the other stages and the report read."""

import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import pytest
from ase import Atoms
from hypothesis import given
from hypothesis import strategies as st

from stage_settings import write_settings
from xtalfill.core.batch import REFERENCE, Batch, read_batch
from xtalfill.core.errors import ConfigError
from xtalfill.inputs.batching import USUAL_ATOMS, plan_batches
from xtalfill.inputs.check import CheckSettings, run_check

OPTIONS: dict[str, Any] = {
    "element": "H",
    "n_missing": 2,
    "remove_existing": False,
    "method": "host,random",
    "samples": 3,
    "oversample": 1,
    "seed": 42,
    "batch_size": 2,
    "n_tries": 0,
    "duplicates": "keep",
    "mlip": "7net-0",
    "mlip_rank": None,
}


def run(source: Path, outdir: Path, *, references: Path | None = None, **changes: Any) -> Any:
    """Run CHECK and return its report, as written, and its batches."""
    settings = CheckSettings(**OPTIONS | changes)
    run_check(source, references=references, settings=settings, outdir=outdir)
    report = json.loads((outdir / "check.json").read_text())
    return report, [read_batch(path) for path in sorted((outdir / "batches").iterdir())]


@pytest.fixture
def frames(tmp_path: Path, brucite: Atoms, rocksalt: Atoms) -> Path:
    """Return an extxyz of seven hosts of different size."""
    hosts = []
    for number in range(7):
        atoms = (brucite if number % 2 else rocksalt).copy()
        atoms = atoms[atoms.numbers != 1].repeat((1, 1, 1 + number // 2))
        atoms.rattle(0.01, seed=number)
        atoms.info["id"] = f"x{number}"
        hosts.append(atoms)
    path = tmp_path / "hosts.extxyz"
    ase.io.write(path, hosts)
    return path


def system(batch: Batch, name: str, method: str, sample: int) -> dict[str, Any]:
    """Return all data of one system of a batch."""
    (index,) = [
        i
        for i in range(batch.n_systems)
        if (batch.id[i], batch.method[i], batch.sample[i]) == (name, method, sample)
    ]
    here = batch.atoms_slice(index)
    return {
        "positions": batch.positions[here].tobytes(),
        "numbers": batch.atomic_numbers[here].tobytes(),
        "is_host": batch.is_host[here].tobytes(),
        "cell": batch.cell[index].tobytes(),
        "seed": int(batch.seed[index]),
        "status": batch.status[index],
        "message": batch.message[index],
    }


# --- batches -------------------------------------------------------------------------------


def test_every_candidate_is_laid_out_with_its_missing_sites(frames: Path, tmp_path: Path) -> None:
    report, batches = run(frames, tmp_path / "out")
    inputs = {atoms.info["id"]: atoms for atoms in ase.io.read(frames, index=":")}
    seen = []
    for batch in batches:
        groups = batch.groups()
        assert len(groups) <= 2
        for name, members in groups.items():
            keys = [(batch.method[i], int(batch.sample[i])) for i in members]
            assert keys == [(m, s) for m in ("host", "random") for s in range(3)]
            seen.append(name)
            (row,) = [item for item in report["structures"] if item["id"] == name]
            assert read_batch(tmp_path / "out" / "batches" / row["batch"]).groups() == groups
            for index in members:
                here = batch.atoms_slice(index)
                n_host = len(inputs[name])
                assert batch.is_host[here].tolist() == [True] * n_host + [False] * 2
                assert np.array_equal(batch.positions[here][:n_host], inputs[name].positions)
                assert np.isnan(batch.positions[here][n_host:]).all()
                assert batch.atomic_numbers[here][n_host:].tolist() == [1, 1]
                assert np.array_equal(batch.cell[index], inputs[name].cell)
                assert (batch.seed[index], batch.status[index]) == (42, "ok")
    assert sorted(seen) == [f"x{i}" for i in range(7)]
    assert (
        len(batches) == report["n_batches"] == len({one["batch"] for one in report["structures"]})
    )


def test_input_order_changes_no_byte(frames: Path, tmp_path: Path) -> None:
    atoms = ase.io.read(frames, index=":")
    random.Random(1).shuffle(atoms)
    shuffled = tmp_path / "shuffled.extxyz"
    ase.io.write(shuffled, atoms)
    run(frames, tmp_path / "a")
    run(shuffled, tmp_path / "b", method="random,host")
    first = sorted((tmp_path / "a" / "batches").iterdir())
    second = sorted((tmp_path / "b" / "batches").iterdir())
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]


def test_structure_does_not_depend_on_its_batch(frames: Path, tmp_path: Path) -> None:
    _, small = run(frames, tmp_path / "a", batch_size=1)
    _, (whole,) = run(frames, tmp_path / "b", batch_size=50)
    for batch in small:
        for index in range(batch.n_systems):
            key = (batch.id[index], batch.method[index], int(batch.sample[index]))
            assert system(batch, *key) == system(whole, *key)


SIZES = st.dictionaries(st.text("abc", max_size=4), st.integers(1, 1000), min_size=1)


@given(sizes=SIZES, batch_size=st.integers(1, 12), data=st.data())
def test_plans_are_complete_bounded_and_independent_of_order(
    sizes: dict[str, int], batch_size: int, data: st.DataObject
) -> None:
    plan = plan_batches(sizes, batch_size=batch_size)
    assert sorted(name for batch in plan.values() for name in batch) == sorted(sizes)
    assert all(0 < len(batch) <= batch_size for batch in plan.values())
    order = data.draw(st.permutations(sorted(sizes)))
    assert plan_batches({name: sizes[name] for name in order}, batch_size=batch_size) == plan


@given(sizes=SIZES, size=st.integers(1, 1000), batch_size=st.integers(1, 12))
def test_additional_structure_changes_one_batch(
    sizes: dict[str, int], size: int, batch_size: int
) -> None:
    before = plan_batches(sizes, batch_size=batch_size)
    after = plan_batches({**sizes, "new": size}, batch_size=batch_size)
    changed = [name for name, names in before.items() if after.get(name) != names]
    assert len(changed) <= (batch_size > 1)


def test_batches_cost_about_the_same(rng: np.random.Generator) -> None:
    sizes = {f"x{i}": int(size) for i, size in enumerate(rng.integers(5, 400, 2000))}
    plan = plan_batches(sizes, batch_size=50)
    loads = [sum(sizes[name] for name in batch) for batch in plan.values()]
    assert max(loads) <= 1.6 * np.mean(loads)
    assert np.std(loads) <= 0.35 * np.mean(loads)
    assert len(plan) <= 1.7 * sum(max(1, size / USUAL_ATOMS) for size in sizes.values()) / 50


# --- references ----------------------------------------------------------------------------


def test_references_are_added_and_bad_ones_reported(
    tmp_path: Path, brucite: Atoms, rocksalt: Atoms
) -> None:
    hosts, references = [], []
    for name, whole in [("a", brucite), ("b", brucite), ("c", rocksalt)]:
        atoms = whole[whole.numbers != 1]
        atoms.info = {"id": name, "n_missing": int((whole.numbers == 1).sum())}
        hosts.append(atoms)
    for name, atoms in [("a", brucite), ("b", rocksalt), ("d", brucite)]:
        reference = atoms.copy()
        reference.info["id"] = name
        references.append(reference)
    ase.io.write(tmp_path / "h.extxyz", hosts)
    ase.io.write(tmp_path / "r.extxyz", references)
    report, batches = run(
        tmp_path / "h.extxyz", tmp_path / "out", references=tmp_path / "r.extxyz", batch_size=9
    )
    (batch,) = batches
    index = batch.reference_of("a")
    assert index is not None
    written = ase.io.read(tmp_path / "r.extxyz", index=0)
    assert np.array_equal(batch.positions[batch.atoms_slice(index)], written.positions)
    assert batch.is_host[batch.atoms_slice(index)].tolist() == [True] * 3 + [False] * 2
    assert (batch.method == REFERENCE).sum() == 1
    assert list(batch.groups()) == ["a", "b", "c"]
    assert [item["id"] for item in report["reference_failures"]] == ["b", "d"]
    assert [item["reference"] for item in report["structures"]] == ["r.extxyz frame 0", None, None]


# --- report and command --------------------------------------------------------------------


@pytest.fixture
def mixed_sheet(tmp_path: Path, hosts_folder: Path) -> Path:
    """Return a sheet of two good rows and three bad ones."""
    whole = (hosts_folder / "brucite.cif").read_text()
    (hosts_folder / "cut.cif").write_text(whole[: len(whole) // 2])
    sheet = tmp_path / "sheet.csv"
    sheet.write_text(
        "id,structure,element,n_missing\n"
        "good,hosts/brucite.cif,H,2\n"
        "gone,hosts/absent.cif,H,2\n"
        "cut,hosts/cut.cif,H,2\n"
        "also_good,hosts/POSCAR_LiH,H,4\n"
        "silent,hosts/brucite.cif,H,\n"
    )
    return sheet


def test_report_holds_every_row_as_structure_or_failure(mixed_sheet: Path, tmp_path: Path) -> None:
    report, _ = run(mixed_sheet, tmp_path / "out", n_missing=None)
    assert [item["id"] for item in report["structures"]] == ["also_good", "good"]
    good = report["structures"][1]
    assert good == {
        "id": "good",
        "formula": "MgH2O2",
        "n_atoms": 5,
        "host_formula": "MgO2",
        "n_host": 3,
        "element": "H",
        "n_missing": 2,
        "volume": pytest.approx(3.14**2 * 4.77 * 3**0.5 / 2, abs=0.001),
        "source": "sheet.csv line 2 (hosts/brucite.cif)",
        "reference": None,
        "batch": good["batch"],
        "notes": [],
    }
    assert [item["id"] for item in report["failures"]] == ["cut", "gone", "silent"]
    assert report["failures"][1]["source"] == "sheet.csv line 3 (hosts/absent.cif)"
    assert report["parameters"]["seed"] == 42


def command(source: Path, outdir: Path, *extra: str) -> subprocess.CompletedProcess[str]:
    """Run bin/check_structures.py as the pipeline does."""
    script = Path(__file__).resolve().parents[2] / "bin" / "check_structures.py"
    settings = write_settings(outdir.parent, "check", samples=2, batch_size=5)
    fixed = ["--settings", settings, "--outdir", outdir]
    return subprocess.run(
        [sys.executable, script, "--input", source, *fixed, *extra],
        capture_output=True,
        text=True,
        check=False,
    )


def test_command_prints_one_line_per_bad_structure(mixed_sheet: Path, tmp_path: Path) -> None:
    result = command(mixed_sheet, tmp_path / "out")
    assert result.returncode == 0
    lines = result.stderr.splitlines()
    assert [line.split(" (")[0] for line in lines[:3]] == [
        "SKIPPED cut",
        "SKIPPED gone",
        "SKIPPED silent",
    ]
    assert lines[3].startswith("HINT skipped for want of n_missing: 1; write the numbers into")
    assert lines[4:] == ["CHECK: 2 usable, 3 skipped"]
    assert list((tmp_path / "out" / "batches").glob("batch_*.h5"))


def test_notes_do_not_flood_the_log(
    tmp_path: Path, brucite: Atoms, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "many.extxyz"
    ase.io.write(path, [brucite] * 30)
    report, _ = run(path, tmp_path / "out", remove_existing=True)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 22
    assert lines[-2:] == ["NOTE 10 more notes are in check.json", "CHECK: 30 usable, 0 skipped"]
    assert all(item["notes"] == ["2 H removed"] for item in report["structures"])


def test_command_exits_65_without_usable_structures(tmp_path: Path, hosts_folder: Path) -> None:
    result = command(hosts_folder, tmp_path / "out")
    assert result.returncode == 65
    last = result.stderr.splitlines()[-1]
    assert last.startswith("ERROR: ")
    assert "none of the 2 structures can be used" in last
    assert "Traceback" not in result.stderr
    report = json.loads((tmp_path / "out" / "check.json").read_text())
    assert [item["id"] for item in report["failures"]] == ["LiH", "brucite"]
    assert not (tmp_path / "out" / "batches").exists()


def test_command_accepts_the_demo(repository: Path, tmp_path: Path) -> None:
    demo = repository / "assets" / "demo"
    result = command(
        demo / "hosts.csv", tmp_path / "out", "--references", str(demo / "references.extxyz")
    )
    assert (result.returncode, result.stderr) == (0, "CHECK: 6 usable, 0 skipped\n")
    batches = [read_batch(path) for path in (tmp_path / "out" / "batches").iterdir()]
    assert sum(len(batch.groups()) for batch in batches) == 6
    for batch in batches:
        for name, members in batch.groups().items():
            index = batch.reference_of(name)
            assert index is not None
            volumes = [abs(np.linalg.det(batch.cell[i])) for i in (members[0], index)]
            assert volumes[0] == pytest.approx(volumes[1], rel=1e-6)


@pytest.mark.parametrize(
    "change",
    [
        {"element": "Xx"},
        {"n_missing": 0},
        {"samples": 0},
        {"batch_size": 0},
        {"seed": -1},
        {"method": ""},
        {"method": "host,host"},
        {"method": "reference"},
        {"method": "../x"},
        {"oversample": 0},
    ],
)
def test_parameters_that_cannot_be_used(change: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="--"):
        CheckSettings(**OPTIONS | change)
