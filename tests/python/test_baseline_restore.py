"""The potential method on recorded potentials: every branch of place, relax, repeat, fail."""

from __future__ import annotations

import re
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

from potential_examples import RULES, Played, recorded
from xtalfill.core.crystal import Crystal
from xtalfill.proposals.dft_potential.ewald import pair_energies
from xtalfill.proposals.dft_potential.grid import read_potential
from xtalfill.proposals.dft_potential.restore import Placement, PlacementError, restore
from xtalfill.proposals.sites import distances

OCTAHEDRAL = np.array([[0.5, 0.5, 0.5], [0.5, 0, 0], [0, 0.5, 0], [0, 0, 0.5]])


def run(
    host: Crystal, n_sites: int, solver: Played, *, samples: int = 1, **rules: float
) -> list[Placement]:
    return restore(
        host,
        1,
        n_sites,
        samples=samples,
        rules=replace(RULES, **rules),
        solver=solver,
        generator=np.random.default_rng(0),
    )


def scaled_sites(candidate: Placement, host: Crystal) -> np.ndarray:
    assert candidate.sites is not None, candidate.message
    return np.linalg.solve(host.cell.T, candidate.sites.T).T


def test_all_maxima_are_filled_if_as_many_as_atoms() -> None:
    """The two hydroxide hydrogens of brucite lie above the oxygens, on the threefold axes."""
    host, potential = recorded("brucite")
    solver = Played([potential])
    candidate = run(host, 2, solver)[0]
    assert solver.calls == [(3, 2, 0)]
    found = scaled_sites(candidate, host)
    axes = np.array([[1 / 3, 2 / 3, 0.5], [2 / 3, 1 / 3, 0.5]])
    assert distances(found, axes, host.cell).min(axis=1).max() < 0.2
    assert not candidate.pinball
    assert [one.placed for one in candidate.rounds] == [2]


def test_lithium_hydride_gets_its_hydrogen_back() -> None:
    host, potential = recorded("lithium_1")
    candidate = run(host, 1, Played([potential]))[0]
    assert scaled_sites(candidate, host) == pytest.approx(np.full((1, 3), 0.5), abs=1e-6)


def test_fewer_maxima_than_atoms_are_filled_in_rounds() -> None:
    host, first = recorded("lithium_2")
    _, second = recorded("lithium_2_placed")
    solver = Played([first, second], shift=0.01)
    candidate = run(host, 2, solver)[0]
    # one of two atoms is placed and relaxed, with one excess electron
    assert solver.calls == [(1, 2, 0), (2, 1, 1)]
    found = scaled_sites(candidate, host)
    moved = np.linalg.solve(host.cell.T, [0.01, 0, 0])
    assert found[0] == pytest.approx(np.full(3, 0.5) + moved, abs=1e-6)
    corners = np.array([np.full(3, 0.25), np.full(3, 0.75)])
    assert distances(found[1:], corners, host.cell).min() < 0.2  # a coarse grid
    assert [(one.missing, one.placed) for one in candidate.rounds] == [(2, 1), (1, 1)]


def test_more_maxima_than_atoms_use_the_pinball_step() -> None:
    """All pairs of the four equal positions are equivalent; the next choice differs."""
    host, potential = recorded("lithium_cubic")
    first, second = run(host, 2, Played([potential]), samples=2)
    assert first.pinball
    assert first.rounds[0].degenerate == 4
    found = scaled_sites(first, host)
    away = distances(found, OCTAHEDRAL, host.cell)
    assert away.min(axis=1).max() < 0.01
    assert len(set(away.argmin(axis=1).tolist())) == 2
    other = distances(scaled_sites(second, host), OCTAHEDRAL, host.cell).min(axis=1)
    assert other.max() > 0.5


def test_a_wide_degenerate_set_is_a_parameter() -> None:
    """If all maxima count as equal, the lowest energy decides, not only the potential."""
    host, potential = recorded("brucite")
    strict, wide = (run(host, 2, Played([potential]), degenerate=d)[0] for d in (0.995, 0.1))
    assert strict.rounds[0].degenerate == 2
    assert wide.rounds[0].degenerate == wide.rounds[0].maxima == 7
    assert wide.rounds[0].exact
    few = run(host, 2, Played([potential]), degenerate=0.1, bound=2)[0]
    assert not few.rounds[0].exact
    assert scaled_sites(few, host) == pytest.approx(scaled_sites(wide, host), abs=1e-9)


