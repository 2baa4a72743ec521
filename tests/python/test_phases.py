"""Competing phases: the energy above their hull where numbers of missing sites are compared."""

from __future__ import annotations

import contextlib
import csv
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.formula import Formula
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from test_counts import selected  # noqa: F401  fixture
from xtalfill.checks.phases import STAGE, CompetingPhases, phases_stage, read_phases
from xtalfill.core.batch import Batch, read_batch, write_batch
from xtalfill.core.counts import counted_groups
from xtalfill.core.errors import InputError
from xtalfill.core.io import write_csv
from xtalfill.results.counts import CountRow, count_rows

PHASES = [
    ("Mg", -1.5), ("H2", -3.4), ("O2", -4.9), ("MgH2", -3.0), ("MgO", -6.0), ("Mg2O", -4.2),
    ("H2O", -4.97), ("Mg(OH)2", -5.4),
]  # fmt: skip


def numbers(formula: str) -> np.ndarray:
    return Atoms(formula).numbers


def lowest_mixture(formula: str, phases: list[tuple[str, float]]) -> float:
    """Return the lowest energy per atom of a mixture of phases, as a linear programme."""
    counts = Formula(formula).count()
    elements = sorted(counts)
    possible = [one for one in phases if set(Formula(one[0]).count()) <= set(elements)]
    atoms = [[Formula(name).count().get(symbol, 0) for symbol in elements] for name, _ in possible]
    energies = [energy * len(Formula(name)) for name, energy in possible]
    wanted = [counts[symbol] for symbol in elements]
    found = linprog(energies, A_eq=np.transpose(atoms), b_eq=wanted)
    assert found.success
    return float(found.fun) / sum(wanted)


@settings(max_examples=40, deadline=None)
@given(
    amounts=st.tuples(st.integers(1, 4), st.integers(1, 6), st.integers(0, 6)),
    shifts=st.lists(st.floats(-1, 1), min_size=len(PHASES), max_size=len(PHASES)),
    energy=st.floats(-100, 10),
)
def test_it_is_the_lowest_mixture_of_the_phases(
    amounts: tuple[int, int, int], shifts: list[float], energy: float
) -> None:
    phases = [(name, given + shift) for (name, given), shift in zip(PHASES, shifts, strict=True)]
    formula = "".join(f"{one}{n}" for one, n in zip(("Mg", "O", "H"), amounts, strict=True) if n)
    above, names = CompetingPhases(phases).above(numbers(formula), energy)
    expected = energy / sum(amounts) - lowest_mixture(formula, phases)
    assert above == pytest.approx(expected, abs=1e-7)
    assert names


def test_brucite_against_what_it_decomposes_into() -> None:
    without = [one for one in PHASES if one[0] != "Mg(OH)2"]
    above, names = CompetingPhases(without).above(numbers("MgO2H2"), -26.5)
    # MgO (2 atoms) and H2O (3): -12.00 - 14.91
    assert above == pytest.approx((-26.5 + 26.91) / 5)
    assert set(names.split(" + ")) == {"MgO", "H2O"}
    above, names = CompetingPhases(PHASES).above(numbers("MgO2H2"), -26.5)
    assert above == pytest.approx((-26.5 + 27.0) / 5)
    assert names == "Mg(OH)2"
    assert CompetingPhases(without).above(numbers("MgO2H2"), -30.0)[0] < 0


def test_an_element_without_a_phase_of_its_own_leaves_it_open() -> None:
    phases = CompetingPhases([one for one in PHASES if one[0] != "O2"])
    above, names = phases.above(numbers("MgO"), -12.0)
    assert (np.isnan(above), names) == (True, "")
    assert phases.above(numbers("MgH2"), -9.0)[0] == pytest.approx(0.0)
    assert np.isnan(phases.above(numbers("MgH2"), float("nan"))[0])


def write(path: Path, rows: list[tuple[str, object]], header: str = "") -> Path:
    lines = [header or "composition,energy_per_atom", *(f"{a},{b}" for a, b in rows)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("rows", "header", "why"),
    [
        ([("Mg", 1)], "formula,energy", "has no column 'composition'"),
        ([], "", "has no row"),
        ([("Xx2", -1)], "", r"line 2: 'Xx2' is no composition"),
        ([("__import__", -1)], "", "no composition"),
        ([("(" * 30 + "H", -1)], "", "no composition"),
        ([("H0", -1)], "", "no composition"),
        ([("Mg", -1), ("H2", "nan")], "", r"line 3 \(H2\): energy_per_atom is no energy"),
        ([("H2", "1e9")], "", "no energy"),
        ([("H2", "")], "", "no energy"),
    ],
)
def test_a_bad_table_is_one_line(
    tmp_path: Path, rows: list[tuple[str, object]], header: str, why: str
) -> None:
    with pytest.raises(InputError, match=why) as caught:
        read_phases(write(tmp_path / "t.csv", rows, header))
    assert "\n" not in str(caught.value)


@settings(max_examples=60, deadline=None)
@given(content=st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_any_file_is_a_table_or_an_error(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    path = tmp_path_factory.mktemp("table") / "t.csv"
    path.write_bytes(b"composition,energy_per_atom\n" + content)
    with contextlib.suppress(InputError):
        read_phases(path)


def test_counts_have_the_energy_above_the_hull(selected: Batch, tmp_path: Path) -> None:  # noqa: F811
    table = write(tmp_path / "t.csv", [("Mg", -0.5), ("H2", -0.3), ("MgH2", -0.6)])
    stage = phases_stage(selected, table)
    assert stage is not None
    write_batch(selected, tmp_path / "in.h5")
    batch = read_batch(tmp_path / "in.h5")
    assert all(np.isnan(row.above_hull) for row in count_rows(batch))
    shares = [row.probability for row in count_rows(batch)]
    batch.stages[STAGE] = stage
    write_batch(batch, tmp_path / "out.h5")
    batch = read_batch(tmp_path / "out.h5")
    rows = count_rows(batch)
    assert [row.probability for row in rows] == shares  # evidence beside it
    energy = batch.stages["relax_positions"].arrays["energy"]
    best = batch.stages["select"].arrays["best_of_all"]
    host = batch.stages["count_energies"].arrays["host_energy"]
    phases = [("Mg", -0.5), ("H2", -0.3), ("MgH2", -0.6)]
    for row in rows:
        if row.n_missing == 0:
            (first, *_) = counted_groups(batch.id)[row.id]
            assert row.above_hull == pytest.approx(host[first] / 2 + 0.5)
            assert row.phases == "Mg"
        else:
            (index,) = np.flatnonzero((batch.id == row.filled_as) & best)
            expected = energy[index] / (2 + row.n_missing)
            expected -= lowest_mixture(f"Mg2H{row.n_missing}", phases)
            assert row.above_hull == pytest.approx(expected)
            assert row.phases == {2: "MgH2 + Mg", 4: "MgH2"}[row.n_missing]


def test_without_compared_numbers_there_is_no_stage(selected: Batch, tmp_path: Path) -> None:  # noqa: F811
    table = write(tmp_path / "t.csv", [("Mg", -0.5)])
    batch = Batch(**{**vars(selected), "stages": dict(selected.stages)})
    del batch.stages["count_energies"]
    assert phases_stage(batch, table) is None


def test_the_columns_are_empty_in_the_table_without_one(selected: Batch, tmp_path: Path) -> None:  # noqa: F811
    write_csv(tmp_path / "counts.csv", CountRow, count_rows(selected))
    with (tmp_path / "counts.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {(row["above_hull"], row["phases"]) for row in rows} == {("", "")}
