"""Deduplication and dropping of candidates before a relaxation; none is lost."""

import io
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms

from analytic_potential import MorsePotential, WiderMorse, crystals, proposed_batch
from xtalfill.core.batch import REFERENCE, Batch, Stage, content_sha256
from xtalfill.core.crystal import Crystal
from xtalfill.core.errors import ConfigError
from xtalfill.core.relaxations import ENERGY_WINDOW
from xtalfill.evaluate.match import evaluate_batch
from xtalfill.relax.deduplicate import MERGE_DISTANCE, map_atoms
from xtalfill.relax.interface import Evaluation, Potential
from xtalfill.relax.potentials import load_potential
from xtalfill.relax.select import select_candidates
from xtalfill.relax.settings import RelaxSettings
from xtalfill.relax.stage import relax_batch

SMALL = Path(__file__).resolve().parents[2] / "assets/potential/nequip-small.nequip.zip"
CELL = np.diag([4.0, 4.2, 4.4])
HOST = np.array([[0.1, 0.2, 0.3], [2.1, 2.2, 2.3]])
# Wells of `Wells`: minima in x at 1 and 3, in y at 2.1, in z at 2.2 or, higher, anywhere else.
LEFT, RIGHT = np.array([1.0, 2.1, 2.2]), np.array([3.0, 2.1, 2.2])
SETTINGS = RelaxSettings(
    sites_fmax=1e-3, sites_max_steps=300, fmax=1e-3, max_steps=300, max_atoms_per_batch=60
)
MERGING = replace(SETTINGS, merge=True)


class Wells(MorsePotential):
    """A field with two wells a cell for hydrogen and a spring for each other atom; no pairs.

    Hydrogen of a candidate falls into the well nearest in x, whatever the other one does.
    """

    def evaluate(self, crystals: Sequence[Crystal]) -> list[Evaluation]:
        """Return energy and forces of each crystal; record the sizes."""
        self.calls.append([len(crystal.numbers) for crystal in crystals])
        return [self._one(crystal) for crystal in crystals]

    def _one(self, crystal: Crystal) -> Evaluation:
        waves = 2 * np.pi / np.diag(crystal.cell) * [2, 1, 1]
        phase = waves * (crystal.positions - LEFT)
        light = crystal.numbers == 1
        away = crystal.positions[~light] - HOST - 0.05
        energy = (1 - np.cos(phase[light])).sum() + 2.0 * (away**2).sum()
        forces = -waves * np.sin(phase)
        forces[~light] = -4.0 * away
        return Evaluation(float(energy), forces)


class SteeperWells(Wells):
    """The same wells twice as deep, with the host elsewhere."""

    def _one(self, crystal: Crystal) -> Evaluation:
        found = super()._one(crystal)
        away = np.where(
            (crystal.numbers == 1)[:, None],
            0.0,
            crystal.positions - np.vstack([HOST, [[0.0] * 3] * 2]) - 0.1,
        )
        energy = 2 * found.energy + (away**2).sum()
        return Evaluation(float(energy), 2 * found.forces - 2.0 * away)


class Shifted(Wells):
    """`Wells`, moved by a quarter of the period in z: its maxima are no minima here."""

    def _one(self, crystal: Crystal) -> Evaluation:
        return super()._one(replace(crystal, positions=crystal.positions + np.array([0, 0, 0.2])))


# id, method, sample, initial positions of the two hydrogen atoms
START = [
    ("a", "host", 0, [LEFT, RIGHT]),
    ("a", "host", 1, [RIGHT, LEFT]),  # exchanged
    (
        "a",
        "host",
        2,
        [LEFT + np.array([8, 0, -4.4]), RIGHT + np.array([0, 4.2, 0])],
    ),  # other periodic images
    ("a", "random", 0, [LEFT, RIGHT]),
    ("b", "host", 0, [LEFT, RIGHT]),
    ("a", REFERENCE, 0, [LEFT, RIGHT]),
]


def make_batch(start: list[tuple[str, str, int, list[np.ndarray]]] = START) -> Batch:
    """Return distinct proposals around the wells."""
    rng = np.random.default_rng(4)
    sites = [np.array(row[3]) + rng.uniform(-0.3, 0.3, (2, 3)) for row in start]
    return proposed_batch([row[:3] for row in start], HOST, sites, CELL)


def relax(
    batch: Batch, settings: RelaxSettings, potential: Potential | None = None, **more: Any
) -> Batch:
    relax_batch(batch, potential or Wells(), settings, progress=io.StringIO(), **more)
    batch.validate()
    return batch


