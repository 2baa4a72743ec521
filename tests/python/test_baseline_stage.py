"""Voids and potential in a batch: jobs, results, statuses, commands."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms

from dft_examples import find_pw, made_pseudos, protocol
from potential_examples import RULES, lithium
from stage_settings import write_settings
from xtalfill.core.batch import Batch, read_batch, write_batch
from xtalfill.core.crystal import Crystal
from xtalfill.core.errors import InputError
from xtalfill.dft.estimate import read_cost_model
from xtalfill.dft.pseudos import Pseudo
from xtalfill.inputs.batching import build_batch
from xtalfill.inputs.hosts import CheckedHost
from xtalfill.proposals.dft_potential.calculation import PotentialCalculator
from xtalfill.proposals.dft_potential.gather import gather_potential
from xtalfill.proposals.dft_potential.job import (
    PlacementResult,
    jobs_of,
    read_job,
    read_result,
    write_job,
    write_result,
)
from xtalfill.proposals.dft_potential.mlip import MlipSolver
from xtalfill.proposals.dft_potential.plan import plan_hosts
from xtalfill.proposals.dft_potential.restore import Placement, Round
from xtalfill.proposals.diffusion.settings import SamplerSettings
from xtalfill.proposals.score_models import ScoreModels
from xtalfill.proposals.stage import inpaint_batch
from xtalfill.relax.interface import Evaluation

REPOSITORY = Path(__file__).resolve().parents[2]
COST = REPOSITORY / "assets" / "dft_cost.json"
DONE = Round(2, 4, 4, 2, exact=True, highest=1.0)


PLAN = {"hosts": [], "jobs": {"batch_0000.0": {}, "batch_0000.4": {}}}


def hosts(brucite_host: Atoms) -> list[CheckedHost]:
    palladium = Atoms("Pd", cell=np.array([[0, 1, 1], [1, 0, 1], [1, 1, 0]]) * 1.95, pbc=True)
    return [
        CheckedHost("brucite", "", brucite_host, 1, 2),
        CheckedHost("palladium", "", palladium, 1, 1),
    ]


def filled(given: list[CheckedHost], *, methods: tuple[str, ...], samples: int) -> Batch:
    batch = build_batch(given, {}, methods=methods, samples=samples, seed=42)
    inpaint_batch(batch, ScoreModels(), SamplerSettings())
    return batch


def sites_of(batch: Batch, index: int) -> np.ndarray:
    here = batch.atoms_slice(index)
    return batch.stages["inpaint"].arrays["positions"][here][~batch.is_host[here]]


def test_voids_fill_at_most_the_distinct_ways(brucite_host: Atoms) -> None:
    """Palladium has two kinds of voids, octahedral and tetrahedral: no third candidate exists."""
    batch = filled(hosts(brucite_host), methods=("voids",), samples=3)
    status = {(batch.id[i], batch.sample[i]): batch.status[i] for i in range(batch.n_systems)}
    assert [status["brucite", k] for k in range(3)] == ["ok"] * 3
    assert [status["palladium", k] for k in range(3)] == ["ok", "ok", "absent"]
    last = int(np.flatnonzero((batch.id == "palladium") & (batch.sample == 2))[0])
    assert batch.message[last] == "inpaint: the host has 2 distinct way(s) to fill voids"
    assert np.isfinite(batch.stages["inpaint"].arrays["positions"][batch.is_host]).all()
    first = int(np.flatnonzero((batch.id == "palladium") & (batch.sample == 0))[0])
    assert sites_of(batch, first) == pytest.approx(np.full((1, 3), 1.95), abs=1e-6)


def test_voids_do_not_depend_on_the_batch(brucite_host: Atoms) -> None:
    together = filled(hosts(brucite_host), methods=("random", "voids"), samples=2)
    alone = filled(hosts(brucite_host)[:1], methods=("voids",), samples=1)
    rows = (together.id == "brucite") & (together.method == "voids") & (together.sample == 0)
    same = sites_of(together, int(np.flatnonzero(rows)[0]))
    assert np.array_equal(sites_of(alone, 0), same)


@pytest.fixture
def batch(brucite_host: Atoms) -> Batch:
    """Return a batch whose potential candidates are not filled yet."""
    return filled(hosts(brucite_host), methods=("potential", "voids"), samples=2)


def test_a_host_is_one_job(batch: Batch, tmp_path: Path) -> None:
    jobs = jobs_of(batch, "batch_0000")
    assert [(job.id, job.element, job.n_sites, job.samples) for job in jobs] == [
        ("brucite", 1, 2, 2),
        ("palladium", 1, 1, 2),
    ]
    write_job(jobs[0], tmp_path / "job.json")
    back = read_job(tmp_path / "job.json")
    for name in asdict(back):
        assert np.array_equal(getattr(back, name), getattr(jobs[0], name))
    one, other = (job.generator().random() for job in jobs)
    assert one != other
    assert one == back.generator().random()


def test_annealing_depends_on_the_seed_of_the_run(batch: Batch) -> None:
    batch.seed[:] = 7
    jobs = jobs_of(batch, "batch_0000")
    assert [job.seed for job in jobs] == [7, 7]
    numbers = {job.generator().random() for job in (*jobs, replace(jobs[0], seed=8))}
    assert len(numbers) == 3
    assert jobs[0].generator().random() == replace(jobs[1], id="brucite").generator().random()


@pytest.mark.parametrize(
    "change",
    [{"key": "../../etc.1"}, {"positions": [[0, 0]]}, {"format": "other"}, {"more": 1}],
)
def test_forged_job_of_a_host_is_refused(
    batch: Batch, tmp_path: Path, change: dict[str, Any]
) -> None:
    path = tmp_path / "job.json"
    write_job(jobs_of(batch, "batch_0000")[0], path)
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(InputError, match=r"job\.json: not a job of PLAN_POTENTIAL"):
        read_job(path)


def test_impossible_hosts_are_refused_before_any_job(batch: Batch, tmp_path: Path) -> None:
    """Palladium without a pseudopotential; brucite with too many electrons, hydrogen included."""
    files = {name: f'z_valence="{z}"'.encode() for name, z in (("H", 1), ("Mg", 10), ("O", 6))}
    table = {}
    for name, content in files.items():
        (tmp_path / f"{name}.UPF").write_bytes(content)
        digest = hashlib.md5(content, usedforsecurity=False).hexdigest()
        table[name] = Pseudo(f"{name}.UPF", digest, 30.0, 120.0)
    found = {}
    for most in (24, 23):
        plan = plan_hosts(
            {"batch_0000": batch},
            protocol=protocol("fast"),
            table=table,
            pseudo_dir=tmp_path,
            degauss=0.01,
            max_electrons=most,
        )
        found[most] = plan.content(read_cost_model(COST, "host"))
    few, many = ([host["refused"] for host in found[most]["hosts"]] for most in (24, 23))
    assert few == ["", "no pseudopotential for Pd"]
    assert many == ["24 valence electrons, more than --max_electrons 23", few[1]]
    assert (found[24]["estimate"]["jobs"], found[23]["estimate"]["jobs"]) == (1, 0)
    ((key, needs),) = found[24]["jobs"].items()
    assert key == found[24]["hosts"][0]["key"]
    assert min(needs["size"], needs["core_hours"]) > 0.0
    assert found[23]["jobs"] == {}
    gather_potential(batch, "batch_0000", found[23], [])
    for index in np.flatnonzero(batch.method == "potential"):
        assert batch.status[index] == "failed"
        assert batch.message[index].startswith("inpaint: potential: ")
    assert (batch.status[batch.method == "voids"] == "ok").all()


def results(batch: Batch, folder: Path, candidates: list[list[Placement]]) -> list[dict[str, Any]]:
    found = []
    for job, mine in zip(jobs_of(batch, "batch_0000"), candidates, strict=True):
        write_result(
            PlacementResult(job.key, mine, [], {"degauss": 0.01}), folder / f"{job.key}.json"
        )
        found.append(read_result(folder / f"{job.key}.json"))
    return found


def test_results_and_failures_are_stored_in_the_batch(batch: Batch, tmp_path: Path) -> None:
    voids = np.flatnonzero((batch.id == "brucite") & (batch.method == "voids"))
    sites = sites_of(batch, int(voids[1]))
    given = [
        [Placement(sites, "", [DONE]), Placement(None, "no more")],
        [Placement(None, "pw.x, memory: killed")] * 2,
    ]
    before = [sites_of(batch, i) for i in range(batch.n_systems) if batch.method[i] == "voids"]
    gather_potential(batch, "batch_0000", PLAN, results(batch, tmp_path, given))
    rows = {(batch.id[i], batch.method[i], batch.sample[i]): i for i in range(batch.n_systems)}
    first = rows["brucite", "potential", 0]
    assert np.array_equal(sites_of(batch, first), sites)
    pinball = batch.stages["inpaint"].arrays["pinball"]
    assert pinball[first]
    assert pinball.sum() == 1
    failed = rows["palladium", "potential", 1]
    assert batch.status[failed] == "failed"
    assert batch.message[failed] == "inpaint: potential: pw.x, memory: killed"
    after = [sites_of(batch, i) for i in range(batch.n_systems) if batch.method[i] == "voids"]
    assert all(np.array_equal(a, b) for a, b in zip(before, after, strict=True))
    write_batch(batch, tmp_path / "batch_0000.h5")
    assert read_batch(tmp_path / "batch_0000.h5").stages["inpaint"].attrs["potential"] == {
        "degauss": 0.01
    }


def test_inconsistent_results_are_refused(batch: Batch, tmp_path: Path) -> None:
    wrong = [[Placement(np.zeros((1, 3)))] * 2] * 2
    found = results(batch, tmp_path, wrong)
    with pytest.raises(InputError, match="brucite: its result belongs to another crystal"):
        gather_potential(batch, "batch_0000", PLAN, found)
    found[1]["key"] = "batch_0000.5"
    with pytest.raises(InputError, match=r"batch_0000\.5: this result belongs to no job"):
        gather_potential(batch, "batch_0000", PLAN, found)
    (tmp_path / "x.json").write_text("{}")
    with pytest.raises(InputError, match=r"x\.json: not a result of PLACE_POTENTIAL"):
        read_result(tmp_path / "x.json")


def test_killed_job_fails_its_host(batch: Batch, tmp_path: Path) -> None:
    found = results(batch, tmp_path, [[Placement(np.zeros((2, 3)))] * 2, [Placement(None)] * 2])
    gather_potential(batch, "batch_0000", PLAN, found[:1])
    mine = batch.method == "potential"
    assert (batch.status[mine & (batch.id == "brucite")] == "ok").all()
    killed = np.flatnonzero(mine & (batch.id == "palladium"))
    assert batch.status[killed].tolist() == ["failed"] * 2
    said = "inpaint: potential: killed in every attempt; "
    assert all(batch.message[index].startswith(said) for index in killed)
    assert (batch.status[~mine] == "ok").all()


class Spring:
    """A potential that pulls every atom but the first to one position."""

    name, packages, weights = "spring", (), {}
    elements = frozenset({1, 3})

    def evaluate(self, crystals: list[Any]) -> list[Evaluation]:
        """Return energies and forces."""
        found = []
        for crystal in crystals:
            forces = 2.0 - crystal.positions
            found.append(Evaluation(float((forces**2).sum() / 2), forces))
        return found


def test_potential_relaxes_placed_atoms(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def potential(self: PotentialCalculator, crystal: Crystal, extra: int) -> np.ndarray:
        asked.append((crystal, extra))
        return np.zeros((4, 4, 4))

    monkeypatch.setattr(PotentialCalculator, "potential", potential)
    electrons = PotentialCalculator("lih", None, None, None, None)
    solver = MlipSolver(electrons, Spring(), fmax=0.01, max_steps=100)
    start = lithium().with_atoms(1, np.array([[1.5, 2.0, 2.2]]))
    relaxed, _ = solver.relaxed(start, np.array([False, True]), 1)
    assert np.array_equal(relaxed.positions[0], start.positions[0])
    assert relaxed.positions[1] == pytest.approx([2.0, 2.0, 2.0], abs=0.02)
    assert asked[0][0] is relaxed
    assert asked[0][1] == 1


def test_the_commands_fill_lithium_hydride(tmp_path: Path) -> None:
    """plan, place and gather with pw.x and pp.x, as called by the pipeline."""
    find_pw()
    pseudos, table = made_pseudos(tmp_path)
    table = {name: replace(one, cutoff_wfc=20.0, cutoff_rho=80.0) for name, one in table.items()}
    (tmp_path / "table.json").write_text(json.dumps({k: asdict(v) for k, v in table.items()}))
    host = lithium()
    atoms = Atoms(host.numbers, host.positions, cell=host.cell, pbc=True)
    batch = filled([CheckedHost("lih", "", atoms, 1, 1)], methods=("potential",), samples=1)
    write_batch(batch, tmp_path / "batch_0000.h5")

    def call(command: str, *arguments: str) -> None:
        words = [sys.executable, str(REPOSITORY / "bin" / command), *arguments]
        done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr

    shared = ["--table", "table.json", "--pseudo_dir", str(pseudos)]
    fast = REPOSITORY / "assets" / "protocols" / "fast.yaml"
    shared += ["--protocol", str(fast), "--settings", "settings.json"]
    write_settings(tmp_path, "plan_potential", max_electrons=9)
    call("plan_potential.py", "--batches", "batch_0000.h5", *shared, "--cost", str(COST),
         "--outdir", ".", "--record", "plan_potential.json")  # fmt: skip
    write_settings(
        tmp_path, "place_potential", baseline_choices=RULES.bound, sites_max_steps=1,
        dft_launcher="mpirun -np {ranks}", dft_scratch=".",
    )  # fmt: skip
    call("place_potential.py", "--job", "jobs/batch_0000.0.json", *shared, "--cores", "1",
         "--checkpoint", "c", "--kept", "kept", "--output", "batch_0000.0.json",
         "--record", "place.json")  # fmt: skip
    call("gather_potential.py", "--batch", "batch_0000.h5", "--plan", "plan.json",
         "--results", "batch_0000.0.json", "--output", "out.h5",
         "--record", "gather.json")  # fmt: skip
    found = read_batch(tmp_path / "out.h5")
    assert found.status.tolist() == ["ok"]
    assert sites_of(found, 0) == pytest.approx(np.full((1, 3), 2.04), abs=0.02)
    record = json.loads((tmp_path / "place.json").read_text())
    assert record["counts"] == {"ok": 1, "failed": 0}
    assert record["weights"]["Li.UPF"].startswith("md5:")
    assert (record["parameters"]["library"], record["parameters"]["functional"]) == ("", "PBE")
    assert not list(tmp_path.glob("potential_*"))
