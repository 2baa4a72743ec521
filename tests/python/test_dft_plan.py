"""PLAN_DFT and GATHER_DFT: selected systems, refused systems, and results in the batch."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase.io import read

from dft_examples import (
    REPOSITORY,
    TABLE,
    find_pw,
    hydrogen_molecule,
    lih_system,
    made_pseudos,
    protocol,
)
from hand_made_batches import Case, Made, brucite, build, lithium_hydride, write_check
from stage_settings import write_settings
from xtalfill.core.batch import Batch, Stage, read_batch, write_batch
from xtalfill.core.errors import ConfigError, InputError
from xtalfill.dft.estimate import (
    CostModel,
    cost_summary,
    job_requirements,
    problem_size,
    read_cost_model,
)
from xtalfill.dft.gather import gather_dft
from xtalfill.dft.job import read_job
from xtalfill.dft.plan import (
    PlannedSystem,
    ValidationChoice,
    disputed_structures,
    draw_structures,
    plan_batch,
    select_systems,
    unsure_structures,
)
from xtalfill.dft.plan_run import Plan
from xtalfill.dft.pseudos import read_table
from xtalfill.dft.result import Attempt, PwResult
from xtalfill.dft.theory import LevelOfTheory
from xtalfill.evaluate.dft import evaluate_dft
from xtalfill.evaluate.match import evaluate_batch
from xtalfill.relax.select import select_candidates
from xtalfill.results.collect import collect
from xtalfill.results.dft_summary import STATUSES, summarise_dft
from xtalfill.results.tables import read_tables

CHOICE = ValidationChoice(
    window=0.01, candidates=3, max_structures=None, max_electrons=400, seed=42
)
COST = REPOSITORY / "assets" / "dft_cost.json"
FAR = (0.0, 0.0, 2.2)
CASES = [
    Case(
        "brucite",
        brucite(),
        2,
        [
            Made(),
            Made(relaxed=(0.0, 0.0, 0.01)),  # the same minimum
            Made(relaxed=FAR, energy=0.04),  # another one, 8 meV/atom above
            Made(relaxed=(0.0, 0.0, -2.2), energy=0.5),  # another one, 100 meV/atom above
            Made(status="failed", message="relax_sites: blew up"),
            Made(method="random"),  # also found by host
        ],
    ),
    Case("lih", lithium_hydride(), 4, [Made()]),
    Case("free", lithium_hydride(), 4, [Made()], with_reference=False),
    Case("bad", brucite(), 2, [Made()], reference_status="failed"),
    Case("dead", brucite(), 2, [Made(status="failed", message="inpaint: no room")]),
]


def level(*, spin: bool = False, without: str = "") -> LevelOfTheory:
    table = read_table(TABLE)
    valence = {"Mg": 2.0, "O": 6.0, "H": 1.0, "Li": 3.0}
    fast = protocol("fast")
    return LevelOfTheory(
        protocol=fast,
        table=table,
        valence={k: v for k, v in valence.items() if k != without},
        degauss=fast.degauss,
        smearing=fast.smearing,
        spin=spin,
    )


@pytest.fixture
def batch() -> Batch:
    """Return the cases after SELECT; the two candidates of one minimum share its number."""
    made = build(CASES)
    first, second = members(made, "brucite")[:2]
    made.stages["select"].arrays["minimum"][second] = made.stages["select"].arrays["minimum"][first]
    return made


def members(batch: Batch, name: str) -> list[int]:
    return batch.groups()[name]


def names(
    batch: Batch, name: str, choice: ValidationChoice = CHOICE
) -> list[tuple[str, int, bool]]:
    found = select_systems(batch, name, choice)
    return [(batch.method[i], int(batch.sample[i]), i == own) for i, own in found]


def test_lowest_minima_within_the_window_are_selected(batch: Batch) -> None:
    assert names(batch, "brucite") == [
        ("host", 0, True),
        ("host", 2, True),
        ("random", 0, False),  # calculated once
        ("reference", 0, True),
    ]
    assert names(batch, "brucite", replace(CHOICE, window=0.0))[:2] == [
        ("host", 0, True),
        ("random", 0, False),
    ]
    assert len(names(batch, "brucite", replace(CHOICE, window=1.0))) == 5
    assert names(batch, "brucite", replace(CHOICE, window=1.0, candidates=1))[0] == (
        "host",
        0,
        True,
    )
    assert len(names(batch, "brucite", replace(CHOICE, window=1.0, candidates=1))) == 3


def test_lowest_minimum_of_each_potential_is_selected_where_they_differ(batch: Batch) -> None:
    """Host 3 is 100 meV/atom above by the second potential, and the lowest by the first."""
    first = batch.stages["relax_positions"]
    batch.stages["relax_rank"] = Stage({name: a.copy() for name, a in first.arrays.items()})
    host = [index for index in members(batch, "brucite") if batch.method[index] == "host"]
    agrees = np.full(batch.n_systems, -1, dtype=np.int8)
    agrees[host] = 0
    first.arrays["energy"][host[3]] -= 10.0
    assert names(batch, "brucite")[:2] == [("host", 0, True), ("host", 2, True)]
    batch.stages["select"].arrays["ranking_agrees"] = agrees
    assert names(batch, "brucite")[:3] == [("host", k, True) for k in (0, 3, 2)]
    assert names(batch, "brucite", replace(CHOICE, candidates=2))[:3] == [
        ("host", 0, True),
        ("host", 3, True),
        ("random", 0, False),
    ]
    agrees[host] = 1
    assert names(batch, "brucite")[:2] == [("host", 0, True), ("host", 2, True)]


def test_usable_references_are_included(batch: Batch) -> None:
    assert names(batch, "lih") == [("host", 0, True), ("reference", 0, True)]
    assert names(batch, "free") == [("host", 0, True)]
    assert names(batch, "bad") == [("host", 0, True)]
    assert names(batch, "dead") == []  # no candidate to compare with


def test_jobs_are_complete(batch: Batch) -> None:
    sent, jobs = plan_batch(batch, "batch_0000", {"brucite", "lih"}, CHOICE, level())
    assert len(sent) == 6
    assert len(jobs) == 5
    assert [one.key for one in sent if one.system == one.calculation] == [
        job.system.key for job in jobs
    ]
    job = next(job for job in jobs if job.system.name == "lih")
    assert (job.system.ecutwfc, job.system.ecutrho) == (60.0, 480.0)
    assert job.system.n_electrons == 16.0
    assert job.n_symmetry == 192
    assert job.system.n_irreducible < np.prod(job.system.kpoints)
    assert max(job.shift_host, job.shift_filled) < 1e-9
    reference = batch.reference_of("brucite")
    moved = next(one for one in jobs if one.system.key == f"batch_0000.{reference}")
    scaled = moved.system.atoms.get_scaled_positions(wrap=False) + moved.origin
    assert moved.cell == pytest.approx(batch.cell[reference], abs=1e-12)
    assert np.abs(scaled @ moved.cell - batch.to_ase(reference).positions).max() < 1e-6


def test_impossible_calculations_are_refused_with_a_reason(batch: Batch) -> None:
    sent, jobs = plan_batch(batch, "b", {"brucite", "lih"}, CHOICE, level(without="Li"))
    assert {one.refused for one in sent if one.id == "lih"} == {"dft: no pseudopotential for Li"}
    assert {job.system.name for job in jobs} == {"brucite"}
    small = replace(CHOICE, max_electrons=15)
    sent, jobs = plan_batch(batch, "b", {"lih"}, small, level())
    assert not jobs
    assert sent[0].refused == "dft: 16 valence electrons, more than --max_electrons 15"


def test_two_atoms_on_one_site_are_refused(batch: Batch) -> None:
    index = members(batch, "lih")[0]
    here = batch.atoms_slice(index)
    positions = batch.stages["relax_positions"].arrays["positions"]
    positions[here.stop - 1] = positions[here.start] + [0.2, 0.1, 0.0]
    sent, jobs = plan_batch(batch, "b", {"lih"}, CHOICE, level())
    assert "two atoms are 0.22 Å apart" in sent[0].refused
    assert [job.system.key for job in jobs] == [f"b.{batch.reference_of('lih')}"]


def test_a_sample_does_not_depend_on_the_others() -> None:
    ids = [f"s{number}" for number in range(50)]
    chosen = draw_structures(ids, replace(CHOICE, max_structures=10))
    assert len(chosen) == 10
    assert draw_structures(ids[::-1] + ids, replace(CHOICE, max_structures=10)) == chosen
    fewer = draw_structures(ids[:25], replace(CHOICE, max_structures=10))
    assert chosen & set(ids[:25]) <= fewer
    assert draw_structures(ids, replace(CHOICE, max_structures=10, seed=43)) != chosen
    assert draw_structures(ids, CHOICE) == set(ids)


def test_structures_on_which_potentials_differ_are_chosen_first() -> None:
    ids = [f"s{number}" for number in range(50)]
    ten = replace(CHOICE, max_structures=10)
    first = {"s3", "s30", "s44"}
    chosen = draw_structures(ids, ten, first=first)
    assert (len(chosen), first <= chosen) == (10, True)
    assert len(draw_structures(ids, ten) & chosen) >= 7
    assert draw_structures(ids, replace(CHOICE, max_structures=2), first=first) < first
    assert draw_structures(ids, ten, first=set(ids)) == draw_structures(ids, ten)


def test_structures_are_unsure_with_half_of_the_candidates_in_the_lowest_minimum() -> None:
    def made(*energies: float) -> list[Made]:
        return [Made(energy=one, relaxed=FAR if one else (0.0, 0.0, 0.0)) for one in energies]

    cases = [
        Case("half", brucite(), 2, made(0.0, 0.5)),
        Case("most", brucite(), 2, made(0.0, 0.0, 0.5)),
        Case("one", brucite(), 2, made(0.0)),
    ]
    batch = build(cases)
    select_candidates(batch)
    assert unsure_structures(batch) == {"half"}


def test_their_jobs_come_first(batch: Batch) -> None:
    assert disputed_structures(batch) == set()  # a batch of an earlier release
    agrees = np.full(batch.n_systems, -1, dtype=np.int8)
    agrees[members(batch, "brucite")] = 0
    agrees[members(batch, "lih")] = 1
    batch.stages["select"].arrays["ranking_agrees"] = agrees
    assert disputed_structures(batch) == {"brucite"}
    sent, jobs = plan_batch(batch, "b", set(batch.groups()), CHOICE, level())
    plan = Plan(sent, jobs, {}, frozenset({"brucite"}))
    content = plan.content(read_cost_model(COST, "relaxation"))
    reference = batch.reference_of("brucite")
    assert f"b.{reference}" in content["first"]
    expected = [job.system.key for job in jobs if job.system.name == "brucite"]
    assert content["first"] == expected
    assert len(expected) < len(jobs)


@pytest.mark.parametrize("change", [{"window": -1.0}, {"candidates": 0}, {"max_electrons": 0}])
def test_choice_out_of_range_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(change))):
        replace(CHOICE, **change)


def test_cost_grows_with_the_crystal(tmp_path: Path) -> None:
    job = lih_system()
    model = CostModel(seconds=2.0, exponent=1.0, n_scf=30.0, spread=1.5, machine="test")
    assert problem_size(replace(job, n_irreducible=8)) == pytest.approx(2 * problem_size(job))
    assert problem_size(replace(job, spin=True)) == pytest.approx(2 * problem_size(job))
    assert problem_size(replace(job, ecutwfc=120.0)) == pytest.approx(8 * problem_size(job))
    # 906 plane waves and 6 bands is what pw.x 6.7 reports for this cell at 60 Ry.
    assert problem_size(replace(job, ecutwfc=60.0)) == pytest.approx(4 * 6 * 906, rel=0.05)
    assert model.core_hours(job) == pytest.approx(30 * 2.0 * problem_size(job) / 1e6 / 3600)
    # 4 electrons: 6 bands, four above the occupied ones; 60 electrons: a fifth more, 36
    heavy = replace(job, valence={"Li": 59.0, "H": 1.0})
    assert problem_size(heavy) == pytest.approx(6 * problem_size(job))
    bent = replace(model, exponent=1.2)
    assert bent.core_hours(job) / 60.0 == pytest.approx((problem_size(job) / 1e6) ** 1.2 / 3600)
    assert cost_summary(model, [job, job])["core_hours"] == pytest.approx(
        2 * model.core_hours(job), abs=1e-3
    )
    assert cost_summary(model, [])["core_hours_longest"] == 0.0
    path = tmp_path / "cost.json"
    for text in ("{", '{"host": {"model": {"seconds": 1}}}', '{"host": {"runs": []}}'):
        path.write_text(text, encoding="utf-8")
        with pytest.raises(ConfigError, match="not a cost model of a host"):
            read_cost_model(path, "host")
    for kind in ("host", "relaxation"):
        assert read_cost_model(COST, kind).n_scf > 1


def found(batch: Batch, sent: PlannedSystem, *, energy: float, status: str = "ok") -> PwResult:
    """Return a result at the relaxed positions."""
    here = batch.atoms_slice(sent.calculation)
    positions = batch.stages["relax_positions"].arrays["positions"][here]
    nothing = np.full(positions.shape, np.nan)
    attempts = [
        Attempt({}, "scf_not_converged", "no", "mixing_beta 0.32", 0, 80, 9.0, 8.0),
        Attempt({}, "", "", "", 4, 30, 5.0, 4.0),
    ]
    failed = status == "failed"
    return PwResult(
        key=sent.key,
        status=status,
        message="" if status == "ok" else "dft: refused by pw after 1 attempt(s): no",
        energy=np.nan if failed else energy,
        positions=nothing if failed else positions,
        forces=nothing if failed else np.full(positions.shape, 0.01),
        energy_start=energy + 0.1,
        forces_start=np.full(positions.shape, 0.3),
        magnetization=0.0,
        n_symmetry=12,
        version="6.7MaX",
        attempts=attempts,
    )


def test_plan_contains_the_size_of_each_job(batch: Batch) -> None:
    sent, jobs = plan_batch(batch, "batch_0000", set(batch.groups()), CHOICE, level())
    plan, model = Plan(sent, jobs, {}), read_cost_model(COST, "relaxation")
    content = plan.content(model)
    # An identical crystal of another method has no job of its own.
    assert len(content["jobs"]) == len(jobs) < len(content["systems"])
    for job in jobs:
        assert content["jobs"][job.system.key] == {
            "size": pytest.approx(problem_size(job.system) / 1e6, rel=0.005),
            "core_hours": pytest.approx(model.core_hours(job.system), rel=0.005),
        }
    # Even a small size is listed.
    tiny = replace(lih_system(), ecutwfc=1e-3)
    assert job_requirements(model, [tiny])[tiny.key]["core_hours"] > 0.0


@pytest.fixture
def gathered(batch: Batch) -> Batch:
    """Return the batch after DFT, which lowers host 2 of brucite below host 0."""
    sent, jobs = plan_batch(batch, "batch_0000", set(batch.groups()), CHOICE, level())
    parameters = {"window": 0.01, "protocol": {"name": "fast"}, "functional": "PBE"}
    parameters |= {"library": "SSSP 1.3.0 PBE efficiency"}
    plan = Plan(sent, jobs, parameters).content(read_cost_model(COST, "relaxation"))
    plan = json.loads(json.dumps(plan))
    for one in plan["systems"]:
        assert max(one["shift_host"], one["shift_filled"]) < 1e-9
        one |= {"shift_host": 0.02, "shift_filled": 0.003 + one["sample"] / 1000}
    energy = {("host", 0): -50.0, ("host", 2): -50.1, ("reference", 0): -50.0}
    results = [
        found(
            batch,
            one,
            energy=energy[(one.method, one.sample)],
            status="failed" if one.id == "free" else "ok",
        )
        for one in sent
        if one.system == one.calculation
    ]
    gather_dft(batch, "batch_0000", plan, results)
    batch.stages["evaluate"] = evaluate_batch(batch)
    batch.stages["evaluate"].arrays |= evaluate_dft(batch)
    return batch


def test_results_are_stored_in_the_batch(gathered: Batch, tmp_path: Path) -> None:
    dft = gathered.stages["dft"].arrays
    host, random = members(gathered, "brucite")[0], members(gathered, "brucite")[5]
    assert dft["status"][host] == dft["status"][random] == "ok"
    assert dft["energy"][random] == dft["energy"][host] == -50.0
    assert dft["calculation"][random] == host
    assert dft["fmax_start"][host] == pytest.approx(0.3 * np.sqrt(3))
    assert dft["n_steps"][host] == 4
    assert dft["repairs"][host] == "scf_not_converged -> mixing_beta 0.32"
    assert dft["status"][members(gathered, "brucite")[1]] == ""
    assert gathered.stages["dft"].attrs["pw"] == ["6.7MaX"]
    write_batch(gathered, tmp_path / "b.h5")
    again = read_batch(tmp_path / "b.h5")
    one = again.subset([host])
    assert one.stages["dft"].arrays["forces_start"].shape == (5, 3)


def test_killed_job_fails_its_crystal(batch: Batch) -> None:
    sent, jobs = plan_batch(batch, "batch_0000", {"lih", "brucite"}, CHOICE, level())
    plan = Plan(sent, jobs, {}).content(read_cost_model(COST, "relaxation"))
    killed = batch.reference_of("lih")
    results = [
        found(batch, one, energy=-50.0) for one in sent if one.system == one.calculation != killed
    ]
    gather_dft(batch, "batch_0000", plan, results)
    dft = batch.stages["dft"].arrays
    assert {one.system: dft["status"][one.system] for one in sent} == {
        one.system: "failed" if one.system == killed else "ok" for one in sent
    }
    assert dft["message"][killed].startswith("dft: killed in every attempt; ")
    assert np.isnan(dft["energy"][killed])
    other = replace(results[0], key="batch_0000.999")
    with pytest.raises(InputError, match=r"batch_0000\.999: this result belongs to no job"):
        gather_dft(batch, "batch_0000", plan, [other])


def test_batch_without_selected_systems(batch: Batch) -> None:
    sent, jobs = plan_batch(batch, "batch_0000", {"lih"}, CHOICE, level())
    plan = Plan(sent, jobs, {}).content(read_cost_model(COST, "relaxation"))
    gather_dft(batch, "batch_0001", plan, [])
    assert not any(batch.stages["dft"].arrays["status"])


def test_dft_evaluation_and_ranks(gathered: Batch) -> None:
    judged = gathered.stages["evaluate"].arrays
    host, other = members(gathered, "brucite")[0], members(gathered, "brucite")[2]
    assert (judged["dft_rank"][host], judged["dft_rank"][other]) == (1, 0)
    assert judged["dft_matched"][host]
    assert not judged["dft_matched"][other]
    assert judged["dft_les"][other]
    assert judged["dft_energy_above_reference"][other] == pytest.approx(-0.1 / 5)
    free = members(gathered, "free")[0]
    assert judged["dft_rank"][free] == -1
    assert not judged["dft_has_reference"][free]


def test_tables_contain_dft_results(gathered: Batch, tmp_path: Path) -> None:
    write_batch(gathered, tmp_path / "batch_0000.h5")
    write_check(tmp_path / "check.json", CASES)
    collect(tmp_path / "check.json", [tmp_path / "batch_0000.h5"], tmp_path)
    tables = read_tables(tmp_path / "check.json", [tmp_path / "batch_0000.h5"])
    content = json.loads((tmp_path / "evaluation.json").read_text(encoding="utf-8"))
    assert content["counts"]["references_unusable"] == 1  # bad
    dft = content["dft"]
    assert dft["candidates"] == 6  # brucite 2 + 1, lih, free, bad
    counts = {name: dft[f"candidates_{name}"] for name in STATUSES}
    assert counts == {"ok": 5, "unconverged": 0, "failed": 1, "refused": 0}
    assert dft["candidates_repaired"] == 6
    assert dft["judged"] == 3
    assert dft["les"] == 3
    assert dft["matched"] == 2
    assert (dft["rankings"], dft["rankings_agree"]) == (1, 0)
    # host 2 against host 0 and the reference: both pairs are reversed by DFT
    assert (dft["pairs"], dft["pairs_in_order"]) == (2, 0)
    assert dft["mean_abs_error_of_difference"] == pytest.approx((0.008 + 0.02) / 4)
    with (tmp_path / "results.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    row = next(r for r in rows if (r["id"], r["method"]) == ("brucite", "host"))
    assert (row["sample"], row["dft_sample"], row["dft_agrees"]) == ("0", "2", "False")
    assert float(row["dft_energy"]) == -50.1
    assert (float(row["dft_shift_host"]), float(row["dft_shift_filled"])) == (0.02, 0.005)
    with (tmp_path / "candidates.csv").open(encoding="utf-8", newline="") as file:
        shifts = [one["dft_shift_filled"] for one in csv.DictReader(file) if one["id"] == "brucite"]
    assert shifts == ["0.003", "", "0.005", "", "", "0.003"]
    assert next(r for r in rows if r["id"] == "free")["dft_status"] == "failed"
    assert next(r for r in rows if r["id"] == "dead")["dft_status"] == ""
    assert (tmp_path / "structures" / "dft" / "brucite.cif").is_file()
    assert not (tmp_path / "structures" / "dft" / "free.cif").exists()
    failure = next(f for f in tables.failures if f.id == "free")
    assert failure.message.startswith("dft: refused by pw")


@pytest.mark.parametrize(
    ("energies", "pairs", "in_order"),
    [  # of host 0, host 2 and the reference; by the potential 0, 0.04 and 0 eV. The other method
        # has one candidate, equal to host 0, and so a pair with the reference.
        ((-50.0, -49.9, -50.0), 2, 2),
        ((-50.0, -50.1, -50.0), 2, 0),
        ((-50.0, -49.9, -50.04), 4, 2),
        ((-50.0, -50.04, -50.02), 4, 0),
        ((-50.0, -50.004, -50.0), 0, 0),  # closer than 1 meV/atom
    ],
)
def test_pairs_distinguished_by_dft(
    gathered: Batch, tmp_path: Path, energies: Any, pairs: int, in_order: int
) -> None:
    rows = [*members(gathered, "brucite")[::2][:2], gathered.reference_of("brucite")]
    gathered.stages["dft"].arrays["energy"][rows] = energies
    gathered.stages["evaluate"].arrays |= evaluate_dft(gathered)
    write_batch(gathered, tmp_path / "batch_0000.h5")
    write_check(tmp_path / "check.json", CASES)
    found = summarise_dft(read_tables(tmp_path / "check.json", [tmp_path / "batch_0000.h5"]))
    assert found is not None
    assert (found["pairs"], found["pairs_in_order"]) == (pairs, in_order)


@pytest.mark.parametrize(
    ("energies", "unconverged", "sample"),
    [((-50.0, -50.1), (), 2), ((-50.2, -50.1), (), 0), ((-50.2, -50.1), (0,), 2),
     ((-50.2, -50.1), (0, 2), 0)],
)  # fmt: skip
def test_dft_structure_is_the_lowest_converged_one(
    gathered: Batch, tmp_path: Path, energies: tuple[float, float], unconverged: Any, sample: int
) -> None:
    dft, rows = gathered.stages["dft"].arrays, members(gathered, "brucite")
    dft["energy"][rows[0]], dft["energy"][rows[2]] = energies
    dft["energy"][rows[5]] = -49.0  # of another method
    for number in unconverged:
        dft["status"][rows[number]], dft["converged"][rows[number]] = "unconverged", False
    gathered.stages["evaluate"].arrays |= evaluate_dft(gathered)
    write_batch(gathered, tmp_path / "batch_0000.h5")
    write_check(tmp_path / "check.json", CASES)
    collect(tmp_path / "check.json", [tmp_path / "batch_0000.h5"], tmp_path)
    written = read(tmp_path / "structures" / "dft" / "brucite.cif")
    expected = gathered.to_ase(rows[sample], stage="dft")
    assert written.get_scaled_positions() == pytest.approx(expected.get_scaled_positions())


def test_no_dft_columns_without_dft(batch: Batch, tmp_path: Path) -> None:
    batch.stages["evaluate"] = evaluate_batch(batch)
    write_batch(batch, tmp_path / "batch_0000.h5")
    write_check(tmp_path / "check.json", CASES)
    collect(tmp_path / "check.json", [tmp_path / "batch_0000.h5"], tmp_path)
    content = json.loads((tmp_path / "evaluation.json").read_text(encoding="utf-8"))
    assert content["dft"] is None
    assert not (tmp_path / "structures" / "dft").exists()


def command(name: str, *arguments: object, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a command of bin/ in a folder."""
    return subprocess.run(
        [sys.executable, str(REPOSITORY / "bin" / name), *map(str, arguments)],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )


