"""Unphysical crystals are never selected, however low their energy; unusual ones get a note."""

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms

from analytic_potential import MorsePotential, proposed_batch
from xtalfill.core.batch import REFERENCE, Batch, Stage, write_batch
from xtalfill.core.crystal import Crystal
from xtalfill.evaluate.match import evaluate_batch
from xtalfill.relax.interface import Evaluation
from xtalfill.relax.plausibility import host_shift, implausibility, note
from xtalfill.relax.potentials import load_potential
from xtalfill.relax.select import select_candidates
from xtalfill.relax.settings import RelaxSettings
from xtalfill.relax.stage import relax_batch
from xtalfill.results.collect import collect, write_json

CELL = np.diag([9.0, 9.0, 9.0])
HOST = np.array([[1.0, 1.0, 1.0], [3.0, 1.0, 1.0]])
BOUND = np.array([[1.0, 2.9, 1.0], [3.0, 2.9, 1.0]])
LONELY = np.array([[1.0, 2.9, 1.0], [6.0, 6.0, 6.0]])
SETTINGS = RelaxSettings(0.05, 100, 0.05, 200, max_atoms_per_batch=50)


class Tethered:
    """Harmonic potential with a given minimum for each atom and a given energy."""

    name = "tethered"
    elements = frozenset(range(1, 20))
    weights: dict[str, str]
    packages = ("numpy",)

    def __init__(self, places: np.ndarray, energy: float = -8.0) -> None:
        self.places, self.energy, self.weights = places, energy, {}

    def evaluate(self, crystals: Sequence[Crystal]) -> list[Evaluation]:
        """Return a harmonic energy and its forces."""
        ways = [self.places - crystal.positions for crystal in crystals]
        return [Evaluation(self.energy + 0.5 * float((way**2).sum()), way) for way in ways]


def relaxed(sites: Sequence[np.ndarray], potential: object, **options: object) -> Batch:
    rows = [("a", "host", k) for k in range(len(sites))]
    batch = proposed_batch(rows, HOST, list(sites), CELL)
    relax_batch(batch, potential, SETTINGS, **options)
    batch.validate()
    return batch


def one(atoms: Atoms, energy: float = -10.0) -> str:
    filled = np.arange(len(atoms)) == len(atoms) - 1
    return implausibility(Crystal(atoms.numbers, atoms.positions, atoms.cell.array), filled, energy)


def test_an_isolated_site_fails() -> None:
    batch = relaxed([BOUND, LONELY], MorsePotential())
    assert batch.stages["relax_positions"].arrays["converged"].all()
    assert batch.status.tolist() == ["ok", "failed"]
    assert batch.message[1].startswith("relax_positions: H is 6.")
    assert batch.message[1].endswith(" Å from the nearest atom and is not bound")


@pytest.mark.parametrize(
    ("formula", "distance", "lonely"),
    [("OH", 3.4, False), ("OH", 3.6, True), ("ICs", 3.96, False), ("CsH", 4.0, False)],
)
def test_neighbour_distance(formula: str, distance: float, lonely: bool) -> None:
    atoms = Atoms(formula, [[0, 0, 0], [distance, 0, 0]], cell=np.eye(3) * 12.0, pbc=True)
    assert bool(one(atoms)) == lonely
    atoms.positions[1, 0] += 12.0  # another image
    assert bool(one(atoms)) == lonely


def test_periodic_images_are_not_neighbours() -> None:
    """In a cell with an angle of 5 degrees the images of a site are at 1.7 Angstrom."""
    cell = [[20.0, 0.0, 0.0], [19.92389396, 1.74311485, 0.0], [0.0, 0.0, 4.0]]
    atoms = Atoms("MgOH", [[0, 0, 0], [19.96, 0.87, 2.0], [6.0, 0.5, 1.0]], cell=cell, pbc=True)
    assert "from the nearest atom" in one(atoms)
    atoms.positions[1] = atoms.positions[2] + [0.74, 0.0, 0.0]
    assert one(atoms) == ""


def test_unphysical_cells_fail_with_a_real_potential() -> None:
    """A 5 degree angle, H 6 Angstrom from all atoms; Mg with H in a cell of 2 Angstrom."""
    potential = load_potential("7net-0", device="cpu")
    angle = [[20.0, 0.0, 0.0], [19.92389396, 1.74311485, 0.0], [0.0, 0.0, 4.0]]
    positions = [[0, 0, 0], [19.96194698, 0.87155743, 2], [7, 0.6, 1], [0, 0, 0], [1, 1, 1]]
    batch = Batch(
        positions=positions,
        atomic_numbers=[12, 8, 1, 12, 1],
        system_idx=[0, 0, 0, 1, 1],
        is_host=[True, True, False, True, False],
        cell=[angle, np.eye(3) * 2.0],
        id=["angle5", "cell2"],
        method=["host"] * 2,
        sample=[0, 0],
        seed=[42, 42],
        status=["ok"] * 2,
        message=[""] * 2,
        stages={"inpaint": Stage({"positions": np.array(positions, dtype=float)})},
    )
    relax_batch(batch, potential, SETTINGS)
    assert batch.status.tolist() == ["failed", "failed"]
    assert "from the nearest atom" in batch.message[0]
    assert "eV/atom, above that of free atoms: not bound" in batch.message[1]


