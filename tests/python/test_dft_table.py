"""tools/dft_table.py: a run's table says what is in its batches and data files."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from dft_examples import RECORDED
from hand_made_batches import Case, Made, add_dft, brucite, build, write_check
from tool_runs import tool
from xtalfill.core.batch import Batch, write_batch
from xtalfill.evaluate.dft import evaluate_dft
from xtalfill.evaluate.match import evaluate_batch
from xtalfill.results.collect import collect

CASES = [
    Case("mg", brucite(), 2, [Made(relaxed=(0, 0, 0.002)), Made(relaxed=(0, 0, 2.2), energy=-0.3)]),
    Case("free", brucite(), 2, [Made()], with_reference=False),
]


def finished(folder: Path, batch: Batch) -> None:
    """Write what a run leaves of its batches and its jobs."""
    (folder / "batches").mkdir()
    write_batch(batch, folder / "batches" / "batch_0000.h5")
    write_check(folder / "check.json", CASES)
    collect(folder / "check.json", [folder / "batches" / "batch_0000.h5"], folder)
    for index in range(batch.n_systems):
        kept = folder / "dft" / f"batch_0000.{index}"
        kept.mkdir(parents=True)
        for attempt in (1, 2):
            shutil.copy(RECORDED / "success" / "pwscf.xml.gz", kept / f"pw.{attempt}.xml.gz")


def rows(printed: str) -> list[dict[str, str]]:
    """Return the rows of a Markdown table by their heading."""
    lines = [line.strip("| ").split(" | ") for line in printed.splitlines() if line[0] == "|"]
    return [dict(zip(lines[0], line, strict=True)) for line in lines[2:]]


def test_the_table_sets_potential_and_dft_side_by_side(tmp_path: Path) -> None:
    batch = build(CASES)
    batch.stages["evaluate"] = evaluate_batch(batch)
    add_dft(batch, message="")
    batch.stages["evaluate"].arrays |= evaluate_dft(batch)
    finished(tmp_path, batch)
    alone, match, lower = rows(tool("dft_table.py", "--run", tmp_path))
    assert (match["potential says"], match["DFT says"]) == ("match", "match")
    assert (lower["potential says"], lower["DFT says"]) == ("lower", "lower")
    assert lower["crystal"] == "mg, H2MgO2"
    assert lower["candidate"] == "host 1"
    assert lower["E − E(ref), potential"] == "−60.00"  # 0.3 eV, five atoms
    assert lower["E − E(ref), DFT"] == "−90.00"
    assert lower["reference kept"] == "yes"
    assert lower["start force"] == "0.200, 0.200"
    assert lower["moved"] == "0.020, 0.020"
    first, second = (int(steps) for steps in lower["SCF steps"].split(", "))
    assert first == second > 0
    assert first % 2 == 0  # two attempts that are alike
    assert alone["DFT says"] == alone["potential says"] == alone["reference kept"] == "–"
    assert "," not in alone["start force"]


def test_a_reference_that_becomes_another_crystal_is_told(tmp_path: Path) -> None:
    batch = build(CASES)
    batch.stages["evaluate"] = evaluate_batch(batch)
    add_dft(batch, message="")
    here = batch.atoms_slice(batch.reference_of("mg"))
    moved = batch.stages["dft"].arrays["positions"].copy()
    moved[here][-1] += [0.0, 0.0, 2.2]
    batch.stages["dft"].arrays["positions"] = moved
    batch.stages["evaluate"].arrays |= evaluate_dft(batch)
    finished(tmp_path, batch)
    assert rows(tool("dft_table.py", "--run", tmp_path))[1]["reference kept"] == "no"


def test_a_run_without_dft_is_refused(tmp_path: Path) -> None:
    batch = build(CASES)
    batch.stages["evaluate"] = evaluate_batch(batch)
    finished(tmp_path, batch)
    with pytest.raises(AssertionError, match=r"ERROR: batch_0000\.h5: has no DFT results"):
        tool("dft_table.py", "--run", tmp_path)