@pytest.mark.parametrize("zero", [-60.0, 60.0])
@pytest.mark.parametrize(
    ("name", "n_sites"),
    [("brucite", 2), ("brucite", 3), ("lithium_1", 1), ("lithium_cubic", 2), ("lithium_cubic", 4)],
)
def test_constant_shift_of_the_potential_has_no_effect(
    name: str, n_sites: int, zero: float
) -> None:
    """Adding a constant to a recorded potential changes no site, round or other sample."""
    host, potential = recorded(name)
    stop = PlacementError("stop here")
    as_written, shifted = (
        run(host, n_sites, Played([values, stop]), samples=3)
        for values in (potential, potential + zero)
    )
    for one, other in zip(as_written, shifted, strict=True):
        assert one.message == other.message
        assert [asdict(a) for a in one.rounds] == [asdict(b) for b in other.rounds]
        if one.sites is not None:
            assert other.sites == pytest.approx(one.sites, abs=1e-6)


def test_heights_are_relative_to_the_mean() -> None:
    """The recorded mean is 4.39 eV; the highest maximum of the host is 0.64 eV above it."""
    host, potential = recorded("lithium_1")
    assert potential.mean() == pytest.approx(4.39, abs=0.01)
    done = run(host, 1, Played([potential]))[0].rounds[0]
    assert done.highest == pytest.approx(5.0305 - 4.390, abs=1e-3)


@pytest.mark.parametrize(("lower", "equal"), [(0.003, 2), (0.008, 1)])
@pytest.mark.parametrize("zero", [-60.0, 0.0, 60.0])
def test_the_window_is_a_share_of_the_height_above_the_mean(
    lower: float, equal: int, zero: float
) -> None:
    host = Crystal(np.array([12]), np.zeros((1, 3)), np.diag([3.4, 3.7, 4.0]))
    high = well((16,) * 3, [(0.5, 0.5, 0.5)])
    height = 5.0 - high.mean()
    second = high + (1 - lower * height / 6.0) * (well((16,) * 3, [(0.5, 0.5, 0.0)]) + 1.0)
    candidate = run(host, 1, Played([second + zero]))[0]
    assert (candidate.rounds[0].maxima, candidate.rounds[0].degenerate) == (2, equal)


def test_a_height_below_the_mean_still_fills_the_highest() -> None:
    """An empty core can lie above all positions; the highest of these is still filled."""
    host = Crystal(np.array([12]), np.zeros((1, 3)), np.diag([3.4, 3.7, 4.0]))
    places = well((16,) * 3, [(0.5, 0.5, 0.5)])
    core = 200.0 * (well((16,) * 3, [(0.0, 0.0, 0.0)]) + 1.0)
    candidate = run(host, 1, Played([places + core]))[0]
    assert candidate.rounds[0].highest < 0
    assert scaled_sites(candidate, host) == pytest.approx(np.full((1, 3), 0.5), abs=1e-6)


def test_sites_too_near_to_each_other_are_not_filled_together() -> None:
    host, potential = recorded("lithium_cubic")
    solver = Played([potential, PlacementError("stop here")])
    candidate = run(host, 4, solver, apart=3.0)[0]  # two octahedral sites are 2.88 Å apart
    assert solver.calls[1] == (5, 3, 1)  # so one is filled, and three excess electrons remain
    assert candidate.sites is None
    assert candidate.message == "1 of 4 placed: stop here"


def test_further_samples_reuse_the_potential_and_differ() -> None:
    host, first = recorded("lithium_1")
    solver = Played([first])
    candidates = run(host, 1, solver, samples=4)
    assert len(solver.calls) == 1
    assert len(candidates) == 4
    assert scaled_sites(candidates[1], host) == pytest.approx(np.full((1, 3), 0.25), abs=0.02) or (
        scaled_sites(candidates[1], host) == pytest.approx(np.full((1, 3), 0.75), abs=0.02)
    )
    assert [one.sites is None for one in candidates] == [False, False, True, True]
    assert candidates[2].message == "3 maxima of the potential allow no further choice of 1 sites"


def test_failure_has_a_reason() -> None:
    host, potential = recorded("lithium_1")
    everywhere = run(host, 1, Played([potential]), bond=9.0, samples=2)
    assert [one.sites for one in everywhere] == [None, None]
    reason = r"none of the [1-9]\d* maxima of the potential is far enough from the atoms"
    assert re.fullmatch(reason, everywhere[0].message)
    flat = run(host, 1, Played([np.full((8, 8, 8), -1.0)]))[0]
    assert flat.message == "none of the 0 maxima of the potential is far enough from the atoms"
    broken = run(host, 1, Played([PlacementError("pw.x, scf not converged: no")]), samples=2)
    assert [one.message for one in broken] == ["pw.x, scf not converged: no"] * 2


def well(shape: tuple[int, int, int], places: list[tuple[float, float, float]]) -> np.ndarray:
    """Return a potential with a maximum of 5 eV at the first place and lower ones at the others."""
    grid = np.stack(np.meshgrid(*(np.arange(n) / n for n in shape), indexing="ij"), axis=-1)
    total = np.full(shape, -1.0)
    for number, place in enumerate(places):
        away = grid - np.array(place)
        away -= np.round(away)
        total += (6.0 - 0.1 * number) * np.exp(-60.0 * (away**2).sum(axis=-1))
    return total


