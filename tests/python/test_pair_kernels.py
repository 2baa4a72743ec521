"""The compiled loops over pairs give what plain numpy gives, and forces are −dE/dx."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import spglib
from ase import Atoms
from ase.build import bulk
from ase.neighborlist import neighbor_list
from hypothesis import given, settings
from hypothesis import strategies as st

from xtalfill.core.crystal import Crystal
from xtalfill.proposals.lattice import lattice_of
from xtalfill.proposals.pair_energy import PairEnergy
from xtalfill.proposals.pair_kernels import orbit_of
from xtalfill.proposals.sites import distances, distinct_images

FEW = settings(max_examples=30, deadline=None)
SEEDS = st.integers(0, 10_000)


def host_of(seed: int) -> tuple[Crystal, np.random.Generator]:
    """Return a host of a bonding element and a metal in a skewed cell."""
    random = np.random.default_rng(seed)
    cell = np.diag(random.uniform(3.0, 7.0, 3)) + np.tril(random.normal(size=(3, 3)), -1)
    return Crystal(np.array([8, 26, 8]), random.random((3, 3)) @ cell, cell), random


def by_hand(host: Crystal, energy: PairEnergy, sites: np.ndarray, index: int) -> float:
    """Return the energy of a site, every image of every pair by the formula of the module."""
    inside = sites[index] @ host.cell
    others = np.concatenate([host.positions, sites @ host.cell])
    lengths = np.concatenate([energy._bonds, np.full(len(sites), energy._length)])
    bonding = [*energy._bonding, *[False] * len(sites)]
    reduced = lattice_of(host.cell).reduced
    reach = 2 if np.linalg.norm(reduced, axis=1).min() < 4.0 else 1
    total = 0.0
    for other, length, bonds in zip(others, lengths, bonding, strict=True):
        away = np.linalg.solve(reduced.T, other - inside)
        away -= np.round(away)
        for cells in itertools.product(range(-reach, reach + 1), repeat=3):
            distance = float(np.linalg.norm((away + cells) @ reduced))
            if distance > 1e-3:
                x = max(distance / length, 0.5)
                total += x**-12 - 2 * x**-6 if bonds else x**-8
    return total


@FEW
@given(seed=SEEDS)
def test_energies_are_those_of_the_formula(seed: int) -> None:
    host, random = host_of(seed)
    energy, sites = PairEnergy(host, 1), random.random((3, 3))
    found, _ = energy.evaluate(sites[:2], sites)
    expected = [by_hand(host, energy, sites, index) for index in range(2)]
    np.testing.assert_allclose(found, expected, rtol=1e-10)


@FEW
@given(seed=SEEDS)
def test_forces_are_minus_the_gradient(seed: int) -> None:
    host, random = host_of(seed)
    energy = PairEnergy(host, 1)
    (site,) = energy.draw(random, 1)
    others = np.concatenate([site[None], random.random((2, 3))])
    step, back = 1e-5, np.linalg.inv(host.cell)
    for axis in range(3):
        ends = [site + sign * step * back[axis] for sign in (1, -1)]
        up, down = (
            energy.evaluate(end[None], np.concatenate([end[None], others[1:]]))[0][0]
            for end in ends
        )
        # A site moves against its own images as well, which move with it and exert no force.
        force = energy.evaluate(site[None], others)[1][0, axis]
        assert force == pytest.approx(-(up - down) / (2 * step), rel=1e-4, abs=1e-4)


@FEW
@given(seed=SEEDS)
def test_what_keeps_its_distance_agrees_with_a_neighbour_list(seed: int) -> None:
    host, random = host_of(seed)
    energy, sites = PairEnergy(host, 1), random.random((4, 3))
    both = Atoms([*host.numbers, *[1] * 4], cell=host.cell, pbc=True)
    both.positions = np.concatenate([host.positions, sites @ host.cell])
    first, second, distance = neighbor_list("ijd", both, 3.0)
    to_host = (first >= 3) & (second < 3)
    near = distance[to_host] < 0.7 * energy._bonds[second[to_host]]
    expected = ~np.isin(np.arange(3, 7), first[to_host][near])
    assert energy.is_off_host(sites).tolist() == expected.tolist()
    among = (first >= 3) & (second >= 3)
    assert energy.is_apart(sites) == bool((distance[among] >= energy.apart).all())


def test_sites_on_one_place_count_as_one() -> None:
    energy = PairEnergy(Crystal(np.array([26]), np.zeros((1, 3)), np.eye(3) * 6), 1)
    assert energy.is_apart(np.array([[0.5, 0.5, 0.5], [0.5, 0.5, 0.5]]))
    assert not energy.is_apart(np.array([[0.5, 0.5, 0.5], [0.5, 0.5, 0.6]]))


@pytest.mark.parametrize(
    ("point", "sites", "free"),
    [((0.5, 0.5, 0.5), 4, 0), ((0.251, 0.25, 0.25), 8, 0), ((0.3, 0.3, 0.3), 32, 1),
     ((0.1, 0.2, 0.37), 192, 3)],
)  # fmt: skip
def test_orbits_of_fcc_are_its_wyckoff_positions(
    point: tuple[float, ...], sites: int, free: int
) -> None:
    palladium = bulk("Pd", "fcc", a=3.9, cubic=True)
    cell = (palladium.cell.array, palladium.get_scaled_positions(), palladium.numbers)
    group = spglib.get_symmetry(cell)
    rotations = group["rotations"].astype(float)
    moved, keeps, chosen, kept = orbit_of(
        np.array(point), rotations, group["translations"], palladium.cell.array, 192, 0.01, 0.05
    )
    assert (len(chosen), len(chosen) * kept) == (sites, 192)
    assert np.trace(keeps) == pytest.approx(free)
    images = (rotations @ moved + group["translations"]) % 1.0
    away = distances(images, images[chosen], palladium.cell.array)
    assert away.min(axis=1).max() < 1e-9
    assert (away[chosen] > 0.05).sum() == sites * (sites - 1)
    expected = distinct_images(moved, rotations, group["translations"], palladium.cell.array)[1]
    assert chosen.tolist() == expected.tolist()
