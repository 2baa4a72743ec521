"""Tables, structure files and evaluation.json: complete, exact, and readable by others."""

import csv
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import pytest
from ase import Atoms
from pymatgen.core import Structure

from hand_made_batches import Case, Made, brucite, build, lithium_hydride, write_check
from xtalfill.core.batch import Batch, Stage, write_batch
from xtalfill.core.errors import InputError
from xtalfill.core.io import atomic_writer, write_csv
from xtalfill.evaluate.match import evaluate_batch
from xtalfill.results import collect as module
from xtalfill.results.collect import best_over_methods, collect
from xtalfill.results.tables import FailureRow, read_tables

WRONG = (0, 0, 2.2)
STOPPED = "relax_positions: not converged in 500 steps, fmax 0.21 eV/Å"
REFUSED = {"id": "torn", "source": "torn.cif", "message": "cannot be read"}


def skewed() -> Atoms:
    """Return brucite in a rotated, left-handed setting that a CIF cannot hold as it is."""
    atoms = brucite()
    atoms.rotate(31.7, (1, 2, 3), rotate_cell=True)
    atoms.cell = atoms.cell[[1, 0, 2]]
    atoms.positions += (0.123456789012, -4.2, 1 / 3)
    return atoms


CASES = [
    Case(
        "mg",
        brucite(),
        2,
        [
            Made(),
            Made(relaxed=WRONG),
            Made(status="failed", message="relax_sites: blew up"),
            Made(status="unconverged", message=STOPPED),
            Made(method="random", relaxed=WRONG),
            Made(method="random", relaxed=(0, 0, 2.4)),
            Made(method="random", status="failed", message="relax_sites: blew up"),
            Made(method="random", relaxed=WRONG, energy=5.0),
        ],
    ),
    Case("0012", skewed(), 2, [Made(relaxed=(0, 0.1, 0)), Made(method="random")]),
    Case("free", lithium_hydride(), 4, [Made(), Made(method="random")], with_reference=False),
    Case("dead", brucite(), 2, [Made(status="failed", message="inpaint: no room")]),
]


