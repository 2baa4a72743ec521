"""Numbers of missing sites that `--n_missing auto` compares by energy, from CHECK to the report."""

from __future__ import annotations

import csv
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk

from analytic_potential import WELL, MorsePotential
from stage_settings import defaults
from xtalfill.checks.stage import check_batch
from xtalfill.core.batch import Batch, Stage, read_batch, write_batch
from xtalfill.core.counts import counted_groups, counted_id, counted_of, less_likely, structure_of
from xtalfill.core.io import read_json
from xtalfill.core.settings import make_settings
from xtalfill.evaluate.match import evaluate_batch
from xtalfill.inputs.batching import build_batch, plan_batches
from xtalfill.inputs.check import CheckSettings, run_check
from xtalfill.inputs.counts import plan_tries
from xtalfill.inputs.duplicates import find_duplicates
from xtalfill.inputs.hosts import CheckedHost, check_structures
from xtalfill.inputs.known import Known, together
from xtalfill.inputs.references import match_references
from xtalfill.inputs.structures import Entry
from xtalfill.relax.counting import Count, add_count_energies, counts_of, probabilities
from xtalfill.relax.select import select_candidates
from xtalfill.relax.settings import RelaxSettings
from xtalfill.relax.stage import make_driver, relax_batch
from xtalfill.results.collect import collect
from xtalfill.results.counts import count_rows, count_text
from xtalfill.results.report.counted import compared_structures

RELAX = RelaxSettings(
    sites_fmax=0.1, sites_max_steps=30, fmax=0.1, max_steps=30, max_atoms_per_batch=100, mu=-0.2
)


def magnesium() -> Atoms:
    """Return a metal: nothing tells how much hydrogen it lacks."""
    atoms: Atoms = bulk("Mg", "hcp", a=3.2, c=5.2)
    return atoms


def checked(n_tries: int, **names: Atoms) -> tuple[list[CheckedHost], list[Any]]:
    entries = [
        Entry(fallback_id=name, source=f"{name}.cif", id=name, atoms=atoms)
        for name, atoms in names.items()
    ]
    return check_structures(
        entries, element="H", n_missing="auto", remove_existing=False, n_tries=n_tries
    )


def filled(hosts: list[CheckedHost]) -> Batch:
    """Return the batch of some hosts after INPAINT with sites drawn at random."""
    batch = build_batch(hosts, {}, methods=["random"], samples=2, seed=42)
    rng = np.random.default_rng(1)
    positions = batch.positions.copy()
    empty = np.flatnonzero(~batch.is_host)
    cells = batch.cell[batch.system_idx[empty]]
    positions[empty] = np.einsum("ni,nij->nj", rng.random((len(empty), 3)), cells)
    batch.stages["inpaint"] = Stage({"positions": positions})
    return batch


@pytest.fixture(scope="module")
def selected() -> Batch:
    """Return two structures with two numbers each, and one with a given number, after SELECT."""
    hosts, failures = checked(2, one=magnesium(), two=magnesium())
    assert not failures
    given = CheckedHost("given", "given.cif", hosts[0].atoms, 1, 2)
    batch = filled([given, *hosts])
    relax_batch(batch, MorsePotential(), RELAX)
    select_candidates(batch)
    return batch


def test_ids_cannot_collide() -> None:
    name = counted_id("mp-1.a_b", 12, "H")
    assert (counted_of(name), structure_of(name)) == ("mp-1.a_b", "mp-1.a_b")
    assert (counted_of("mp-1"), structure_of("mp-1")) == ("", "mp-1")
    assert not re.fullmatch(r"[A-Za-z0-9._-]+", name)  # what CHECK makes of the ids of an input


def test_the_numbers_are_multiples_of_the_formula_units() -> None:
    tries = plan_tries(magnesium(), n_tries=3, most=100)
    assert tries.numbers == (2, 4, 6)
    assert np.exp(tries.log_prior).sum() == pytest.approx(1)
    assert plan_tries(magnesium(), n_tries=3, most=5).numbers == (2, 4)


def test_charges_centre_the_numbers_and_make_them_likely(brucite_host: Atoms) -> None:
    tries = plan_tries(brucite_host, n_tries=3, most=50)
    assert tries.numbers == (1, 2, 3)  # MgO2 lacks two charges
    assert int(np.argmax(tries.log_prior)) == 2  # the first is that of 0
    four = plan_tries(brucite_host.repeat((2, 1, 1)), n_tries=3, most=50)
    assert four.numbers == (2, 4, 6)


