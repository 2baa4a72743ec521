"""tools/compare_refinements.py: restored crystals beside refinements of the same mineral."""

import numpy as np
import pandas as pd
import pytest
from ase import Atoms

from tool_runs import tool_module
from xtalfill.core.errors import InputError
from xtalfill.core.matching import to_pymatgen

tool = tool_module("compare_refinements")
MINERALS = pd.DataFrame(
    {
        "amcsd_row": [1, 2, 3],
        "mineral": ["Portlandite", "Portlandite", "<missing>"],
        "journal": ["A", "B", "C"],
        "volume": [5, 6, 7],
        "page": [8, 9, 10],
        "year": [1957, 1986, 2000],
    }
)


def hydroxide(length: float, *, name: str = "amcsd_1", metal: str = "Ca") -> Atoms:
    """Ca(OH)2 with an O-H bond of that length, Å; below the sheets if it is negative."""
    z = 0.2337 + length / 4.911
    places = [(0, 0, 0), (1 / 3, 2 / 3, 0.2337), (2 / 3, 1 / 3, 0.7663)]
    places += [(1 / 3, 2 / 3, z), (2 / 3, 1 / 3, 1 - z)]
    cell = [3.589, 3.589, 4.911, 90, 90, 120]
    atoms = Atoms(f"{metal}O2H2", scaled_positions=places, cell=cell, pbc=True)
    atoms.info |= {"id": name, "neutron": np.int64(1)}
    return atoms


def test_atoms_are_compared_whatever_their_order_and_origin() -> None:
    ours, other = hydroxide(0.97), hydroxide(0.90)[[4, 0, 2, 3, 1]]
    ours.positions += (0.3, 0.2, 0.5)
    found = tool.compare(to_pymatgen(ours), to_pymatgen(other))
    mean, largest = found["H"]
    assert mean == pytest.approx(0.07, abs=0.01)
    assert largest == pytest.approx(mean, abs=1e-3)
    assert max(found["O"] + found["Ca"]) < 0.01


def test_another_crystal_does_not_match() -> None:
    wrong = hydroxide(0.97, metal="Mg")
    assert tool.compare(to_pymatgen(wrong), to_pymatgen(hydroxide(0.97))) is None


def test_refinements_of_the_host_make_a_row_each() -> None:
    known = [hydroxide(0.94, name="amcsd_2"), hydroxide(-1.15, name="amcsd_3")]
    known += [known[0], hydroxide(0.94, name="amcsd_4", metal="Mg")]
    found = tool.table([hydroxide(0.97)], known, MINERALS)
    assert found["crystals"] == 1
    first, second = (row["cells"] for row in found["rows"])
    assert [row["key"] for row in found["rows"]] == ["amcsd_1_amcsd_2", "amcsd_1_amcsd_3"]
    assert {row["label"] for row in found["rows"]} == {"Portlandite"}
    assert first["refinement"] == "B 6, 9 (1986)"
    assert (first["result"], second["result"]) == ("matches", "differs")
    assert (first["given"], first["restored"]) == pytest.approx((0.94, 0.97), abs=1e-3)
    assert first["apart"] == pytest.approx(0.03, abs=0.01)
    assert "apart" not in second


def test_no_refinement_is_an_error() -> None:
    with pytest.raises(InputError, match="no refinement has the host"):
        tool.table([hydroxide(0.97)], [hydroxide(0.94, metal="Mg")], MINERALS)
