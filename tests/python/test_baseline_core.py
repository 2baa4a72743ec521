"""Maxima, orbits, Ewald sums, the pinball step and voids, against physics and brute force."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.geometry import get_distances
from hypothesis import given
from hypothesis import strategies as st
from pymatgen.analysis.ewald import EwaldSummation
from pymatgen.core import Lattice, Structure
from scipy.spatial import KDTree

from xtalfill.core.crystal import Crystal
from xtalfill.proposals.dft_potential.ewald import COULOMB, pair_energies
from xtalfill.proposals.dft_potential.peaks import periodic_maxima
from xtalfill.proposals.dft_potential.pinball import (
    FORBIDDEN,
    Pinball,
    count_choices,
    distinct_choices,
    lowest_choices,
    representative,
)
from xtalfill.proposals.sites import distances, far_from_atoms, symmetric_sites
from xtalfill.proposals.voids import void_choices

TRICLINIC = np.array([[4.1, 0.0, 0.0], [-1.7, 3.9, 0.0], [0.6, 1.1, 5.2]])


def crystal_of(atoms: Atoms) -> Crystal:
    return Crystal(atoms.numbers, atoms.positions, atoms.cell.array)


def grid(shape: tuple[int, int, int]) -> np.ndarray:
    axes = [np.arange(n) / n for n in shape]
    return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)


# --- distances


@given(seed=st.integers(0, 10_000), skew=st.floats(0.0, 3.0))
def test_distances_are_those_of_ase(seed: int, skew: float) -> None:
    random = np.random.default_rng(seed)
    cell = np.diag(random.uniform(2.0, 9.0, 3)) @ (
        np.eye(3) + np.tril(random.normal(size=(3, 3)), -1) * skew
    )
    one, other = random.normal(size=(4, 3)), random.normal(size=(5, 3))
    expected = get_distances(one @ cell, other @ cell, cell=cell, pbc=True)[1]
    np.testing.assert_allclose(distances(one, other, cell), expected, atol=1e-9)
    assert distances(one[:0], other, cell).shape == (0, 5)


# --- maxima


@pytest.mark.parametrize("place", [(0.0, 0.0, 0.0), (0.013, 0.49, 0.981), (0.5, 0.5, 0.5)])
def test_maximum_between_grid_points_and_across_the_boundary(
    place: tuple[float, float, float],
) -> None:
    values = np.cos(2 * np.pi * (grid((20, 24, 30)) - place)).sum(axis=-1)
    scaled, heights = periodic_maxima(values)
    away = scaled - place
    assert len(scaled) == 1
    assert np.abs(away - np.round(away)).max() < 0.002
    assert heights[0] == pytest.approx(3.0, abs=2e-3)


def test_rolling_the_grid_rolls_the_maxima(rng: np.random.Generator) -> None:
    waves = rng.integers(-2, 3, (12, 3))
    phases = rng.random(12)
    values = np.cos(2 * np.pi * (grid((24, 24, 24)) @ waves.T + phases)).sum(axis=-1)
    scaled, heights = periodic_maxima(values)
    rolled, same = periodic_maxima(np.roll(values, (5, -9, 12), axis=(0, 1, 2)))
    moved = (scaled + np.array([5, -9, 12]) / 24) % 1.0
    assert len(scaled) > 3
    assert heights == pytest.approx(same, abs=1e-9)
    assert distances(moved, rolled, np.eye(3)).min(axis=1).max() < 1e-6


@pytest.mark.parametrize("shift", range(8))
def test_tie_across_the_boundary_is_found(shift: int) -> None:
    values = np.roll(np.pad(np.ones((2, 1, 1)), ((0, 6), (4, 3), (4, 3))), shift, axis=0)
    scaled, heights = periodic_maxima(values)
    top = scaled[heights > 0.5]
    away = (top[:, 0] - (shift + 0.5) / 8) % 1.0
    assert 1 <= len(top) <= 2
    assert np.minimum(away, 1 - away).max() < 0.1


# --- orbits and filters


def test_equivalent_maxima_become_one_orbit(rng: np.random.Generator) -> None:
    """The eight tetrahedral voids of fcc, with errors, form one orbit at exact positions."""
    host = crystal_of(bulk("Pd", "fcc", a=3.9, cubic=True))
    exact = np.array(list(itertools.product((0.25, 0.75), repeat=3)))
    found = exact + rng.normal(0.0, 0.01, exact.shape)
    sites = symmetric_sites(found, np.linspace(1.0, 0.99, 8), host, merge=0.3)
    assert len(sites) == 8
    assert set(sites.orbits) == {0}
    assert distances(exact, sites.scaled, host.cell).min(axis=1).max() < 1e-6
    assert (np.sort(sites.permutations, axis=1) == np.arange(8)).all()
    assert len(sites.permutations) > 8  # transitive, with point operations that fix a site


def test_orbit_is_removed_completely() -> None:
    host = crystal_of(bulk("Pd", "fcc", a=3.9, cubic=True))
    scaled = np.array([[0.5, 0.5, 0.5], [0.25, 0.25, 0.25]])
    sites = symmetric_sites(scaled, np.array([2.0, 1.0]), host, merge=0.3)
    assert len(sites) == 4 + 8
    with_one = host.with_atoms(1, np.array([[0.5, 0.5, 0.5]]) @ host.cell)
    left = far_from_atoms(sites, with_one, 1, fraction=0.6, same_element=1.0)
    assert set(left.orbits) == {1}
    none = far_from_atoms(sites, with_one, 1, fraction=0.6, same_element=2.0)
    assert len(none) == 0
    assert len(far_from_atoms(sites, with_one, 1, fraction=1.5, same_element=0.1)) == 0


# --- Ewald


def test_ewald_agrees_with_pymatgen(rng: np.random.Generator) -> None:
    scaled = rng.random((5, 3))
    charges = np.array([1, 1, 1, 1, 1])
    structure = Structure(Lattice(TRICLINIC), ["H"] * 5, scaled, site_properties=None)
    structure.add_oxidation_state_by_site(charges.tolist())
    pairs = pair_energies(scaled, TRICLINIC)
    energy = (pairs.sum() - np.trace(pairs)) / 2 + np.trace(pairs) / 2
    other = EwaldSummation(structure, acc_factor=14.0, compute_forces=False)
    assert energy == pytest.approx(other.total_energy, abs=1e-5)


def test_madelung_constants() -> None:
    """The one-component plasma (bcc: 0.895929 per Wigner-Seitz radius) and rock salt (1.747565)."""
    side = 3.0
    pairs = pair_energies(np.zeros((1, 3)), bulk("Li", "bcc", a=side).cell.array)
    radius = (3 * side**3 / 2 / (4 * np.pi)) ** (1 / 3)
    assert pairs[0, 0] / 2 == pytest.approx(-0.895929255682 * COULOMB / radius, rel=1e-9)
    salt = bulk("NaCl", "rocksalt", a=2 * side)
    pairs = pair_energies(salt.get_scaled_positions(), salt.cell.array)
    energy = np.array([1, -1]) @ pairs @ np.array([1, -1]) / 2
    assert energy == pytest.approx(-1.747564594633 * COULOMB / side, rel=1e-9)


# --- pinball


def random_pinball(generator: np.random.Generator, m: int) -> Pinball:
    pairs = generator.random((m, m)) * 4
    return Pinball(generator.random(m), pairs + pairs.T, np.arange(m)[None])


def brute_force(pinball: Pinball, n: int) -> list[tuple[float, tuple[int, ...]]]:
    """Return all choices by energy, from nested loops."""
    found = []
    for choice in itertools.combinations(range(len(pinball.field)), n):
        energy = sum(pinball.field[i] for i in choice)
        energy += sum(pinball.pairs[i, j] for i, j in itertools.combinations(choice, 2))
        found.append((float(energy), choice))
    return sorted(found)


@given(st.integers(0, 10**6), st.integers(1, 7), st.integers(1, 7))
def test_exact_choices_equal_brute_force(seed: int, m: int, n: int) -> None:
    generator = np.random.default_rng(seed)
    pinball = random_pinball(generator, m)
    found = lowest_choices(pinball, n, 5, bound=10**6, generator=generator)
    expected = brute_force(pinball, n)[:5]
    assert [tuple(one.sites.tolist()) for one in found] == [choice for _, choice in expected]
    assert [one.energy for one in found] == pytest.approx([energy for energy, _ in expected])
    assert all(one.exact for one in found)


@pytest.mark.parametrize(("m", "n"), [(14, 4), (16, 8), (12, 11)])
def test_annealing_finds_the_minimum_of_brute_force(m: int, n: int) -> None:
    for seed in range(3):
        generator = np.random.default_rng(seed)
        pinball = random_pinball(generator, m)
        found = lowest_choices(pinball, n, 1, bound=1, generator=generator)
        energy, choice = brute_force(pinball, n)[0]
        assert not found[0].exact
        assert tuple(found[0].sites.tolist()) == choice
        assert found[0].energy == pytest.approx(energy)


def test_choices_modulo_symmetry_are_complete_and_unique() -> None:
    """Tetrahedral voids of fcc: each set of four represents its images, none is missing."""
    host = crystal_of(bulk("Pd", "fcc", a=3.9, cubic=True))
    sites = symmetric_sites(np.full((1, 3), 0.25), np.ones(1), host, merge=0.3)
    for n in range(1, 8):
        found = distinct_choices(sites.permutations, n)
        everything = map(np.array, itertools.combinations(range(8), n))
        orbits = {representative(choice, sites.permutations) for choice in everything}
        assert {representative(row, sites.permutations) for row in found} == orbits
        assert len(found) == len(orbits) == count_choices(sites.permutations, n)


def test_charges_maximise_their_distance() -> None:
    """Two charges take the most distant pair of the eight tetrahedral voids."""
    host = crystal_of(bulk("Pd", "fcc", a=3.9, cubic=True))
    sites = symmetric_sites(np.full((1, 3), 0.25), np.ones(1), host, merge=0.3)
    pairs = pair_energies(sites.scaled, host.cell)
    pinball = Pinball(-sites.values, pairs, sites.permutations)
    best = lowest_choices(pinball, 2, 1, bound=1000, generator=np.random.default_rng(0))[0]
    away = distances(sites.scaled, sites.scaled, host.cell)
    assert away[best.sites[0], best.sites[1]] == pytest.approx(away.max())


def test_a_forbidden_pair_is_never_chosen() -> None:
    pairs = np.full((3, 3), FORBIDDEN)
    pairs[0, 2] = pairs[2, 0] = 5.0
    pinball = Pinball(np.zeros(3), pairs, np.arange(3)[None])
    generator = np.random.default_rng(0)
    found = lowest_choices(pinball, 2, 3, bound=100, generator=generator)
    assert [one.sites.tolist() for one in found] == [[0, 2]]
    assert lowest_choices(pinball, 3, 3, bound=100, generator=generator) == []


# --- voids


def test_first_void_is_the_deepest(rng: np.random.Generator) -> None:
    """Compared with a fine grid of distances to all images, in a skewed cell."""
    cell = TRICLINIC + np.array([[0, 0, 0], [8.2, 0, 0], [0, 0, 0]])  # 2 a was added to b
    crystal = Crystal(np.full(3, 8), rng.random((3, 3)) @ cell, cell)
    images = np.array(list(itertools.product(range(-4, 5), repeat=3))) @ cell
    atoms = (crystal.positions[:, None] + images).reshape(-1, 3)
    points = grid((24, 24, 24)).reshape(-1, 3) @ cell
    deepest = KDTree(atoms).query(points)[0].max()
    way = next(void_choices(crystal, 1, 1))
    found = np.linalg.norm(atoms - way, axis=1).min()
    assert deepest <= found < deepest + 0.15


def test_voids_of_fcc_are_octahedral_then_tetrahedral() -> None:
    host = crystal_of(bulk("Pd", "fcc", a=3.9, cubic=True))
    ways = list(void_choices(host, 1, 1))
    assert len(ways) == 2
    octahedral = [[0.5, 0.5, 0.5], [0.5, 0, 0], [0, 0.5, 0], [0, 0, 0.5]]
    tetrahedral = list(itertools.product((0.25, 0.75), repeat=3))
    for way, places in zip(ways, (octahedral, tetrahedral), strict=True):
        scaled = np.linalg.solve(host.cell.T, way.T).T
        assert distances(scaled, np.array(places), host.cell).min() < 1e-6


def test_void_fillings_differ(brucite_host: Atoms) -> None:
    host = crystal_of(brucite_host)
    ways = list(itertools.islice(void_choices(host, 1, 2), 4))
    assert len(ways) == 4
    for one, other in itertools.combinations(ways, 2):
        assert not np.allclose(one, other, atol=0.01)
    for way in ways:
        scaled = np.linalg.solve(host.cell.T, way.T).T
        assert distances(scaled[:1], scaled[1:], host.cell).min() > 0.5
    assert np.array_equal(next(void_choices(host, 1, 2)), ways[0])