@pytest.mark.parametrize(
    ("energy", "status", "noted"),
    [(-0.4, "ok", ""), (2.0, "ok", "the energy is +0.50 eV/atom"), (4.8, "failed", "")],
)
def test_energy_above_free_atoms(energy: float, status: str, noted: str) -> None:
    places = np.vstack([HOST, BOUND])
    batch = relaxed([BOUND + 0.2], Tethered(places, energy))
    assert batch.status[0] == status
    assert batch.stages["relax_positions"].arrays["note"][0].startswith(noted)
    if status == "failed":
        said = "relax_positions: the energy is +1.2 eV/atom, above that of free atoms"
        assert batch.message[0] == f"{said}: not bound"
    elif not noted:
        assert batch.stages["relax_positions"].arrays["note"][0] == ""


def test_host_displacement_is_noted_without_drift() -> None:
    drift = np.array([2.0, 1.0, 0.0])
    places = np.vstack([HOST, BOUND]) + drift
    arrays = relaxed([BOUND], Tethered(places)).stages["relax_positions"].arrays
    assert arrays["host_shift"][0] == pytest.approx(0.0, abs=0.1)
    assert arrays["note"][0] == ""
    places[0] += [0.0, 0.0, 2.4]
    batch = relaxed([BOUND], Tethered(places))
    arrays = batch.stages["relax_positions"].arrays
    assert batch.status[0] == "ok"
    assert arrays["host_shift"][0] == pytest.approx(1.2, abs=0.1)
    assert arrays["note"][0] == "the host changed: an atom moved by 1.2 Å"
    assert "host_shift" not in batch.stages["relax_sites"].arrays


def test_every_full_relaxation_is_checked() -> None:
    places = np.vstack([HOST, BOUND])
    batch = relaxed([BOUND], Tethered(places), ranking=Tethered(places, 9.0))
    assert batch.status[0] == "failed"
    assert batch.message[0].startswith("relax_rank: the energy is +2.2 eV/atom")
    assert np.isfinite(batch.stages["relax_rank"].arrays["host_shift"][0])


def test_shift_and_note_by_numbers() -> None:
    before = np.array([[0.0, 0, 0], [1, 0, 0], [2, 0, 0]])
    after = before + 5.0
    after[2, 1] += 1.5
    assert host_shift(before, before + 5.0) == pytest.approx(0.0)
    assert host_shift(before, after) == pytest.approx(1.0)
    assert note(4, -1.0, 1.0) == ""
    assert note(4, 1.0, 1.1).count(";") == 1


def test_unphysical_candidate_is_reported_and_not_selected(tmp_path: Path) -> None:
    """The isolated candidate has the lowest energy; references are checked too."""
    rows = [("a", "host", 0), ("a", "host", 1), ("a", REFERENCE, 0)]
    batch = proposed_batch(rows, HOST, [LONELY, BOUND, LONELY], CELL)
    relax_batch(batch, MorsePotential(), SETTINGS)
    batch.stages["relax_positions"].arrays["energy"][0] = -100.0
    batch.stages["relax_positions"].arrays["note"][1] = "the host changed"
    select_candidates(batch)
    batch.stages["evaluate"] = evaluate_batch(batch)
    assert batch.stages["select"].arrays["selected"].tolist() == [False, True, False]
    write_batch(batch, tmp_path / "b.h5")
    check = {"structures": [{"id": "a"}], "failures": [], "reference_failures": []}
    write_json(tmp_path / "check.json", check | {"parameters": {"methods": ["host"]}})
    collect(tmp_path / "check.json", [tmp_path / "b.h5"], tmp_path)

    def read(name: str) -> list[dict[str, str]]:
        with (tmp_path / name).open(newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file))

    (result,) = read("results.csv")
    assert (result["sample"], result["status"], result["note"]) == ("1", "ok", "the host changed")
    assert float(result["host_shift"]) < 0.5
    failures = [(row["method"], row["sample"], row["status"]) for row in read("failures.csv")]
    assert ("host", "0", "failed") in failures
    assert (REFERENCE, "0", "failed") in failures
    assert "from the nearest atom" in read("candidates.csv")[0]["message"]