def test_an_undecided_structure_becomes_a_host_for_each_number(brucite_host: Atoms) -> None:
    hosts, failures = checked(2, mg=magnesium(), brucite=brucite_host)
    assert not failures
    found = {host.id: host.n_missing for host in hosts}
    assert found == {"brucite": 2, "mg+2H": 2, "mg+4H": 4}  # brucite: the evidence decides
    assert [host.log_prior is not None for host in hosts] == [False, True, True]
    assert "compared are 0, 2, 4" in hosts[1].notes[0]
    assert len(hosts[2].numbers) == 6


def test_without_tries_it_is_skipped_with_the_evidence() -> None:
    hosts, (failure,) = checked(0, mg=magnesium())
    assert not hosts
    assert failure.message.startswith("n_missing auto: nothing states the number")


def test_all_numbers_of_a_structure_are_in_one_batch() -> None:
    sizes = {counted_id(f"s{k}", n, "H"): 4 for k in range(20) for n in range(1, 8)}
    sizes |= {f"s{k}": 4 for k in range(20)}
    plan = plan_batches(sizes, batch_size=10)
    assert sorted(name for ids in plan.values() for name in ids) == sorted(sizes)
    assert len(plan) > 10
    for ids in plan.values():
        assert {len(members) for members in counted_groups(ids).values()} == {7}


def test_the_energy_is_that_against_host_and_chemical_potential(selected: Batch) -> None:
    energies = selected.stages["relax_sites"].arrays["energy"]
    host = selected.stages["count_energies"].arrays["host_energy"]
    assert np.isnan(host[selected.id == "given"]).all()
    for members in counted_groups(selected.id).values():
        none, *others = counts_of(selected, members)
        assert (none.n_missing, none.energy) == (0, 0.0)
        for one in others:
            name = counted_id(structure_of(selected.id[members[0]]), one.n_missing, "H")
            own = selected.id == name
            lowest = energies[own].min() - host[own][0] + 0.2 * one.n_missing
            assert one.energy == pytest.approx(lowest, abs=1e-12)


def test_the_probabilities_of_a_structure_add_up(selected: Batch) -> None:
    select = selected.stages["select"].arrays
    assert np.isnan(select["count_probability"][selected.id == "given"]).all()
    for name in ("one", "two"):
        rows = [row for row in count_rows(selected) if row.id == name]
        assert [row.rank for row in rows] == [0, 1, 2]
        assert sum(row.probability for row in rows) == pytest.approx(1)
        assert sorted(row.n_missing for row in rows) == [0, 2, 4]
        assert {row.filled_as for row in rows} == {"", f"{name}+2H", f"{name}+4H"}
        likely = max((row for row in rows if row.filled_as), key=lambda row: row.probability)
        assert less_likely(selected) & {f"{name}+2H", f"{name}+4H"} == {
            row.filled_as for row in rows if row.filled_as not in ("", likely.filled_as)
        }


def test_energy_and_prior_decide() -> None:
    def shares(energies: list[float], prior: list[float], repeats: int = 1) -> list[float]:
        counts = [
            Count(number, energy, np.log(share))
            for number, (energy, share) in enumerate(zip(energies, prior, strict=True))
        ]
        return probabilities(counts, repeats=repeats).tolist()

    even = [1 / 3] * 3
    assert int(np.argmax(shares([0.0, -3.0, -2.0], even))) == 1
    assert shares([0.0, -3.0, -2.0], even) == pytest.approx(shares([0.0, -6.0, -4.0], even, 2))
    assert int(np.argmax(shares([0.0, 0.0, 0.0], [0.2, 0.2, 0.6]))) == 2
    assert shares([0.0, np.inf, -1.0], even)[1] == 0.0
    assert int(np.argmax(shares([np.inf] * 3, [0.6, 0.2, 0.2]))) == 0


def test_an_energy_that_no_bond_has_does_not_count(selected: Batch) -> None:
    members = counted_groups(selected.id)["one"]
    stage = selected.stages["relax_sites"].arrays
    kept = stage["energy"].copy()
    stage["energy"][selected.id == "one+2H"] -= 1000.0
    counts = counts_of(selected, members)
    stage["energy"] = kept
    assert sum(np.isinf(one.energy) for one in counts) == 1