def test_vacuum_of_a_slab_is_not_filled() -> None:
    """The potential is highest in the vacuum; the lower maximum at the surface is filled."""
    slab = Crystal(np.array([12]), np.zeros((1, 3)), np.diag([3.2, 3.2, 15.0]))
    both = well((16, 16, 60), [(0.5, 0.5, 0.5), (0.5, 0.5, 0.12)])
    candidate = run(slab, 1, Played([both]))[0]
    assert scaled_sites(candidate, slab) == pytest.approx(np.array([[0.5, 0.5, 0.12]]), abs=0.02)
    assert candidate.rounds[0].maxima == 2  # above and below
    vacuum = run(slab, 1, Played([well((16, 16, 60), [(0.5, 0.5, 0.5)])]))[0]
    assert vacuum.message == "none of the 1 remaining maxima of the potential is near an atom"


def test_too_few_maxima_in_every_round_are_a_reason() -> None:
    """Three atoms, one maximum per round, and none left after two are placed."""
    host = Crystal(np.array([12]), np.zeros((1, 3)), np.diag([3.4, 3.7, 4.0]))
    one, two = (well((16,) * 3, [place]) for place in ((0.5, 0.5, 0.5), (0.5, 0.5, 0.0)))
    solver = Played([one, two, one])
    candidate = run(host, 3, solver)[0]
    assert candidate.sites is None
    assert candidate.message == (
        "2 of 3 placed: none of the 1 maxima of the potential is far enough from the atoms"
    )
    assert [(extra, free) for _, extra, free in solver.calls] == [(3, 0), (2, 1), (1, 2)]
    assert [one.placed for one in candidate.rounds] == [1, 1]


def test_maximum_at_a_general_position_has_an_orbit() -> None:
    """One peak on the grid has 48 equivalent positions by the symmetry of the host."""
    host = Crystal(np.array([12]), np.zeros((1, 3)), np.eye(3) * 6.0)
    peak = well((32,) * 3, [(0.17, 0.28, 0.41)])
    candidate = run(host, 1, Played([peak]))[0]
    assert (candidate.rounds[0].maxima, candidate.pinball) == (48, True)
    place = np.sort(np.minimum(found := scaled_sites(candidate, host)[0], 1.0 - found))
    assert place == pytest.approx([0.17, 0.28, 0.41], abs=0.01)


def test_samples_of_one_atom_follow_the_potential() -> None:
    """A single atom has no repulsion: its positions are in order of their heights."""
    host = Crystal(np.array([12]), np.zeros((1, 3)), np.diag([3.4, 3.7, 4.0]))
    places = [(0.5, 0.5, 0.5), (0.5, 0.5, 0.0), (0.5, 0.0, 0.5)]
    found = run(host, 1, Played([well((16,) * 3, places)]), samples=3, degenerate=0.5)
    for candidate, place in zip(found, places, strict=True):
        assert scaled_sites(candidate, host) == pytest.approx(np.array([place]), abs=0.01)
    assert [one.rounds[0].degenerate for one in found] == [3, 3, 3]


def test_charge_weighs_the_repulsion_against_the_potential() -> None:
    """Two atoms: the two highest places side by side, or a lower one farther away.

    Which it is changes where the difference in height is the charge times that of the Ewald sums.
    """
    host = Crystal(np.array([12]), np.zeros((1, 3)), np.diag([3.4, 3.7, 5.0]))
    places = np.array([(0.5, 0.5, 0.5), (0.5, 0.0, 0.5), (0.5, 0.5, 0.0)])
    potential = well((16,) * 3, [tuple(place) for place in places])
    heights = [potential[tuple((place * 16).astype(int))] for place in places]
    pairs = pair_energies(places, host.cell)
    changes = (heights[1] - heights[2]) / (pairs[0, 1] - pairs[0, 2])
    assert 0 < changes < 1
    for charge, chosen in ((0.8 * changes, places[[0, 1]]), (1.25 * changes, places[[0, 2]])):
        rules = {"charge": charge, "degenerate": 0.1}
        found = scaled_sites(run(host, 2, Played([potential]), **rules)[0], host)
        assert distances(chosen, found, host.cell).min(axis=1).max() < 0.1


def test_choices_are_bit_identical() -> None:
    host, potential = recorded("lithium_cubic")
    one, other = (
        run(host, 2, Played([potential]), samples=5, bound=1, degenerate=0.1) for _ in range(2)
    )
    for first, second in zip(one, other, strict=True):
        assert np.array_equal(first.sites, second.sites)


@pytest.mark.parametrize("text", ["", "nothing\n", " a\n b\n 1 0 0 0\n 2 1 0 0\n"])
def test_a_damaged_cube_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "potential.cube"
    path.write_text(text, encoding="ascii")
    with pytest.raises(PlacementError, match=r"potential\.cube"):
        read_potential(path)
