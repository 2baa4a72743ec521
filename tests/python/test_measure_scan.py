"""tools/measure_scan.py: rates, protonated oxygens, and the labels of the mineral database."""

import base64
import json
import sqlite3
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms

from tool_runs import tool_module

tool = tool_module("measure_scan")


def host() -> Atoms:
    """Return Ca(OH)2 without hydrogen, as in minerals_missing.extxyz."""
    atoms = Atoms(
        "CaO2",
        scaled_positions=[(0, 0, 0), (1 / 3, 2 / 3, 0.2337), (2 / 3, 1 / 3, 0.7663)],
        cell=[3.5889, 3.5889, 4.9110, 90, 90, 120],
        pbc=True,
    )
    atoms.info = {"id": "amcsd_7", "n_missing": 2}
    return atoms


def database(path: Path, labels: list[str]) -> Path:
    places = np.array([(0, 0, 0), (1 / 3, 2 / 3, 0.2337)])[: len(labels)]
    coded = [
        base64.b64encode(np.round(places[:, axis] * 4e6).astype("<i4").tobytes()).decode()
        for axis in range(3)
    ]
    cell = ("3.5889,", "3.5889", "4.9110", "90", "90", "120")
    names = "id, a, b, c, alpha, beta, gamma, atoms_sites, atoms_x, atoms_y, atoms_z"
    with sqlite3.connect(path) as connection:
        connection.execute(f"CREATE TABLE cif ({names})")
        values = (7, *cell, json.dumps(labels), *coded)
        connection.execute(f"INSERT INTO cif VALUES ({', '.join('?' * len(values))})", values)
    return path


def test_labels_name_all_sites_of_an_orbit(tmp_path: Path) -> None:
    ((labelled, found),) = tool._labelled([host()], database(tmp_path / "x.db", ["Ca", "O-H"]))
    assert labelled == found == {1, 2}


@pytest.mark.parametrize("labels", [["Ca", "O"], ["Ca", "Wat"], ["Ca", "?"]])
def test_labels_that_do_not_give_the_count_are_left_out(tmp_path: Path, labels: list[str]) -> None:
    assert tool._labelled([host()], database(tmp_path / "x.db", labels)) == []


def test_protonated_oxygens_are_numbered_as_in_the_host() -> None:
    atoms = Atoms("HOOCa", [(0, 0, 0), (0, 0, 0.97), (3, 0, 0), (3, 3, 3)], cell=[6, 6, 6], pbc=1)
    assert tool._protonated(atoms) == {0}


def test_rates() -> None:
    missing = tool.Judgement("missing")
    suspect, complete = tool.Judgement("suspect"), tool.Judgement("complete")
    row = tool._rates("k", "l", [missing, missing, suspect, complete], [missing], "missing")
    assert (row["cells"]["right"], row["cells"]["wrong"]) == (2, 1)
    assert row["cells"]["precision"]["value"] == 66.7
    assert row["cells"]["recall"] == {"value": 50.0, "low": 15.0, "high": 85.0}
    row = tool._rates("k", "l", [missing, missing, suspect, complete], [suspect], "complete")
    assert (row["cells"]["right"], row["cells"]["wrong"]) == (3, 1)


def test_a_declared_formula_gives_the_number() -> None:
    assert tool._judged(host(), 2, declares=True).score == 1.0
    assert tool._judged(host(), 2, declares=False).score < 1.0