def test_half_a_hydrogen_molecule_is_the_default() -> None:
    hosts, _ = checked(1, mg=magnesium())
    batch, potential = filled(hosts), MorsePotential()
    driver = make_driver(potential, RELAX)
    add_count_energies(batch, driver, mu=None, fmax=0.001, max_steps=500)
    mu = batch.stages["count_energies"].arrays["mu"]
    assert mu == pytest.approx(-WELL / 2, abs=0.02)  # the well of a pair, cut off at 5 Å


def test_the_tables_and_the_report_show_the_numbers(selected: Batch, tmp_path: Path) -> None:
    write_batch(selected, tmp_path / "in.h5")
    batch = read_batch(tmp_path / "in.h5")
    batch.stages["checks"] = check_batch(batch)
    batch.stages["evaluate"] = evaluate_batch(batch)
    write_batch(batch, tmp_path / "batch_1.h5")
    hosts, _ = checked(2, one=magnesium(), two=magnesium())
    structures = [
        {"id": host.id, "source": host.source, "formula": "", "reference": None} for host in hosts
    ]
    structures.append({"id": "given", "source": "x", "formula": "", "reference": None})
    check = tmp_path / "check.json"
    content = {"structures": structures, "failures": [], "reference_failures": []}
    check.write_text(
        str(content | {"parameters": {"methods": ["random"]}})
        .replace("'", '"')
        .replace("None", "null")
    )
    tables = collect(check, [tmp_path / "batch_1.h5"], tmp_path / "out")
    with (tmp_path / "out" / "results.csv").open(newline="") as file:
        rows = {row["id"]: row for row in csv.DictReader(file)}
    assert (rows["given"]["count_of"], rows["given"]["count_probability"]) == ("", "")
    assert rows["one+2H"]["count_of"] == "one"
    with (tmp_path / "out" / "counts.csv").open(newline="") as file:
        counts = list(csv.DictReader(file))
    assert [row["id"] for row in counts] == ["one"] * 3 + ["two"] * 3
    own = next(row for row in counts if row["filled_as"] == "one+2H")
    assert own["probability"] == rows["one+2H"]["count_probability"]
    assert own["rank"] == rows["one+2H"]["count_rank"]
    shown = compared_structures(tables.counts)
    assert [one.id for one in shown] == ["one", "two"]
    assert len(shown[0].points) == 3
    assert count_text(tables.counts[:3]) == shown[0].text
    assert "%)" in shown[0].text


def test_a_reference_goes_to_its_number() -> None:
    hosts, _ = checked(2, mg=magnesium())
    whole = magnesium() + Atoms("H4", positions=np.eye(4, 3) * 0.8 + 1.1)
    entries = [Entry(fallback_id="mg", source="ref.cif", id="mg", atoms=whole)]
    found, failures = match_references(entries, hosts)
    assert not failures
    assert list(found) == ["mg+4H"]


def test_a_number_to_compare_is_no_duplicate_of_a_given_one() -> None:
    hosts, _ = checked(2, b=magnesium(), c=magnesium())
    given = CheckedHost("a", "", hosts[0].atoms, 1, 2)
    assert find_duplicates([given, *hosts]) == {"c+2H": "b+2H", "c+4H": "b+4H"}


def test_a_database_fills_all_numbers_of_a_structure_or_none() -> None:
    def stored(*names: str) -> dict[str, dict[str, Any]]:
        return {name: {"name": name} for name in names}

    part = together(Known("db", stored("x", "mg+2H"), {"mg+4H": "new"}))
    assert list(part.stored) == ["x"]
    assert part.reasons == {"mg+4H": "new", "mg+2H": "compared"}
    whole = Known("db", stored("x", "mg+2H", "mg+4H"), {})
    assert together(whole) == whole
    other = {"mg+2H": {"name": "mg"}, **stored("mg+4H")}
    assert list(together(Known("db", other, {})).stored) == []


def test_check_writes_what_the_comparison_needs(tmp_path: Path) -> None:
    source = tmp_path / "x.extxyz"
    magnesium().write(source)
    values = {**defaults("check"), "n_missing": "auto", "n_tries": 2, "samples": 1}
    settings = make_settings(values, CheckSettings, source="test")
    run_check(source, references=None, settings=settings, outdir=tmp_path / "out")
    content = read_json(tmp_path / "out" / "check.json")
    assert [entry["n_missing"] for entry in content["structures"]] == [2, 4]
    (file,) = (tmp_path / "out" / "batches").glob("*.h5")
    prior = read_batch(file).stages["count_prior"].arrays
    assert (prior["log_prior"] < 0).all()
    assert len(set(prior["log_prior_none"].tolist())) == 1