def plan_command(folder: Path, table: Path, pseudos: Path) -> subprocess.CompletedProcess[str]:
    assets, settings = REPOSITORY / "assets", write_settings(folder, "plan_dft")
    return command(
        "plan_dft.py", "--batches", "batch_0000.h5", "--protocol", assets / "protocols/fast.yaml",
        "--table", table, "--cost", assets / "dft_cost.json", "--pseudo_dir", pseudos,
        "--settings", settings, "--outdir", ".", "--record", "plan_dft.json", folder=folder,
    )  # fmt: skip


def test_missing_pseudopotentials_end_the_run_before_any_job(batch: Batch, tmp_path: Path) -> None:
    write_batch(batch, tmp_path / "batch_0000.h5")
    result = plan_command(tmp_path, TABLE, tmp_path)
    assert result.returncode == 78
    assert result.stderr.startswith("ERROR: --pseudo_dir lacks 4 pseudopotential(s)")
    assert not (tmp_path / "jobs").exists()


def test_the_three_commands_relax_a_crystal(tmp_path: Path) -> None:
    """From SELECT to EVALUATE with pw.x: molecules of hydrogen, pseudopotential of ld1.x."""
    find_pw()
    pseudos, table = made_pseudos(tmp_path)
    coarse = vars(table["H"]) | {"cutoff_wfc": 35.0, "cutoff_rho": 140.0}
    (tmp_path / "table.json").write_text(json.dumps({"H": coarse}), encoding="utf-8")
    case = Case("h2", hydrogen_molecule(), 1, [Made(relaxed=(0.04, 0.04, 0.0))])
    write_batch(build([case]), tmp_path / "batch_0000.h5")
    result = plan_command(tmp_path, tmp_path / "table.json", pseudos)
    assert result.returncode == 0, result.stderr
    told = json.loads((tmp_path / "plan.json").read_text(encoding="utf-8"))["parameters"]
    assert [told[name] for name in ("table", "library", "functional")] == ["table.json", "", "PBE"]
    jobs = sorted((tmp_path / "jobs").iterdir())
    assert len(jobs) == 2
    settings = write_settings(tmp_path, "pw_relax", dft_launcher="mpirun -np {ranks}")
    for job in jobs:
        key = read_job(job).system.key
        result = command(
            "pw_relax.py", "--job", job, "--pseudo_dir", pseudos, "--cores", 1,
            "--settings", settings, "--max_seconds", 3600, "--checkpoint", f"{key}.c",
            "--kept", key, "--output", f"{key}.json", "--record", f"pw_relax_{key}.json",
            folder=tmp_path,
        )  # fmt: skip
        assert result.returncode == 0, result.stderr
    assert not list(tmp_path.glob("pw_[a-z0-9_]*/"))  # the scratch folders were removed
    result = command(
        "gather_dft.py", "--batch", "batch_0000.h5", "--plan", "plan.json", "--results",
        *(f"{read_job(job).system.key}.json" for job in jobs), "--output", "after.h5",
        "--record", "gather.json", folder=tmp_path,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    result = command(
        "evaluate.py", "--batch", "after.h5", "--output", "done.h5", "--record", "e.json",
        folder=tmp_path,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    done = read_batch(tmp_path / "done.h5")
    assert list(done.stages["dft"].arrays["status"]) == ["ok", "ok"]
    judged = done.stages["evaluate"].arrays
    assert abs(judged["dft_energy_above_reference"][0]) < 0.002
    for index in range(2):
        distance = done.to_ase(index, stage="dft").get_distance(0, 1, mic=True)
        assert distance == pytest.approx(0.75, abs=0.03)
