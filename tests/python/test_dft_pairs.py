"""Pairs of minima: how they are found, calculated and compared."""

import argparse
import json
from dataclasses import asdict
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator

from analytic_potential import MorsePotential, WiderMorse
from dft_examples import RECORDED, find_pw, made_pseudos
from tool_runs import tool_module
from xtalfill.core.crystal import Crystal
from xtalfill.core.errors import ConfigError, InputError
from xtalfill.core.matching import matcher, to_pymatgen
from xtalfill.evaluate.metrics import wilson_interval
from xtalfill.evaluate.pairs import (
    CLEAR,
    PairErrors,
    difference_cell,
    evaluate_pairs,
    order_cell,
    paired_text,
    read_pairs,
)

find_pairs = tool_module("find_pairs")
dft_pairs = tool_module("dft_pairs")


def errors(dft: list[float], potential: list[float]) -> PairErrors:
    """Return errors with differences given in meV per atom."""
    return PairErrors(1e-3 * np.array(dft), 1e-3 * np.array(potential), np.zeros(len(dft)))


def test_order_and_ties() -> None:
    some = errors([10.0, -10.0, 3.0, -8.0, 0.05], [1.0, -50.0, -3.0, 0.0, -9.0])
    # DFT gives no order to the last pair; equal energies by the potential are not an order
    assert some.order() == (2, 4)
    assert some.order(above=CLEAR) == (2, 3)
    cell = order_cell(some)
    assert cell is not None
    assert cell["value"] == 50.0
    assert (cell["low"], cell["high"]) == tuple(100 * x for x in wilson_interval(2, 4))
    assert order_cell(errors([0.0], [1.0])) is None


def test_two_potentials_are_compared_on_the_pairs_that_have_an_order() -> None:
    dft = [10.0] * 8 + [0.05]
    better = errors(dft, [1.0] * 7 + [-1.0, 1.0])
    worse = errors(dft, [-1.0] * 6 + [1.0] * 2 + [-1.0])
    # six won, one lost; two-sided exact: 2 (1 + 7) / 2^7
    assert paired_text(better, worse) == "6 : 1, p = 0.12"
    assert paired_text(worse, better) == "1 : 6, p = 0.12"


def test_the_order_does_not_depend_on_the_order_of_members() -> None:
    rng = np.random.default_rng(1)
    dft, potential = rng.normal(size=(2, 30))
    one, other = (PairErrors(s * dft, s * potential, np.zeros(30)) for s in (1.0, -1.0))
    assert one.order() == other.order()
    assert difference_cell(one) == difference_cell(other)


def test_wilson_interval_solves_its_equation() -> None:
    # the ends are the shares p whose score test has z = 1.96: |k/n - p| = z sqrt(p (1 - p) / n)
    for k, n in ((0, 7), (3, 7), (7, 7), (40, 44)):
        for p in wilson_interval(k, n):
            spread = 1.959964 * np.sqrt(p * (1 - p) / n)
            assert abs(k / n - p) == pytest.approx(spread, abs=1e-6)


def test_error_of_the_difference_is_in_mev() -> None:
    cell = difference_cell(errors([10.0, -10.0], [12.0, -4.0]))
    assert cell["value"] == pytest.approx(4.0)
    assert 2.0 <= cell["low"] <= cell["value"] <= cell["high"] <= 6.0


def lithium_hydride(*, shift: float, **info: object) -> Atoms:
    """Return LiH with H away from the centre of its cell."""
    where = [(0, 0, 0), (0.5, 0.5, 0.5 + shift)]
    atoms = Atoms("LiH", scaled_positions=where, cell=[2.9, 2.9, 4.0], pbc=True)
    atoms.info = {"pair": 0, "class": "metal/other-H", "made_by": "morse", **info}
    return atoms


def table(path: Path) -> Path:
    """Write a table of one pair whose reference is a Morse potential."""
    frames = [lithium_hydride(shift=shift) for shift in (0.0, 0.1)]
    for atoms in frames:
        crystal = Crystal(atoms.numbers, atoms.positions, atoms.cell.array)
        (found,) = MorsePotential().evaluate([crystal])
        atoms.calc = SinglePointCalculator(atoms, energy=found.energy, forces=found.forces)
    ase.io.write(path, frames, format="extxyz")
    return path


def test_the_reference_itself_has_no_errors(tmp_path: Path) -> None:
    pairs = read_pairs(table(tmp_path / "pairs.extxyz"))
    itself = evaluate_pairs(pairs, MorsePotential())
    assert itself.order() == (1, 1)
    assert difference_cell(itself)["value"] == pytest.approx(0.0, abs=1e-4)
    assert itself.force == pytest.approx([0.0], abs=1e-6)
    other = evaluate_pairs(pairs, WiderMorse())
    assert other.force[0] > 0.001


