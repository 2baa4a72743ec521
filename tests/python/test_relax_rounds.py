"""Further rounds of RELAX: moves of the lowest minima, and what is kept of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms

from analytic_potential import MorsePotential, proposed_batch
from xtalfill.core.batch import REFERENCE, Batch, content_sha256, read_batch, write_batch
from xtalfill.core.checkpoint import Checkpoint
from xtalfill.core.crystal import Crystal
from xtalfill.core.errors import InputError
from xtalfill.core.relaxations import ENERGY_WINDOW, POSITIONS
from xtalfill.relax.interface import Evaluation
from xtalfill.relax.moves import MOVES, handed_on, moved, turned
from xtalfill.relax.select import select_candidates
from xtalfill.relax.settings import RelaxSettings
from xtalfill.relax.stage import relax_batch

CELL = np.diag([6.0, 6.4, 6.8])
HOST = np.array([[0.1, 0.2, 0.3], [2.0, 2.1, 2.3]])
SETTINGS = RelaxSettings(0.05, 200, 0.05, 500, max_atoms_per_batch=40, rounds=4, optimizer="fire")
ROWS = [("a", "host", 0), ("a", "host", 1), ("b", "host", 0), ("b", "host", 1), ("a", REFERENCE, 0)]
WATER = Crystal(
    np.array([8, 8, 1, 1]),
    np.array([[0.1, 0.1, 0.1], [2.9, 0.1, 0.1], [0.86, 0.69, 0.1], [0.86, -0.49, 0.1]]),
    np.diag([8.0, 8.0, 8.0]),
)
FREE = np.array([False, False, True, True])


def proposed(rows: list[tuple[str, str, int]] = ROWS) -> Batch:
    """Return candidates with both sites far from the host: a poor start."""
    sites = {}
    for number, row in enumerate(ROWS):
        rng = np.random.default_rng(number)
        sites[row] = np.array([[4.5, 4.8, 5.0], [4.4, 1.5, 5.2]]) + 0.3 * rng.normal(size=(2, 3))
    return proposed_batch(rows, HOST, [sites[row] for row in rows], CELL)


def relaxed(batch: Batch, settings: RelaxSettings = SETTINGS, **options: object) -> Batch:
    relax_batch(batch, MorsePotential(), settings, **options)
    batch.validate()
    return batch


def lowest(batch: Batch, name: str) -> float:
    members = batch.groups()[name]
    return float(np.nanmin(batch.stages[POSITIONS].arrays["energy"][members]))


def rows_of(batch: Batch, name: str) -> list[tuple[int, bytes]]:
    """Return the candidates of a structure: sample, positions of all stages."""
    return [
        (
            int(batch.sample[index]),
            b"".join(
                stage.arrays["positions"][batch.atoms_slice(index)].tobytes()
                for stage in batch.stages.values()
            ),
        )
        for index in batch.groups()[name]
    ]


def test_rounds_keep_only_what_is_lower() -> None:
    once = relaxed(proposed(), replace(SETTINGS, rounds=0))
    batch = relaxed(proposed())
    assert batch.n_systems > len(ROWS) == once.n_systems
    for name in ("a", "b"):
        members = batch.groups()[name]
        energy = batch.stages[POSITIONS].arrays["energy"][members]
        assert (batch.sample[members[2:]] >= 2).all()
        assert (energy[2:] < lowest(once, name) - 4 * ENERGY_WINDOW).all()
    # what was there is not changed, to the bit
    first = batch.subset(range(len(ROWS)))
    first.stages[POSITIONS].attrs = once.stages[POSITIONS].attrs
    assert content_sha256(first) == content_sha256(once)
    assert batch.stages[POSITIONS].attrs["rounds"] == SETTINGS.rounds
    select_candidates(batch)
    assert batch.sample[batch.stages["select"].arrays["best_of_all"]].min() >= 2


def test_the_host_is_exact_again() -> None:
    batch = relaxed(proposed())
    start = batch.stages["inpaint"].arrays["positions"]
    for index in range(len(ROWS), batch.n_systems):
        here = batch.atoms_slice(index)
        assert start[here][:2].tobytes() == HOST.tobytes()
        assert np.isnan(batch.positions[here][2:]).all()


def test_a_batch_gives_the_bits_of_single_structures() -> None:
    together = relaxed(proposed())
    for name in ("a", "b"):
        alone = relaxed(proposed([row for row in ROWS if row[0] == name and row[1] == "host"]))
        assert rows_of(alone, name) == rows_of(together, name)


def test_a_stopped_task_goes_on(tmp_path: Path) -> None:
    whole = content_sha256(relaxed(proposed()))

    class Stops(MorsePotential):
        def evaluate(self, crystals: Sequence[Crystal]) -> list[Evaluation]:
            if len(self.calls) == 150:
                raise InterruptedError
            return super().evaluate(crystals)

    batch = proposed()
    checkpoint = Checkpoint(tmp_path / "one", key="a", every=0.0)
    with pytest.raises(InterruptedError):
        relax_batch(batch, Stops(), SETTINGS, checkpoint=checkpoint)
    again = Checkpoint(tmp_path / "two", key="a", previous=tmp_path / "one")
    assert any("round" in name for name in again.found)
    potential, batch = MorsePotential(), proposed()
    relax_batch(batch, potential, SETTINGS, checkpoint=again)
    assert content_sha256(batch) == whole


def test_sources_and_arrays_of_merging_are_told(tmp_path: Path) -> None:
    batch = proposed()
    arrays = batch.stages["inpaint"].arrays
    arrays["source"] = np.array(["voids"] * 4 + [""], dtype=object)
    arrays["sites_moved"] = np.ones(5, dtype=np.int32)
    merging = replace(SETTINGS, rounds=2, merge=True)
    relaxed(batch, merging)
    write_batch(batch, tmp_path / "b.h5")
    found = read_batch(tmp_path / "b.h5")
    assert content_sha256(found) == content_sha256(batch)
    new = found.stages["inpaint"].arrays["source"][5:]
    assert len(new)
    assert {one.partition(" (from ")[0] for one in new} <= MOVES.keys()
    assert not found.stages["inpaint"].arrays["sites_moved"][5:].any()
    assert (found.stages[POSITIONS].arrays["merged_with"][5:] == -1).all()


def test_water_turns_as_a_whole() -> None:
    positions = turned(WATER, FREE, np.random.default_rng(1))
    assert positions is not None
    assert positions[:2].tobytes() == WATER.positions[:2].tobytes()
    before, after = (p[2:] - p[0] for p in (WATER.positions, positions))
    np.testing.assert_allclose(after @ after.T, before @ before.T, atol=1e-9)
    assert np.linalg.norm(after - before, axis=1).min() > 0.1


def test_a_proton_goes_to_the_next_acceptor() -> None:
    positions = handed_on(WATER, FREE, np.random.default_rng(1))
    assert positions is not None
    changed = np.flatnonzero((positions != WATER.positions).any(axis=1))
    assert len(changed) == 1
    bond = np.linalg.norm(WATER.positions[changed[0]] - WATER.positions[0])
    assert np.linalg.norm(positions[changed[0]] - WATER.positions[1]) == pytest.approx(bond)


def test_a_move_that_is_not_possible_is_none() -> None:
    atoms = Atoms("OH", [[0, 0, 0], [3.0, 3, 3]], cell=[7, 7, 7], pbc=True)
    lone = Crystal(atoms.numbers, atoms.positions, atoms.cell.array)
    free = np.array([False, True])
    found = {name: moved(lone, free, name, np.random.default_rng(1)) for name in MOVES}
    assert [name for name, one in found.items() if one is not None] == ["noised"]


def test_batches_with_a_common_candidate_are_not_joined() -> None:
    with pytest.raises(InputError, match="share id"):
        proposed().extend(proposed())