@pytest.mark.parametrize("seed", range(6))
def test_mapping_of_permuted_atoms_and_images(seed: int) -> None:
    rng = np.random.default_rng(seed)
    crystal, _ = crystals(1, seed=seed)[0]
    n = len(crystal.numbers)
    other = replace(crystal, numbers=rng.choice([1, 8], n))
    order = rng.permutation(n)
    jitter = rng.normal(size=(n, 3))
    jitter *= 0.9 * MERGE_DISTANCE / np.linalg.norm(jitter, axis=1, keepdims=True)
    images = rng.integers(-2, 3, (n, 3)) @ crystal.cell
    one = Crystal(other.numbers[order], other.positions[order] + images + jitter, crystal.cell)
    places = map_atoms(one, other)
    assert places is not None
    assert (other.numbers[places.atoms] == one.numbers).all()
    assert sorted(places.atoms) == list(range(n))
    np.testing.assert_allclose(
        other.positions[places.atoms] + places.shift + jitter, one.positions, atol=1e-9
    )


def test_different_crystals_have_no_mapping() -> None:
    crystal, _ = crystals(1, seed=3)[0]
    moved = crystal.positions.copy()
    moved[2] += [0.0, 1.1 * MERGE_DISTANCE, 0.0]
    assert map_atoms(replace(crystal, positions=moved), crystal) is None
    numbers = np.arange(1, len(crystal.numbers) + 1)
    one = replace(crystal, numbers=numbers)
    swapped = replace(one, positions=one.positions[[1, 0, *range(2, len(numbers))]])
    assert map_atoms(one, one) is not None
    assert map_atoms(swapped, one) is None


def test_atoms_do_not_share_a_partner() -> None:
    one = Crystal(np.array([1, 1]), np.array([[0.0, 0, 0], [0.05, 0, 0]]), CELL)
    assert map_atoms(one, replace(one, positions=np.array([[0.0, 0, 0], [1.0, 0, 0]]))) is None


@pytest.mark.parametrize("ranked", [False, True])
def test_copied_result_agrees_with_a_relaxation(ranked: bool) -> None:
    def ranking() -> Potential | None:
        return SteeperWells() if ranked else None

    merged = relax(make_batch(), MERGING, ranking=ranking())
    alone = [
        relax(make_batch().subset([index]), SETTINGS, ranking=ranking())
        for index in range(merged.n_systems)
    ]
    for name in list(merged.stages)[2:]:
        other = merged.stages[name].arrays
        one = {
            key: np.concatenate([batch.stages[name].arrays[key] for batch in alone])
            for key in ("positions", "energy", "forces")
        }
        assert other["merged_with"].tolist() == [-1, 0, 0, -1, -1, -1]
        np.testing.assert_allclose(other["positions"], one["positions"], atol=1e-3)
        np.testing.assert_allclose(other["energy"], one["energy"], atol=1e-6)
        np.testing.assert_allclose(other["forces"], one["forces"], atol=3e-3)
        assert other["converged"].all()
        assert (other["n_steps"][[1, 2]] == 0).all()
        assert (other["fmax"] < 1e-3).all()
    first = merged.stages["relax_sites"].arrays
    before = [batch.stages["relax_sites"].arrays["positions"] for batch in alone]
    assert first["positions"].tobytes() == np.concatenate(before).tobytes()
    assert "merged_with" not in first
    assert (merged.status == "ok").all()


def test_second_potential_relaxes_each_minimum_once() -> None:
    """Without --merge, too: the first potential relaxes every candidate, the second does not."""
    plain, second = relax(make_batch(), SETTINGS), SteeperWells()
    batch = relax(make_batch(), SETTINGS, ranking=second)
    positions, rank = (batch.stages[name].arrays for name in ("relax_positions", "relax_rank"))
    assert content_sha256(plain) == content_sha256(
        replace(batch, stages={name: batch.stages[name] for name in plain.stages})
    )
    assert "merged_with" not in positions
    assert (positions["n_steps"] > 0).all()
    # The candidates of another method or structure, and the reference, are relaxed themselves.
    assert rank["merged_with"].tolist() == [-1, 0, 0, -1, -1, -1]
    kept = [0, 3, 4, 5]
    assert sum(map(len, second.calls)) == (rank["n_steps"][kept] + 1).sum()
    assert (rank["n_steps"][kept] > 0).all()
    assert batch.stages["relax_rank"].attrs["merge"] == {"distance": 0.1, "energy_per_atom": 0.002}


def test_a_single_candidate_is_ranked_as_in_company() -> None:
    together = relax(make_batch(), SETTINGS, ranking=SteeperWells())
    alone = relax(make_batch().subset([0]), SETTINGS, ranking=SteeperWells())
    assert content_sha256(together.subset([0])) == content_sha256(alone)


