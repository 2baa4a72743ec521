"""Reduced crystals compare as StructureMatcher compares the crystals themselves."""

from __future__ import annotations

import ase.build
import numpy as np
import pytest
from ase import Atoms
from hypothesis import given, settings
from hypothesis import strategies as st
from pymatgen.analysis.structure_matcher import StructureMatcher

from xtalfill.core.matching import TOLERANCES, reduced, same_crystal, to_pymatgen


def crystals(seed: int) -> tuple[Atoms, Atoms]:
    """Return a crystal of four to seven sites and another description of it, displaced a little."""
    draws = np.random.default_rng(seed)
    n = int(draws.integers(4, 8))
    cell = np.diag(draws.uniform(3, 6, 3)) + draws.uniform(-1.5, 1.5, (3, 3))
    one = Atoms(
        ["Mg", "O", "O", *["H"] * (n - 3)],
        scaled_positions=draws.random((n, 3)),
        cell=cell,
        pbc=True,
    )
    other = one.copy()
    other.positions += draws.normal(0, draws.choice([0.01, 0.2, 0.6]), other.positions.shape)
    if draws.random() < 0.5:
        other = ase.build.make_supercell(other, np.diag([1, 2, 1]))
    return one, other


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_reduced_crystals_match_where_the_crystals_do(seed: int) -> None:
    pair = crystals(seed)
    plain = StructureMatcher(**TOLERANCES).fit(*map(to_pymatgen, pair))
    assert same_crystal(*map(reduced, pair)) is bool(plain)


def test_a_comparison_leaves_a_reduced_crystal_as_it_is(brucite: Atoms) -> None:
    # It is compared again; StructureMatcher rescales the cells that it compares.
    first, second = (reduced(atoms) for atoms in (brucite, brucite * (1, 1, 2)))
    before = first.copy()
    second.scale_lattice(1.3 * second.volume)
    assert same_crystal(first, second)
    assert first == before
    assert first.volume == pytest.approx(brucite.get_volume())
