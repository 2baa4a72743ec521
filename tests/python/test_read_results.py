"""`xtalfill.read_results`: what COLLECT wrote, as pandas frames and crystals."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import numpy as np
import pytest

import xtalfill
from hand_made_batches import Case, Made, brucite, build, lithium_hydride, write_check
from xtalfill.core.batch import write_batch
from xtalfill.core.errors import InputError
from xtalfill.evaluate.match import evaluate_batch
from xtalfill.results.collect import collect, write_refusals

CASES = [
    Case("0012", brucite(), 2, [Made(relaxed=(0, 0, 2.2)), Made(), Made(method="random")]),
    Case("NA", lithium_hydride(), 4, [Made(), Made(status="failed", message="relax_sites: x")]),
]
REFUSED = {"id": "torn", "source": "torn.cif", "message": "cannot be read"}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    batch = build(CASES)
    batch.stages["evaluate"] = evaluate_batch(batch)
    write_batch(batch, folder / "a.h5")
    write_check(folder / "check.json", CASES, [REFUSED])
    collect(folder / "check.json", [folder / "a.h5"], folder / "out")
    return folder / "out"


def test_tables_are_typed_and_structures_are_by_id(run: Path) -> None:
    found = xtalfill.read_results(run)
    assert set(found.structures) == {"0012", "NA"}
    assert found.structures["NA"].get_chemical_formula() == "H4Li4"
    # the selected candidate is the one at the true sites
    assert np.allclose(found.structures["0012"].positions, brucite().positions)
    assert set(found.results["id"]) == {"0012", "NA", "torn"}
    assert len(found.candidates) == 5
    with (run / "candidates.csv").open(newline="", encoding="utf-8") as file:
        written = [row["energy"] for row in csv.DictReader(file)]
    assert [repr(value) for value in found.candidates["energy"].dropna()] == [
        *filter(None, written)
    ]
    assert found.results["sample"].dtype == "Int64"
    assert (found.candidates["message"] == "relax_sites: x").sum() == 1
    assert set(found.failures["id"]) == {"NA", "torn"}


def test_a_run_without_a_usable_structure_is_read(tmp_path: Path) -> None:
    write_check(tmp_path / "check.json", [], [REFUSED])
    write_refusals(tmp_path / "check.json", tmp_path / "out")
    found = xtalfill.read_results(tmp_path / "out")
    assert (found.structures, len(found.candidates), len(found.results)) == ({}, 0, 1)


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("results.csv", None, "not the --outdir of a finished run"),
        ("candidates.csv", None, "candidates.csv: not readable"),
        ("candidates.csv", "id,sample\na,1\n", "the column formula is missing"),
        ("candidates.csv", "id,sample\na,x\n", "candidates.csv: not readable"),
        ("selected.extxyz", "2\nhalf\n", "selected.extxyz: not readable"),
    ],
)
def test_a_damaged_run_is_one_line(
    run: Path, tmp_path: Path, name: str, content: str | None, says: str
) -> None:
    shutil.copytree(run, tmp_path / "out")
    path = tmp_path / "out" / name
    path.unlink()
    if content is not None:
        path.write_text(content, encoding="utf-8")
    with pytest.raises(InputError, match=says) as caught:
        xtalfill.read_results(tmp_path / "out")
    assert "\n" not in str(caught.value)