def test_frames_that_are_no_pair_are_refused(tmp_path: Path) -> None:
    path = table(tmp_path / "pairs.extxyz")
    frames = ase.io.read(path, ":")
    ase.io.write(path, frames[:1], format="extxyz")
    with pytest.raises(InputError, match="pair 0 is not two frames"):
        read_pairs(path)
    frames[1].numbers[1] = 3
    ase.io.write(path, frames, format="extxyz")
    with pytest.raises(InputError, match="pair 0 is not two frames of the same atoms"):
        read_pairs(path)
    with pytest.raises(InputError, match="not a table of pairs"):
        read_pairs(tmp_path / "absent.extxyz")


def interstitial() -> find_pairs.Known:
    """Return a tetragonal lattice of magnesium with one hydrogen."""
    scaled = [(0, 0, 0), (0.5, 0.5, 0.5), (0.5, 0.5, 0.1)]
    atoms = Atoms("Mg2H", scaled_positions=scaled, cell=[4.4, 4.4, 5.28], pbc=True)
    return find_pairs.Known("toy", "mg2h", atoms, "metal/other-H", 1.0)


def found_pairs(cost: float = 1.0) -> list[tuple[Atoms, Atoms]]:
    potentials = (MorsePotential(), MorsePotential(), WiderMorse())
    limits = {"max_seconds": 2.0, "most": 2, "turned": 1, "seed": 3}
    return find_pairs.pairs_of(interstitial(), *potentials, lambda _: cost, **limits)


def test_pairs_are_distinct_minima_with_close_energies() -> None:
    pairs = found_pairs()
    assert pairs
    for pair in pairs:
        assert not matcher().fit(*(to_pymatgen(atoms) for atoms in pair))
        crystals = [Crystal(a.numbers, a.positions, a.cell.array) for a in pair]
        gaps = []
        for potential in (MorsePotential(), WiderMorse()):
            first, second = potential.evaluate(crystals)
            gaps.append(abs(first.energy - second.energy) / len(pair[0]))
        assert any(1e-3 <= gap <= 0.1 for gap in gaps)
        for found in MorsePotential().evaluate(crystals):
            assert np.linalg.norm(found.forces, axis=1).max() < find_pairs.FMAX
        assert {atoms.info["made_by"] for atoms in pair} == {"morse"}


def test_pairs_are_seeded_and_affordable() -> None:
    for one, other in zip(found_pairs(), found_pairs(), strict=True):
        for i in range(2):
            np.testing.assert_array_equal(one[i].positions, other[i].positions)
    assert found_pairs(cost=3.0) == []


def test_equal_crystals_are_tried_once() -> None:
    known = interstitial()
    moved = known.atoms.copy()
    moved.positions += 0.3
    again = find_pairs.Known("toy", "again", moved, known.group, 2.0)
    assert find_pairs._without_copies([known, again]) == [known]


def test_band_gap_of_lithium_hydride() -> None:
    # PBE: 3 eV; here a coarse mesh
    assert 2.5 < dft_pairs.band_gap(RECORDED / "success" / "pwscf.xml.gz") < 4.0
    assert dft_pairs.band_gap(RECORDED / "highest_band_occupied" / "pwscf.xml.gz") == 0.0


def test_calculations_continue_where_they_stopped(tmp_path: Path) -> None:
    pw = find_pw()
    pseudos, made = made_pseudos(tmp_path)
    table_file = tmp_path / "table.json"
    low = {
        name: asdict(one) | {"cutoff_wfc": 15.0, "cutoff_rho": 60.0} for name, one in made.items()
    }
    table_file.write_text(json.dumps(low))
    geometries = [lithium_hydride(shift=s, geometry=f"lih-{s}") for s in (0.0, 0.05)]
    ase.io.write(tmp_path / "pairs.extxyz", geometries, format="extxyz")

    def run(program: str, output: str, *, finished: bool = False) -> list[Atoms]:
        dft_pairs.compute(
            argparse.Namespace(
                pairs=tmp_path / "pairs.extxyz",
                only=None,
                finished=finished,
                protocol="fast",
                pseudo_table=table_file,
                pseudo_dir=pseudos,
                pw=program,
                work=tmp_path / "work",
                output=tmp_path / output,
            )
        )
        return list(ase.io.read(tmp_path / output, ":"))

    first = run(pw, "first.extxyz")
    assert [atoms.info["geometry"] for atoms in first] == ["lih-0.0", "lih-0.05"]
    # forces are no failure here; in a harmonic well the energy is half of force times way
    assert abs(first[0].get_forces()).max() < 1e-3
    work = -0.5 * first[1].get_forces()[1, 2] * (0.05 * 4.0)
    rise = first[1].get_potential_energy() - first[0].get_potential_energy()
    assert abs(rise) > 0.005
    assert rise == pytest.approx(work, rel=0.2)
    # a program that does not exist is not needed for what is done
    run("no-such-pw", "second.extxyz")
    written = [(tmp_path / name).read_bytes() for name in ("first.extxyz", "second.extxyz")]
    assert written[0] == written[1]
    (tmp_path / "work" / "fast" / "lih-0.05.json").unlink()
    with pytest.raises(ConfigError, match="no-such-pw cannot be started"):
        run("no-such-pw", "third.extxyz")
    with pytest.raises(FileNotFoundError):  # no pair is complete: no table
        run("no-such-pw", "fourth.extxyz", finished=True)