def test_minima_of_the_second_potential_alone_are_not_merged() -> None:
    """Two minima of the first that are one of the second: both are relaxed, one is distinct."""
    up = np.array([0.0, 0.0, 2.2])  # a maximum of `Wells`, kept with zero steps
    batch = make_batch([("a", "host", k, [LEFT + k * up, RIGHT]) for k in (0, 1)])
    batch.stages["inpaint"].arrays["positions"][6] = LEFT + up
    relax(batch, SETTINGS, ranking=Shifted())
    rank = batch.stages["relax_rank"].arrays
    assert rank["merged_with"].tolist() == [-1, -1]
    assert (rank["n_steps"] > 0).all()
    select_candidates(batch)
    assert batch.stages["select"].arrays["minimum"].tolist() == [0, 0]


@pytest.mark.usefixtures("one_thread")
def test_same_winner_as_without_merging(brucite: Atoms) -> None:
    """Brucite with the potentials of the pipeline: one candidate in three is another minimum."""
    true, cell = brucite.positions[3:], np.array(brucite.cell)
    flipped = true - [0.0, 0.0, 2 * 0.203 * 4.77]  # inside the layer
    sites = [flipped, true, true[::-1] + cell[2]]
    rng = np.random.default_rng(3)
    rows = [("brucite", "host", k) for k in range(3)]
    proposed = [
        np.vstack([brucite.positions[:3], pair + rng.uniform(-0.1, 0.1, (2, 3))]) for pair in sites
    ]
    batch = Batch(
        positions=np.where(np.tile(brucite.numbers == 1, 3)[:, None], np.nan, np.vstack(proposed)),
        atomic_numbers=np.tile(brucite.numbers, 3),
        system_idx=np.repeat(np.arange(3), 5),
        is_host=np.tile(brucite.numbers != 1, 3),
        cell=np.tile(cell, (3, 1, 1)),
        id=[row[0] for row in rows],
        method=[row[1] for row in rows],
        sample=[row[2] for row in rows],
        seed=[42] * 3,
        status=["ok"] * 3,
        message=[""] * 3,
        stages={"inpaint": Stage({"positions": np.vstack(proposed)})},
    )
    settings = replace(SETTINGS, sites_fmax=0.05, fmax=0.05)
    small, better = load_potential(str(SMALL), device="cpu"), load_potential("7net-0", device="cpu")
    alone = [relax(batch.subset([k]), settings, small, ranking=better) for k in range(3)]
    expected = np.array([one.stages["relax_rank"].arrays["energy"][0] for one in alone])
    relax(batch, settings, small, ranking=better)
    select_candidates(batch)
    found = batch.stages["relax_rank"].arrays
    assert found["merged_with"].tolist() == [-1, -1, 1]
    best = int(np.flatnonzero(batch.stages["select"].arrays["selected"])[0])
    assert best != 0
    assert expected[best] - expected.min() < 5 * ENERGY_WINDOW
    np.testing.assert_allclose(found["energy"], expected, atol=5 * ENERGY_WINDOW)


def test_merging_saves_evaluations_and_keeps_other_results() -> None:
    potentials = [Wells(), Wells()]
    alone = relax(make_batch(), SETTINGS, potentials[0])
    merged = relax(make_batch(), MERGING, potentials[1])
    spent = [sum(map(len, potential.calls)) for potential in potentials]
    saved = alone.stages["relax_positions"].arrays["n_steps"][[1, 2]].sum()
    assert spent[0] - spent[1] == saved > 0
    here = np.isin(alone.system_idx, [0, 3, 4, 5])
    one, other = (b.stages["relax_positions"].arrays["positions"][here] for b in (alone, merged))
    assert one.tobytes() == other.tobytes()
    assert "merged_with" not in alone.stages["relax_positions"].arrays


def test_different_wells_are_not_merged() -> None:
    up = np.array([0.0, 0.0, 2.2])  # a maximum in z, kept with zero steps
    start = [("a", "host", 0, [LEFT, RIGHT]), ("a", "host", 1, [LEFT + up, RIGHT])]
    batch = make_batch(start)
    batch.stages["inpaint"].arrays["positions"][6] = LEFT + up
    relax(batch, MERGING)
    assert batch.stages["relax_positions"].arrays["merged_with"].tolist() == [-1, -1]


def test_unconverged_candidates_are_not_merged() -> None:
    late = relax(make_batch(), replace(MERGING, sites_max_steps=0))
    assert (late.stages["relax_positions"].arrays["merged_with"] == -1).all()