def judged(cases: list[Case]) -> Batch:
    batch = build(cases)
    batch.stages["evaluate"] = evaluate_batch(batch)
    return batch


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Collect a run of two batches, with one structure refused and one lost."""
    folder = tmp_path_factory.mktemp("run")
    write_batch(judged(CASES[:2]), folder / "batch_0000.h5")
    write_batch(judged(CASES[2:]), folder / "batch_0001.h5")
    lost = Case("lost", brucite(), 2)
    write_check(folder / "check.json", [*CASES, lost], [REFUSED])
    batches = [folder / "batch_0001.h5", folder / "batch_0000.h5"]
    collect(folder / "check.json", batches, folder / "out")
    return folder


def read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_every_structure_of_the_input_has_its_rows(run: Path) -> None:
    rows = read_csv(run / "out" / "results.csv")
    assert [(row["id"], row["method"], row["status"]) for row in rows] == [
        ("0012", "host", "ok"),
        ("0012", "random", "ok"),
        ("dead", "host", "failed"),
        ("free", "host", "ok"),
        ("free", "random", "ok"),
        ("lost", "host", "failed"),
        ("lost", "random", "failed"),
        ("mg", "host", "ok"),
        ("mg", "random", "ok"),
        ("torn", "", "failed"),
    ]


def test_a_row_holds_what_was_promised(run: Path) -> None:
    rows = {(row["id"], row["method"]): row for row in read_csv(run / "out" / "results.csv")}
    row = rows["mg", "host"]
    assert (row["formula"], row["n_atoms"], row["element"], row["n_missing"]) == (
        "H2MgO2",
        "5",
        "H",
        "2",
    )
    assert float(row["energy"]) == -10.0
    assert float(row["energy_gap"]) == pytest.approx(2 * 2.2**2)
    assert (row["n_minima"], row["n_candidates"], row["n_ok"]) == ("2", "4", "2")
    assert (row["matched"], row["les"], row["host_matched"]) == ("True", "True", "True")
    assert rows["mg", "random"]["matched"] == "False"
    assert rows["free", "host"]["matched"] == ""  # no reference: not judged, which is not wrong
    assert rows["lost", "host"]["matched"] == "False"
    assert "its batch is missing" in rows["lost", "host"]["message"]
    assert rows["dead", "host"]["message"].endswith("inpaint: no room")
    assert rows["torn", ""]["message"] == "cannot be read"


def test_candidates_and_failures_are_complete(run: Path) -> None:
    candidates = read_csv(run / "out" / "candidates.csv")
    assert len(candidates) == sum(len(case.candidates) for case in CASES)
    failures = read_csv(run / "out" / "failures.csv")
    found = {(row["id"], row["method"], row["sample"], row["status"]) for row in failures}
    assert found == {
        ("torn", "", "", "failed"),
        ("lost", "", "", "failed"),
        ("mg", "host", "2", "failed"),
        ("mg", "host", "3", "unconverged"),
        ("mg", "random", "2", "failed"),
        ("dead", "host", "0", "failed"),
    }
    assert STOPPED in {row["message"] for row in failures}


def test_frames_come_back_to_the_last_bit(run: Path) -> None:
    frames = ase.io.read(run / "out" / "candidates.extxyz", ":")
    assert len(frames) == sum(len(case.candidates) for case in CASES)
    frame = next(f for f in frames if f.info["id"] == "0012" and f.info["method"] == "host")
    expected = skewed()
    expected.positions[3:] += (0, 0.1, 0)
    assert np.array_equal(frame.positions, expected.positions)
    assert np.array_equal(frame.cell.array, expected.cell.array)
    assert frame.pbc.all()
    assert frame.arrays["is_host"].tolist() == [True] * 3 + [False] * 2
    assert frame.get_potential_energy() == -10.0 + 2 * 0.1**2
    info = {name: frame.info[name] for name in ("sample", "seed", "status", "converged")}
    assert info == {"sample": 0, "seed": 42, "status": "ok", "converged": True}


def test_an_id_of_digits_stays_text_in_a_frame(run: Path) -> None:
    ids = {frame.info["id"] for frame in ase.io.iread(run / "out" / "selected.extxyz")}
    assert ids == {"0012", "free", "mg"}


@pytest.mark.parametrize("name", ["0012", "1e5", "T", "nan", "-3", "_JSON", "a.b-c_d", "true"])
def test_any_safe_id_comes_back_from_a_frame(name: str, tmp_path: Path) -> None:
    cases = [Case(name, brucite(), 2, [Made()], with_reference=False)]
    write_batch(judged(cases), tmp_path / "b.h5")
    write_check(tmp_path / "check.json", cases)
    collect(tmp_path / "check.json", [tmp_path / "b.h5"], tmp_path)
    assert ase.io.read(tmp_path / "selected.extxyz").info["id"] == name
    assert (tmp_path / "structures" / f"{name}.cif").is_file()


def test_a_failed_candidate_keeps_the_positions_it_had(run: Path) -> None:
    frames = ase.io.read(run / "out" / "candidates.extxyz", ":")
    frame = next(f for f in frames if f.info["id"] == "mg" and f.info["status"] == "failed")
    assert frame.info["stage"] == "inpaint"
    assert frame.calc is None or "energy" not in frame.calc.results
    assert np.isfinite(frame.positions).all()


def test_selected_frames_are_one_a_structure_and_method(run: Path) -> None:
    keys = [
        (frame.info["id"], frame.info["method"])
        for frame in ase.io.iread(run / "out" / "selected.extxyz")
    ]
    assert len(keys) == len(set(keys)) == 6


@pytest.mark.parametrize("folder", ["", "host_fixed"])
def test_cif_keeps_the_cell_and_the_sites(run: Path, folder: str) -> None:
    path = run / "out" / "structures" / folder / "0012.cif"
    true, found = skewed(), ase.io.read(path)
    assert found.cell.cellpar() == pytest.approx(true.cell.cellpar(), abs=1e-9)
    assert found.get_chemical_symbols() == true.get_chemical_symbols()
    # The random candidate is the lower one: its sites are the true ones.
    assert fractional_difference(found, true) < 1e-11
    assert "'P 1'" in path.read_text()
    assert "data_0012" in path.read_text()
    assert Structure.from_file(path).composition.formula == "Mg1 H2 O2"


def fractional_difference(found: Atoms, true: Atoms) -> float:
    """Return the largest difference of fractional coordinates, up to lattice vectors."""
    away = found.get_scaled_positions(wrap=False) - true.get_scaled_positions(wrap=False)
    return float(np.abs(away - np.round(away)).max())


def test_host_fixed_cif_holds_the_host_of_the_input(tmp_path: Path) -> None:
    case = Case("mg", brucite(), 2, [Made(relaxed=(0, 0, 0.05))])
    batch = judged([case])
    batch.stages["relax_positions"].arrays["positions"][:3] += 0.2
    write_batch(batch, tmp_path / "b.h5")
    write_check(tmp_path / "check.json", [case])
    collect(tmp_path / "check.json", [tmp_path / "b.h5"], tmp_path)
    fixed = ase.io.read(tmp_path / "structures" / "host_fixed" / "mg.cif")
    relaxed = ase.io.read(tmp_path / "structures" / "mg.cif")
    assert fractional_difference(fixed[:3], brucite()[:3]) < 1e-11
    assert fractional_difference(relaxed[:3], brucite()[:3]) > 0.01


def test_the_last_relaxation_is_what_is_written(tmp_path: Path) -> None:
    case = Case("mg", brucite(), 2, [Made()])
    batch = build([case])
    arrays = {k: array.copy() for k, array in batch.stages["relax_positions"].arrays.items()}
    arrays["positions"] += 0.2
    arrays["energy"] -= 3.0
    arrays["n_steps"][:] = 7
    batch.stages["relax_rank"] = Stage(arrays)
    batch.stages["evaluate"] = evaluate_batch(batch)
    write_batch(batch, tmp_path / "b.h5")
    write_check(tmp_path / "check.json", [case])
    collect(tmp_path / "check.json", [tmp_path / "b.h5"], tmp_path)
    row = read_csv(tmp_path / "candidates.csv")[0]
    assert (row["energy"], row["n_steps"], row["n_steps_rank"]) == ("-13.0", "12", "7")
    frame = ase.io.read(tmp_path / "selected.extxyz")
    assert (frame.info["stage"], frame.get_potential_energy()) == ("relax_rank", -13.0)
    np.testing.assert_array_equal(frame.positions, arrays["positions"][:5])
    relaxed = ase.io.read(tmp_path / "structures" / "mg.cif")
    assert fractional_difference(relaxed, brucite()) > 0.01


def test_disagreement_of_two_potentials_is_told(tmp_path: Path) -> None:
    two = [Made(), Made(relaxed=(0.0, 0.0, 2.2))]
    names = ("differ", "agree", "alone")
    cases = [Case(name, brucite(), 2, two, with_reference=False) for name in names]
    batch = build(cases)
    found = np.repeat(np.array([0, 1, -1], dtype=np.int8), 2)
    batch.stages["select"].arrays["ranking_agrees"] = found
    batch.stages["evaluate"] = evaluate_batch(batch)
    write_batch(batch, tmp_path / "b.h5")
    write_check(tmp_path / "check.json", cases)
    collect(tmp_path / "check.json", [tmp_path / "b.h5"], tmp_path)
    rows = {row["id"]: row["ranking_agrees"] for row in read_csv(tmp_path / "results.csv")}
    assert rows == {"differ": "False", "agree": "True", "alone": ""}
    every = [row["ranking_agrees"] for row in read_csv(tmp_path / "candidates.csv")]
    assert sorted(every) == ["", "", "False", "False", "True", "True"]
    counts = json.loads((tmp_path / "evaluation.json").read_text())["counts"]
    assert (counts["structures_ranked_twice"], counts["structures_ranking_differs"]) == (2, 1)


def test_dropped_and_merged_candidates_stay_in_the_tables(tmp_path: Path) -> None:
    dropped = Made(status="failed", message="relax_sites: dropped, 0.5 eV/atom above the best")
    case = Case("mg", brucite(), 2, [Made(), Made(), dropped])
    batch = build([case])
    batch.status[2] = "dropped"
    batch.stages["relax_positions"].arrays["merged_with"] = np.array([-1, 0, -1, -1])
    batch.stages["evaluate"] = evaluate_batch(batch)
    write_batch(batch, tmp_path / "b.h5")
    write_check(tmp_path / "check.json", [case])
    collect(tmp_path / "check.json", [tmp_path / "b.h5"], tmp_path)
    rows = read_csv(tmp_path / "candidates.csv")
    assert [row["merged_with"] for row in rows] == ["", "0", ""]
    assert [row["status"] for row in rows] == ["ok", "ok", "dropped"]
    assert rows[2]["message"] == dropped.message
    assert rows[2]["energy"] == ""
    assert read_csv(tmp_path / "failures.csv") == []
    content = json.loads((tmp_path / "evaluation.json").read_text())
    assert content["counts"]["candidates_dropped"] == 1
    assert content["methods"]["host"]["matched"]["single"]["mean"] == pytest.approx(2 / 3)


def collect_with_absent(case: Case, index: int, folder: Path) -> None:
    """Write the tables of a case one of whose candidates its method had no proposal for."""
    batch = build([case])
    batch.status[index] = "absent"
    batch.stages["evaluate"] = evaluate_batch(batch)
    write_batch(batch, folder / "b.h5")
    write_check(folder / "check.json", [case])
    collect(folder / "check.json", [folder / "b.h5"], folder)


def test_what_a_method_has_no_proposal_for_is_no_failure(tmp_path: Path) -> None:
    """Three samples of voids in a host with two: neither failed nor counted as wrong."""
    absent = Made(status="failed", message="inpaint: the host has 2 distinct way(s) to fill voids")
    case = Case("mg", brucite(), 2, [Made(), Made(relaxed=WRONG), absent])
    collect_with_absent(case, 2, tmp_path)
    rows = read_csv(tmp_path / "candidates.csv")
    assert [row["status"] for row in rows] == ["ok", "ok", "absent"]
    assert rows[2]["message"] == absent.message
    (result,) = read_csv(tmp_path / "results.csv")
    assert (result["status"], result["n_candidates"], result["n_ok"]) == ("ok", "2", "2")
    assert read_csv(tmp_path / "failures.csv") == []
    content = json.loads((tmp_path / "evaluation.json").read_text())
    counts = content["counts"]
    assert [counts[name] for name in ("candidates", "candidates_failed")] == [2, 0]
    assert counts["candidates_absent"] == 1
    voids = content["methods"]["host"]
    assert voids["n_samples"] == 2
    assert voids["matched"]["single"]["mean"] == pytest.approx(1 / 2)
    assert voids["matched_inpaint"]["single"]["mean"] == 1.0


def test_absent_candidates_are_not_blamed_for_a_bad_reference(tmp_path: Path) -> None:
    case = Case("mg", brucite(), 2, [Made(), Made(status="failed")], reference_status="unconverged")
    collect_with_absent(case, 1, tmp_path)
    rows = read_csv(tmp_path / "failures.csv")
    assert [(row["method"], row["sample"]) for row in rows] == [("host", "0"), ("reference", "0")]


def test_what_was_moved_out_of_atoms_is_told(tmp_path: Path) -> None:
    batch = judged(CASES[1:2])
    record = {"sites_moved": [2, 0, 0], "largest_shift": [1.25, 0.0, 0.0]}
    record |= {"sites_inside": [1, 0, 0]}
    batch.stages["inpaint"].arrays |= {name: np.array(row) for name, row in record.items()}
    write_batch(batch, tmp_path / "b.h5")
    write_check(tmp_path / "check.json", CASES[1:2])
    collect(tmp_path / "check.json", [tmp_path / "b.h5"], tmp_path / "out")
    rows = read_csv(tmp_path / "out" / "candidates.csv")
    found = [tuple(row[name] for name in record) for row in rows]
    assert found == [("2", "1.25", "1"), ("0", "0.0", "0")]


def test_structures_without_a_usable_candidate_have_no_cif(run: Path) -> None:
    assert cifs(run / "out") == {
        f"{folder}{stem}.cif" for stem in ("0012", "free", "mg") for folder in ("", "host_fixed/")
    }


def cifs(outdir: Path) -> set[str]:
    """Return the structure files, relative to their folder."""
    folder = outdir / "structures"
    return {str(path.relative_to(folder)) for path in folder.rglob("*.cif")}


def test_no_two_structures_share_a_file(tmp_path: Path) -> None:
    names = ["x", "x.host_fixed", "x.dft", "host_fixed", "dft", "Y", "y"]
    cases = [Case(name, brucite(), 2, [Made()]) for name in names]
    write_batch(judged(cases), tmp_path / "b.h5")
    write_check(tmp_path / "check.json", cases)
    collect(tmp_path / "check.json", [tmp_path / "b.h5"], tmp_path)
    found = cifs(tmp_path)
    assert len({name.lower() for name in found}) == 2 * len(names)
    stems = [*names[:5], "Y-18f5384d", "y-a1fce436"]
    assert found == {f"{folder}{stem}.cif" for stem in stems for folder in ("", "host_fixed/")}


def test_evaluation_counts_a_lost_structure_as_a_failure(run: Path) -> None:
    content = json.loads((run / "out" / "evaluation.json").read_text())
    counts = content["counts"]
    assert counts["structures_in"] == 6
    assert counts["structures_checked"] == 5
    assert counts["structures_lost"] == 1
    assert counts["structures_restored"] == 3
    assert counts["structures_with_reference"] == 4  # 0012, dead, lost, mg
    assert counts["structures_matched"] == 2
    host = content["methods"]["host"]
    assert host["n_with_reference"] == 4
    names = ("n_structures", "n_restored", "n_samples")
    numbers = {m: [found[name] for name in names] for m, found in content["methods"].items()}
    assert numbers == {"host": [5, 3, 4], "random": [4, 3, 4]}
    # mg: 1 of 4 (one failed, one unconverged, one wrong); 0012: 1 of 1; dead and lost: none.
    assert host["matched"]["single"]["mean"] == pytest.approx((1 / 4 + 1 + 0 + 0) / 4)
    assert host["matched"]["selected"]["mean"] == pytest.approx(2 / 4)
    curve = (1 - (3 / 4) ** 2 + 1) / 4
    assert host["matched"]["best_of_k"]["mean"][1] == pytest.approx(curve)
    assert host["matched"]["k"] == [1, 2, 3, 4]


def test_splits_cover_every_judged_structure(run: Path) -> None:
    content = json.loads((run / "out" / "evaluation.json").read_text())
    for method in content["methods"].values():
        for parts in method["splits"].values():
            assert sum(part["n_structures"] for part in parts) == method["n_with_reference"]
    labels = {part["label"] for part in content["methods"]["host"]["splits"]["site_class"]}
    assert labels == {"O-H", "not known"}


def test_methods_are_paired_on_the_structures_they_share(run: Path) -> None:
    content = json.loads((run / "out" / "evaluation.json").read_text())
    test = next(item for item in content["paired_tests"] if item["outcome"] == "matched")
    assert (test["first"], test["second"]) == ("host", "random")
    found = {name: test[name] for name in ("n_structures", "both", "only_first", "neither")}
    assert found == {"n_structures": 3, "both": 1, "only_first": 1, "neither": 1}


def test_equal_runs_give_equal_bytes(run: Path) -> None:
    batches = [run / "batch_0000.h5", run / "batch_0001.h5"]
    collect(run / "check.json", batches, run / "again")
    first = {path.relative_to(run / "out"): path for path in (run / "out").rglob("*.*")}
    for name, path in first.items():
        assert path.read_bytes() == (run / "again" / name).read_bytes(), name


def test_the_best_over_methods_prefers_what_converged(run: Path) -> None:
    tables = read_tables(run / "check.json", [run / "batch_0000.h5", run / "batch_0001.h5"])
    best = best_over_methods(tables)
    assert (best["mg"].method, best["mg"].sample) == ("host", 0)
    assert best["0012"].method == "random"
    assert set(best) == {"0012", "free", "mg"}


def test_a_structure_in_two_batches_is_refused(run: Path) -> None:
    write_batch(judged(CASES[:1]), run / "twice.h5")
    with pytest.raises(InputError, match="mg: in both"):
        read_tables(run / "check.json", [run / "batch_0000.h5", run / "twice.h5"])


@pytest.mark.parametrize("name", ["../up", "a/b", "", "x" * 101, "a b"])
def test_an_unsafe_id_never_becomes_a_path(name: str, tmp_path: Path) -> None:
    cases = [Case(name, brucite(), 2, [Made()])]
    write_batch(judged(cases), tmp_path / "b.h5")
    write_check(tmp_path / "check.json", cases)
    with pytest.raises(InputError, match="unsafe"):
        collect(tmp_path / "check.json", [tmp_path / "b.h5"], tmp_path / "out")
    assert not list(tmp_path.rglob("*.cif"))


def test_a_batch_before_evaluate_is_refused(tmp_path: Path) -> None:
    write_batch(build(CASES[:1]), tmp_path / "b.h5")
    write_check(tmp_path / "check.json", CASES[:1])
    with pytest.raises(InputError, match="no evaluate stage"):
        read_tables(tmp_path / "check.json", [tmp_path / "b.h5"])


def test_a_damaged_check_file_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "check.json").write_text('{"structures": [')
    with pytest.raises(InputError, match="not readable JSON"):
        read_tables(tmp_path / "check.json", [])


def test_a_file_appears_only_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "results.csv"
    path.write_text("old")
    with pytest.raises(UnicodeEncodeError), atomic_writer(path) as file:
        file.write("half \ud800")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_text_that_a_spreadsheet_would_run_is_quoted(tmp_path: Path) -> None:
    rows = [FailureRow("-1", "", None, "failed", "=HYPERLINK()", "+cmd|x")]
    write_csv(tmp_path / "f.csv", FailureRow, rows)
    row = read_csv(tmp_path / "f.csv")[0]
    assert (row["message"], row["source"], row["id"]) == ("'=HYPERLINK()", "'+cmd|x", "-1")


def test_the_command_writes_all_files(run: Path, tmp_path: Path, repository: Path) -> None:
    command = [sys.executable, repository / "bin" / "collect.py", "--check", run / "check.json"]
    command += ["--batches", run / "batch_0000.h5", run / "batch_0001.h5", "--outdir", tmp_path]
    subprocess.run(command, check=True)
    names = {path.name for path in tmp_path.iterdir()}
    tables = {"results.csv", "candidates.csv", "failures.csv", "evaluation.json", "structures"}
    assert names == tables | {"selected.extxyz", "candidates.extxyz"}
    assert module.__doc__ is not None
    assert all(name in module.__doc__ for name in names)


def test_without_batches_the_refused_structures_have_their_tables(
    tmp_path: Path, repository: Path
) -> None:
    write_check(tmp_path / "check.json", [], [REFUSED])
    command = [sys.executable, repository / "bin" / "collect.py", "--outdir", tmp_path / "out"]
    subprocess.run([*command, "--check", tmp_path / "check.json"], check=True)
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"results.csv", "failures.csv"}
    for name in names:
        (row,) = read_csv(tmp_path / "out" / name)
        assert (row["id"], row["message"]) == ("torn", "cannot be read")


def results(cases: list[Case], folder: Path) -> dict[str, Any]:
    """Collect a run; return the content of evaluation.json and the rows of results.csv."""
    write_batch(judged(cases), folder / "b.h5")
    write_check(folder / "check.json", cases)
    collect(folder / "check.json", [folder / "b.h5"], folder)
    content = json.loads((folder / "evaluation.json").read_text())
    return content | {"rows": read_csv(folder / "results.csv")}


def test_the_best_over_all_methods_is_what_a_run_counts(tmp_path: Path) -> None:
    """One method is right, the other lower and wrong; and a structure that is right by both."""
    lower = Made(relaxed=WRONG, energy=-1.0, method="voids")
    cases = [
        Case("low", brucite(), 2, [Made(), Made(relaxed=WRONG), lower]),
        Case("both", brucite(), 2, [Made(relaxed=(0, 0, 0.05)), Made(method="voids")]),
        Case("none", brucite(), 2, [Made(status="failed"), Made(status="failed", method="voids")]),
    ]
    found = results(cases, tmp_path)
    winners = {(row["id"], row["method"]): row["best_of_all"] for row in found["rows"]}
    assert [key for key, best in winners.items() if best == "True"] == [
        ("both", "voids"),
        ("low", "voids"),
    ]
    assert len(winners) == 6
    assert found["counts"]["structures_matched"] == 1
    assert found["counts"]["structures_les"] == 2
    together = found["all_methods"]
    names = ("n_structures", "n_restored", "n_with_reference", "n_samples")
    assert [together[name] for name in names] == [3, 2, 3, 3]
    assert together["matched"]["selected"]["mean"] == pytest.approx(1 / 3)
    assert together["les"]["selected"]["mean"] == pytest.approx(2 / 3)
    assert together["matched"]["single"]["mean"] == pytest.approx((1 / 3 + 1 + 0) / 3)
    (test,) = (
        item
        for item in found["paired_tests"]
        if (item["first"], item["second"], item["outcome"]) == ("host", "all methods", "matched")
    )
    assert (test["both"], test["only_first"], test["neither"]) == (1, 1, 1)


def test_a_lost_structure_counts_as_a_failure_of_all_methods(run: Path) -> None:
    content = json.loads((run / "out" / "evaluation.json").read_text())
    assert content["all_methods"]["n_with_reference"] == 4
    assert content["all_methods"]["n_structures"] == 5
    matched = content["counts"]["structures_matched"]
    assert content["all_methods"]["matched"]["selected"]["mean"] == pytest.approx(matched / 4)


def test_a_single_method_has_no_second_table(tmp_path: Path) -> None:
    found = results([Case("mg", brucite(), 2, [Made(), Made(relaxed=WRONG)])], tmp_path)
    assert found["all_methods"] is None
    assert found["paired_tests"] == []
    (row,) = found["rows"]
    assert (row["best_of_all"], row["minimum_of_all"]) == ("True", "0")
