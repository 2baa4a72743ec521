"""Checks of restored crystals: what is right raises no warning, what is wrong does."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.spacegroup import crystal
from pymatgen.core import Structure

from hand_made_batches import Case, Made, build, lithium_hydride, write_check
from hand_made_batches import brucite as short_brucite
from xtalfill.checks.answer import Checks, check_answer
from xtalfill.checks.bonds import Surroundings
from xtalfill.checks.lengths import NEUTRON_MEAN, usual_lengths
from xtalfill.checks.stage import check_batch
from xtalfill.checks.symmetrised import relax_symmetrised
from xtalfill.checks.symmetry import find_symmetry
from xtalfill.checks.valence import check_valences
from xtalfill.core.batch import write_batch
from xtalfill.core.crystal import Crystal
from xtalfill.evaluate.match import evaluate_batch
from xtalfill.inputs.scan_valence import site_valences
from xtalfill.relax.interface import Evaluation
from xtalfill.relax.settings import RelaxSettings
from xtalfill.results.candidate_source import CandidateSource
from xtalfill.results.candidates import CandidateRow
from xtalfill.results.collect import collect
from xtalfill.results.columns import make_row


def checked(atoms: Atoms, *, moved: np.ndarray | None = None, element: str = "H") -> Checks:
    """Check a crystal whose host moved by `moved` (n_host, 3)."""
    is_host = np.array([symbol != element for symbol in atoms.symbols])
    given = atoms.positions[is_host]
    return check_answer(atoms, is_host, given=given if moved is None else given - moved)


def brucite() -> Atoms:
    """Return brucite with the O-H length of a relaxed crystal, 0.97 Å; libration hides 0.05 Å."""
    atoms = short_brucite()
    for oxygen, hydrogen in ((1, 3), (2, 4)):
        atoms.set_distance(oxygen, hydrogen, 0.97, fix=0)
    return atoms


def test_brucite_is_right() -> None:
    found = checked(brucite())
    assert (found.warnings, found.n_clashes, found.missing_charge) == ("", 0, 0)
    assert found.bonds == "2 O-H 0.970 Å"
    assert found.hydrogen_bonds == ""  # its layers are not hydrogen-bonded
    assert (found.host_space_group, found.space_group) == ("P-3m1", "P-3m1")
    assert (found.wyckoff, found.n_special) == ("H 2d (3m.)", 2)
    assert found.valence_misfit < 0.2


def test_hydride_is_right_and_a_tetrahedral_site_is_told_by_its_symmetry() -> None:
    found = checked(lithium_hydride())
    assert (found.warnings, found.missing_charge) == ("", None)
    assert found.wyckoff == "H 4b (m-3m)"
    assert found.bonds.startswith("4 Li-H 2.04")


def test_a_hydroxyl_of_the_wrong_length_is_told() -> None:
    atoms = brucite()
    atoms.positions[3, 2] += 0.2  # the bond of the first hydrogen becomes longer
    found = checked(atoms)
    assert found.warnings.startswith("unusual O-H length: 1 of 1.170 Å (usual: 0.97–1.06 Å)")
    assert found.bond_misfit == pytest.approx(1.17 - 1.058 - 0.03)


def test_a_shared_proton_is_usual() -> None:
    """K H F2: hydrogen half way between two fluorines, 1.14 Å from each."""
    atoms = Atoms("KFHF", [[0, 0, 2.6], [2.5, 2.5, 0], [2.5, 2.5, 1.14], [2.5, 2.5, 2.28]])
    atoms.set_cell([5, 5, 5.2])
    atoms.pbc = True
    assert "length" not in checked(atoms).warnings


def test_a_free_hydrogen_a_molecule_and_a_clash_are_told() -> None:
    atoms = brucite()
    atoms.positions[3] = atoms.positions[4] + (0, 0, 0.75)
    assert "hydrogen molecules: H1-H2 0.75 Å" in checked(atoms).warnings
    near = brucite()
    near.positions[3] = near.positions[2] + (0.9, 0.4, 0)  # a second H on the second O
    found = checked(near)
    assert "too little bond valence: O1" in found.warnings
    assert "too much bond valence: O2" in found.warnings
    facing = Atoms("OHHO", [[0, 0, z] for z in (0, 0.97, 2.27, 3.24)], cell=[6, 6, 9], pbc=True)
    assert checked(facing).n_clashes == 1
    assert "too near: H1-H2 1.30 Å (at least 1.68)" in checked(facing).warnings


def test_a_proton_on_the_metal_is_told() -> None:
    """One hydrogen of brucite goes to magnesium: an oxide hydride, whose charge is wrong."""
    atoms = brucite()
    atoms.positions[3] = (0, 0, 1.7)
    found = checked(atoms)
    assert "unusual Mg-H length: 1 of 1.700 Å (usual: 1.82–2.15 Å)" in found.warnings
    assert "hydrogen on a metal beside hydrogen on nonmetals: H1 on Mg1" in found.warnings
    assert found.missing_charge == 2


def test_too_few_hydrogens_lack_charge() -> None:
    atoms = brucite()[[0, 1, 2, 3]]
    assert checked(atoms).missing_charge == 1
    assert "the cations lack 1 per cell" in checked(atoms).warnings


def test_a_hydrogen_bond_to_tellurium_makes_no_cation() -> None:
    """Hydrogen is more electronegative than tellurium: eight bonds would add up to its valence."""
    corners = np.array(list(itertools.product((-1, 1), repeat=3))) / np.sqrt(3)
    axes = 3.2 * np.array([[1, 0, 0], [-1, 0, 0]])
    places = [np.zeros(3), *axes, *corners * 3.33, *corners * 2.35, *corners * 4.3]
    atoms = Atoms("TeNa2O8H16", places, cell=[12, 12, 12], pbc=True)
    valences = site_valences(atoms)
    assert valences.charge[0] > 0.3
    assert not valences.cation[0]
    assert check_valences(atoms).missing_charge == 0


def test_a_hydroxide_among_much_potassium_is_no_hydride() -> None:
    """KOH of rock salt: six potassium atoms about the hydrogen add up to more than one valence."""
    atoms = bulk("KO", "rocksalt", a=5.4) + Atoms("H", [[0, 0, 0]])
    atoms.positions[2] = atoms.positions[1] + 0.97 / np.sqrt(2) * np.array([1, 1, 0])
    valences = site_valences(atoms)
    assert valences.charge[2] < 0
    assert valences.proton[2]
    assert check_valences(atoms).missing_charge == 0


def test_valences_ignore_the_edges_of_a_sulfate() -> None:
    """Four oxygens at 2.4 Å from each other are no peroxide."""
    corner = 1.47 / np.sqrt(3) * np.array([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]])
    atoms = Atoms("SO4H2", [[0, 0, 0], *corner, corner[0] * 2.15, corner[1] * 2.15])
    atoms.positions[5:] = corner[:2] * (1 + 0.97 / 1.47)
    atoms.set_cell([9, 9, 9])
    atoms.pbc = True
    found = check_valences(atoms)
    assert found.missing_charge == 0
    assert np.abs(found.deviation[[1, 2]]).max() < 0.6


def test_hydrogen_bonds_are_listed() -> None:
    straight = Atoms("OH", [[0, 0, 0], [0, 0, 0.98]], cell=[6, 6, 2.75], pbc=True)
    (bond,) = Surroundings(straight, np.array([1])).hydrogen_bonds
    assert (bond.length, bond.angle) == (pytest.approx(1.77), pytest.approx(180))
    assert checked(straight).hydrogen_bonds == "1 O-H...O 1.77 Å 180°"


@pytest.mark.parametrize(("ligands", "accepts"), [(4, False), (0, True)])
def test_the_centre_of_an_oxyanion_accepts_no_hydrogen_bond(ligands: int, accepts: bool) -> None:
    """The sulfur of a sulfate, behind an edge of its tetrahedron; that of a sulfide does."""
    # The bisector of two of the oxygens points to the donor.
    s_o = 1.47 / np.sqrt(3) * np.array([[1, 1, 1], [1, -1, 1], [-1, 1, -1], [-1, -1, -1]])
    s_o[2:] = 1.47 / np.sqrt(3) * np.array([[-1, 1, -1], [-1, -1, 1]])
    donor = np.array([[0.0, 0.0, -3.6], [0.0, 0.0, -2.63]])
    atoms = Atoms("SOH" + "O" * ligands, [[0, 0, 0], *donor, *s_o[:ligands]])
    atoms.set_cell([12, 12, 12])
    atoms.pbc = True
    acceptors = {bond.acceptor for bond in Surroundings(atoms, np.array([2])).hydrogen_bonds}
    assert (0 in acceptors) == accepts


def test_the_atoms_of_a_changed_host_are_named() -> None:
    moved = np.zeros((3, 3))
    moved[1] = (0, 0, 0.9)
    found = checked(brucite(), moved=moved)
    assert "the host itself changed: O1 0.60 Å" in found.warnings
    assert found.host_moved.startswith("O1 0.60 Å, ")
    assert checked(brucite(), moved=moved * 0 + 0.3).host_moved == ""  # all moved alike


def test_lithium_in_place_of_hydrogen_gets_the_checks_that_apply() -> None:
    salt = bulk("LiF", "rocksalt", a=4.03)
    found = checked(salt, element="Li")
    assert (found.warnings, found.hydrogen_bonds) == ("", "")
    assert np.isnan(found.bond_misfit)
    assert (found.bonds, found.wyckoff) == ("1 F-Li 2.015 Å", "Li 4a (m-3m)")
    assert found.missing_charge == 0


def test_the_symmetrised_crystal_has_the_symmetry_and_moved_by_what_is_told() -> None:
    true = brucite()
    shaken = true.copy()
    shaken.positions += np.random.default_rng(3).normal(scale=0.01, size=(5, 3))
    is_host = np.array([True] * 3 + [False] * 2)
    found = find_symmetry(shaken, is_host, host=true[:3])
    assert (found.group, found.number, found.wyckoff) == ("P-3m1", 164, ("H 2d (3m.)",))
    again = find_symmetry(found.symmetrised, is_host, host=true[:3])
    assert max(again.shift_host, again.shift_filled) < 1e-6
    apart = np.linalg.norm(found.symmetrised.positions - shaken.positions, axis=1)
    assert apart.max() == pytest.approx(max(found.shift_host, found.shift_filled), abs=1e-9)
    # a general position
    quartz = crystal("OH", [(0.1, 0.2, 0.3), (0.3, 0.1, 0.05)], spacegroup=19, cellpar=[9, 8, 7])
    free = find_symmetry(quartz, quartz.numbers != 1, host=quartz[quartz.numbers != 1])
    assert (free.wyckoff, free.n_special) == (("H 4a (1)",), 0)


def test_multiplicities_are_those_of_the_conventional_cell() -> None:
    primitive = bulk("LiH", "rocksalt", a=4.083)
    found = find_symmetry(primitive, np.array([True, False]), host=primitive[:1])
    assert found.wyckoff == ("H 4b (m-3m)",)


def test_the_table_of_lengths_agrees_with_neutron_diffraction() -> None:
    for symbol, number in (("C", 6), ("N", 7), ("O", 8)):
        usual = usual_lengths()[number]
        assert usual.low < NEUTRON_MEAN[symbol] == usual.mean < usual.high
        assert usual.n > 10_000


def test_every_minimum_of_a_batch_has_its_checks() -> None:
    batch = build([Case("mg", brucite(), 2, [Made(), Made(relaxed=(0, 0, 2.2)), _failed()])])
    batch.stages["checks"] = check_batch(batch)
    batch.stages["evaluate"] = evaluate_batch(batch)
    rows = [make_row(CandidateRow, CandidateSource(batch, index, "")) for index in range(3)]
    assert [row.space_group for row in rows][::2] == ["P-3m1", ""]
    assert rows[0].warnings == ""
    assert rows[1].warnings
    assert (rows[0].missing_charge, rows[2].missing_charge) == (0, None)
    assert np.isnan(rows[2].bond_misfit)
    del batch.stages["checks"]  # a batch of an earlier release
    old = make_row(CandidateRow, CandidateSource(batch, 0, ""))
    assert (old.warnings, old.n_clashes) == ("", None)


class Flat:
    """A potential without forces; its energy is that of the candidate and something more."""

    name, elements, weights, packages, dtype = "flat", frozenset(range(1, 90)), {}, (), None

    def __init__(self, energy: float) -> None:
        self.energy = energy

    def evaluate(self, crystals: Sequence[Crystal]) -> list[Evaluation]:
        """Return the same energy for all."""
        return [Evaluation(self.energy, np.zeros_like(one.positions)) for one in crystals]


@pytest.mark.parametrize(("higher", "offered"), [(0.002, True), (-0.1, True), (0.003, False)])
def test_the_symmetrised_crystal_is_offered_unless_it_is_higher(
    tmp_path: Path, higher: float, offered: bool
) -> None:
    cases = [Case("mg", brucite(), 2, [Made(energy=0.5), Made(relaxed=(0.01, 0.0, 0.0))])]
    batch = build(cases)
    energies = batch.stages["relax_positions"].arrays["energy"]
    lowest = 1  # the second candidate
    relax_symmetrised(batch, Flat(energies[lowest] + higher), RelaxSettings(0.05, 9, 0.05, 9, 400))
    above = batch.stages["symmetrised"].arrays["energy_above"]
    assert above[lowest] == pytest.approx(higher)
    assert np.isnan(np.delete(above, lowest)).all()
    batch.stages["checks"] = check_batch(batch)
    batch.stages["evaluate"] = evaluate_batch(batch)
    write_batch(batch, tmp_path / "a.h5")
    tables = collect(write_check(tmp_path / "check.json", cases), [tmp_path / "a.h5"], tmp_path)
    assert [row.symmetrised_energy for row in tables.candidates if row.selected] == [above[lowest]]
    path = tmp_path / "structures" / "symmetrised" / "mg.cif"
    assert path.is_file() == offered
    if offered:
        found = Structure.from_file(path)
        assert found.get_space_group_info(0.001) == ("P-3m1", 164)
        as_relaxed = Structure.from_file(tmp_path / "structures" / "mg.cif")
        assert as_relaxed.get_space_group_info(0.001)[0] != "P-3m1"


def _failed() -> Made:
    return Made(status="failed", message="relax_sites: blew up")