def test_failure_is_copied_with_its_message() -> None:
    class Frail(Wells):
        """Returns NaN once the host moves."""

        def _one(self, crystal: Crystal) -> Evaluation:
            found = super()._one(crystal)
            moved = np.abs(crystal.positions[:2] - HOST).max() > 0
            return replace(found, energy=np.nan) if moved else found

    batch = relax(make_batch(), MERGING, Frail())
    assert (batch.status == "failed").all()
    why = "the potential returned NaN or infinity after 1 steps"
    assert batch.message[0] == f"relax_positions: {why}"
    assert batch.message[1] == f"relax_positions: merged with sample 0: {why}"
    assert np.isnan(batch.stages["relax_positions"].arrays["energy"]).all()


def test_merged_candidates_are_ranked_and_evaluated() -> None:
    batch = relax(make_batch(), MERGING)
    select_candidates(batch)
    select = batch.stages["select"].arrays
    assert sorted(select["rank"][:3]) == [0, 1, 2]
    assert select["minimum"].tolist() == [0, 0, 0, 0, 0, -1]
    assert evaluate_batch(batch).arrays["matched"][:4].all()


def test_merging_is_independent_of_other_systems() -> None:
    whole = relax(make_batch(), MERGING)
    part = relax(make_batch().subset([0, 1, 2]), MERGING)
    assert content_sha256(whole.subset([0, 1, 2])) == content_sha256(part)


# The second hydrogen atom is at the maximum in z: 2 eV or 0.5 eV/atom higher.
CREST = RIGHT - [0.0, 0.0, 2.2]
HIGH = [
    ("a", "host", 0, [LEFT, CREST]),
    ("a", "host", 1, [LEFT, RIGHT]),
    ("a", "random", 0, [LEFT, CREST]),
    ("a", REFERENCE, 0, [LEFT, CREST]),
]


def high_batch() -> Batch:
    batch = make_batch(HIGH)
    positions = batch.stages["inpaint"].arrays["positions"]
    for index in (0, 2, 3):
        positions[4 * index + 2 : 4 * index + 4] = LEFT, CREST
    return batch


def test_high_energy_candidates_are_dropped() -> None:
    batch = relax(high_batch(), replace(SETTINGS, drop_above=0.4))
    assert batch.status.tolist() == ["dropped", "ok", "ok", "ok"]
    assert batch.message[0] == "relax_sites: dropped, 0.5 eV/atom above the best candidate"
    arrays = batch.stages["relax_positions"].arrays
    assert np.isnan(arrays["energy"]).tolist() == [True, False, False, False]
    assert batch.stages["relax_positions"].attrs["drop_above"] == 0.4
    kept = relax(high_batch(), replace(SETTINGS, drop_above=0.6))
    assert (kept.status == "ok").all()


def test_dropped_candidate_is_not_selected_and_does_not_match() -> None:
    batch = relax(high_batch(), replace(SETTINGS, drop_above=0.4))
    select_candidates(batch)
    assert batch.stages["select"].arrays["rank"].tolist() == [-1, 0, 0, -1]
    found = evaluate_batch(batch).arrays
    assert found["has_reference"][0]
    assert not found["matched"][0]
    assert not found["les"][0]


def test_unconverged_candidates_are_not_dropped() -> None:
    batch = high_batch()
    batch.stages["inpaint"].arrays["positions"][2] += [0.2, 0.0, 0.0]
    relax(batch, replace(SETTINGS, drop_above=0.4, sites_max_steps=0))
    assert not batch.stages["relax_sites"].arrays["converged"][0]
    assert (batch.status == "ok").all()


def test_collapsed_crystal_is_not_the_best() -> None:
    class Hole(Wells):
        """Has a very low energy if two atoms coincide."""

        def _one(self, crystal: Crystal) -> Evaluation:
            found = super()._one(crystal)
            near = np.linalg.norm(crystal.positions[2] - crystal.positions[3]) < 0.1
            return replace(found, energy=found.energy - 50.0) if near else found

    start = [("a", "host", 0, [LEFT, LEFT]), ("a", "host", 1, [LEFT, RIGHT])]
    batch = relax(make_batch(start), replace(SETTINGS, drop_above=0.4), Hole())
    assert batch.status.tolist() == ["failed", "ok"]


def test_dropped_candidates_skip_relax_rank() -> None:
    batch = relax(high_batch(), replace(MERGING, drop_above=0.4), ranking=WiderMorse())
    assert batch.status[0] == "dropped"
    assert np.isnan(batch.stages["relax_rank"].arrays["energy"][0])


@pytest.mark.parametrize("above", [0.0, -1.0, float("nan")])
def test_invalid_threshold_is_refused(above: float) -> None:
    with pytest.raises(ConfigError, match=r"^drop_above is "):
        replace(SETTINGS, drop_above=above)
