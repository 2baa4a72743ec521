"""tools/mineral_labels.py: which oxygens the labels of the mineral database give hydrogen."""

import base64
import json
import sqlite3
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms

from tool_runs import tool_module

tool = tool_module("mineral_labels")


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
    found = tool.labelled_hosts([host()], database(tmp_path / "x.db", ["Ca", "O-H"]))
    assert found == {"amcsd_7": [1, 2]}


@pytest.mark.parametrize("labels", [["Ca", "O"], ["Ca", "Wat"], ["Ca", "?"]])
def test_labels_that_do_not_give_the_count_are_left_out(tmp_path: Path, labels: list[str]) -> None:
    assert tool.labelled_hosts([host()], database(tmp_path / "x.db", labels)) == {}
