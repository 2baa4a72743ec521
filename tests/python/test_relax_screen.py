"""Screening of proposals by single-point energies."""

from collections.abc import Sequence

import numpy as np
import pytest

from analytic_potential import MorsePotential, morse, proposed_batch
from xtalfill.core.batch import REFERENCE, Batch, content_sha256
from xtalfill.core.crystal import Crystal, is_collapsed
from xtalfill.core.errors import InputError
from xtalfill.relax.batched import BatchedRelaxer
from xtalfill.relax.interface import Evaluation
from xtalfill.relax.screen import STAGE, screen_batch

CELL = np.diag([4.0, 4.2, 4.4])
HOST = np.array([[0.1, 0.2, 0.3], [2.0, 2.1, 2.3]])
# id, method, sample: six proposals, a method with two, another crystal with one, a reference
ROWS = [
    *[("a", "host", k) for k in range(6)],
    *[("a", "random", k) for k in range(2)],
    ("b", "host", 0),
    ("a", REFERENCE, 0),
]


def make_batch() -> Batch:
    rng = np.random.default_rng(4)
    return proposed_batch(ROWS, HOST, [rng.uniform(0, 4, (2, 3)) for _ in ROWS], CELL)


def screen(batch: Batch, keep: int, potential: MorsePotential | None = None) -> Batch:
    chosen = potential or MorsePotential()
    found = screen_batch(
        batch, chosen, BatchedRelaxer(chosen, max_atoms=20, optimizer="fire"), keep=keep
    )
    found.validate()
    return found


def energy_of(batch: Batch, index: int) -> float:
    here = batch.atoms_slice(index)
    positions = batch.stages["inpaint"].arrays["positions"][here]
    return morse(Crystal(batch.atomic_numbers[here], positions, batch.cell[index])).energy


def kept(batch: Batch) -> list[tuple[str, str, int]]:
    return list(zip(batch.id, batch.method, batch.sample.tolist(), strict=True))


def test_lowest_energies_are_kept() -> None:
    batch = make_batch()
    energies = [energy_of(batch, index) for index in range(6)]
    best = sorted(np.argsort(energies)[:3].tolist())
    found = screen(batch, 3)
    assert kept(found) == [("a", "host", k) for k in best] + ROWS[6:]
    stage = found.stages[STAGE]
    np.testing.assert_allclose(stage.arrays["energy"][:3], [energies[k] for k in best])
    assert np.isnan(stage.arrays["energy"][3:]).all()
    assert stage.arrays["n_proposals"].tolist() == [6, 6, 6, 2, 2, 1, 1]
    assert stage.attrs == {"keep": 3, "mlip": "morse"}


def test_kept_proposals_are_bit_identical() -> None:
    batch = make_batch()
    before = {row: batch.to_ase(i, stage="inpaint").positions for i, row in enumerate(ROWS)}
    found = screen(batch, 2)
    for index, row in enumerate(kept(found)):
        after = found.to_ase(index, stage="inpaint").positions
        assert after.tobytes() == before[row].tobytes()
        assert found.is_host[found.atoms_slice(index)].tolist() == [True, True, False, False]


def test_no_evaluation_without_surplus() -> None:
    batch, potential = make_batch(), MorsePotential()
    assert screen(batch, 6, potential) is batch
    assert potential.calls == []
    assert list(batch.stages) == ["inpaint"]


def test_failed_proposals_are_removed_first() -> None:
    batch = make_batch()
    batch.fail(0, "inpaint: no room")
    batch.stages["inpaint"].arrays["positions"][4:8] = np.nan
    four = screen(batch, 4)
    assert kept(four)[:4] == [("a", "host", k) for k in (2, 3, 4, 5)]
    five = screen(batch, 5)
    assert kept(five)[:5] == [("a", "host", k) for k in (0, 2, 3, 4, 5)]
    assert five.status[0] == "failed"


def test_absent_proposals_rank_last_and_are_not_counted() -> None:
    batch = make_batch()
    for index in (1, 3):
        batch.stages["inpaint"].arrays["positions"][batch.atoms_slice(index)][2:] = np.nan
        batch.mark_absent(index, "inpaint: no more")
    found = screen(batch, 5)
    assert kept(found)[:5] == [("a", "host", k) for k in (0, 1, 2, 4, 5)]
    assert found.status[1] == "absent"
    assert found.stages[STAGE].arrays["n_proposals"][:5].tolist() == [4] * 5


class HolePotential(MorsePotential):
    """Very low energy for coinciding atoms, like 7net-0: -1454 eV for two H at 0.1 Angstrom."""

    def evaluate(self, crystals: Sequence[Crystal]) -> list[Evaluation]:
        """Return Morse energies, much lower for a collapsed crystal."""
        found = super().evaluate(crystals)
        return [
            Evaluation(one.energy - 1454.0 * is_collapsed(crystal), one.forces)
            for crystal, one in zip(crystals, found, strict=True)
        ]


def test_collapsed_proposals_rank_between_valid_and_failed_ones() -> None:
    batch = make_batch()
    batch.fail(0, "inpaint: no room")
    positions = batch.stages["inpaint"].arrays["positions"]
    for index in (2, 5):
        here = batch.atoms_slice(index)
        positions[here.stop - 1] = positions[here.stop - 2] + [0.1, 0.0, 0.0]
    for keep, expected in ((2, {1, 3, 4}), (3, {1, 3, 4}), (4, {1, 2, 3, 4, 5})):
        found = screen(batch_copy(batch), keep, HolePotential())
        samples = {sample for _, method, sample in kept(found)[:keep] if method == "host"}
        assert samples <= expected
        assert len(samples) == keep


def batch_copy(batch: Batch) -> Batch:
    return batch.subset(range(batch.n_systems))


def test_unsupported_element() -> None:
    batch = make_batch()
    batch.atomic_numbers[:4] = [60, 8, 1, 1]
    assert ("a", "host", 0) not in kept(screen(batch, 3))


def test_screening_is_reproducible() -> None:
    assert content_sha256(screen(make_batch(), 2)) == content_sha256(screen(make_batch(), 2))


def test_batch_without_proposals_is_refused() -> None:
    batch = make_batch()
    del batch.stages["inpaint"]
    with pytest.raises(InputError, match="run INPAINT on it first"):
        screen(batch, 2)


def test_every_source_keeps_its_share() -> None:
    """Or the lowest of one source of a mix would be all that is left."""
    batch = make_batch()
    source = np.array([row[1] for row in ROWS[:-1]] + [""], dtype=object)
    source[[0, 3, 4]] = "voids"
    batch.stages["inpaint"].arrays["source"] = source
    energies = np.array([energy_of(batch, index) for index in range(6)])
    found = screen(batch, 3)
    voids = [0, 3, 4]
    others = [1, 2, 5]
    expected = [voids[i] for i in np.argsort(energies[voids])[:1]]
    expected += [others[i] for i in np.argsort(energies[others])[:2]]
    assert kept(found)[:3] == [("a", "host", k) for k in sorted(expected)]
