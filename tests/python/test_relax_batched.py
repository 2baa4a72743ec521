"""Optimizers and batched relaxation with a cheap analytic potential."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from ase.constraints import FixAtoms
from ase.optimize import FIRE
from hypothesis import given, settings
from hypothesis import strategies as st

from analytic_potential import MorseCalculator, MorsePotential, as_atoms, crystals, morse
from xtalfill.core.crystal import Crystal
from xtalfill.relax.batched import BatchedRelaxer, Relaxation, RelaxationResult
from xtalfill.relax.fire import MAX_STEP, Fire
from xtalfill.relax.interface import Evaluation, EvaluationError, MemoryShortageError, Potential
from xtalfill.relax.optimizers import OPTIMIZERS, OptimizerName

FMAX = 0.02


def relax(
    jobs: Sequence[Relaxation],
    potential: Potential | None = None,
    *,
    max_steps: int = 400,
    max_atoms: int = 40,
    threads: int = 1,
    optimizer: OptimizerName = "fire",
    **more: Any,
) -> list[RelaxationResult]:
    driver = BatchedRelaxer(
        potential or MorsePotential(), max_atoms=max_atoms, threads=threads, optimizer=optimizer
    )
    return driver.relax(jobs, fmax=FMAX, max_steps=max_steps, **more)


def jobs(n: int, seed: int = 0) -> list[Relaxation]:
    return [Relaxation(crystal, free) for crystal, free in crystals(n, seed=seed)]


def same_bits(a: RelaxationResult, b: RelaxationResult) -> bool:
    return (
        a.positions.tobytes() == b.positions.tobytes()
        and (a.n_steps, a.converged, a.error) == (b.n_steps, b.converged, b.error)
        and (a.evaluation is None) == (b.evaluation is None)
        and (a.evaluation is None or a.evaluation.energy == b.evaluation.energy)
    )


def test_forces_of_the_test_potential_are_the_gradient() -> None:
    crystal, _ = crystals(1)[0]
    found = morse(crystal).forces
    for atom, axis in ((0, 0), (2, 1), (3, 2)):
        energies = []
        for sign in (1, -1):
            moved = crystal.positions.copy()
            moved[atom, axis] += sign * 1e-4
            energies.append(morse(Crystal(crystal.numbers, moved, crystal.cell)).energy)
        assert -(energies[0] - energies[1]) / 2e-4 == pytest.approx(found[atom, axis], rel=1e-4)


def test_agrees_with_ase_fire_and_fixatoms() -> None:
    some = jobs(8)
    for job, ours in zip(some, relax(some), strict=True):
        atoms = as_atoms(job.crystal)
        atoms.calc = MorseCalculator()
        atoms.set_constraint(FixAtoms(mask=~job.free))
        optimizer = FIRE(atoms, logfile=None)
        converged = optimizer.run(fmax=FMAX, steps=400)
        assert (ours.converged, ours.n_steps) == (converged, optimizer.nsteps)
        assert ours.evaluation.energy == pytest.approx(atoms.get_potential_energy(), abs=1e-8)
        np.testing.assert_allclose(ours.positions, atoms.positions, atol=1e-7)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_fixed_sites_are_bit_identical(optimizer: OptimizerName) -> None:
    for job, relaxed in zip(jobs(12), relax(jobs(12), optimizer=optimizer), strict=True):
        fixed = ~job.free
        assert relaxed.positions[fixed].tobytes() == job.crystal.positions[fixed].tobytes()
        assert (relaxed.positions[job.free] != job.crystal.positions[job.free]).any()


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_convergence_criterion(optimizer: OptimizerName) -> None:
    for job, relaxed in zip(jobs(12), relax(jobs(12), optimizer=optimizer), strict=True):
        at_the_end = Crystal(job.crystal.numbers, relaxed.positions, job.crystal.cell)
        largest = np.linalg.norm(morse(at_the_end).forces[job.free], axis=1).max()
        assert relaxed.converged
        assert relaxed.fmax == pytest.approx(largest, abs=1e-12)
        assert largest < FMAX


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("max_atoms", [1, 17, 1000])
def test_batch_agrees_with_single_crystals(
    max_atoms: int, threads: int, optimizer: OptimizerName
) -> None:
    some = jobs(15)
    together = relax(some, max_atoms=max_atoms, threads=threads, optimizer=optimizer)
    alone = [relax([job], optimizer=optimizer)[0] for job in some]
    assert all(same_bits(a, b) for a, b in zip(together, alone, strict=True))


def test_order_does_not_matter() -> None:
    some = jobs(10)
    shuffled = [7, 2, 9, 0, 4, 1, 8, 3, 6, 5]
    forwards = relax(some)
    backwards = relax([some[k] for k in shuffled])
    assert all(same_bits(forwards[k], one) for k, one in zip(shuffled, backwards, strict=True))


def test_size_of_the_evaluations() -> None:
    potential = MorsePotential()
    some = jobs(20)
    results = relax(some, potential, max_atoms=25)
    assert all(sum(call) <= 25 for call in potential.calls)
    assert max(len(call) for call in potential.calls) > 2
    # One evaluation at the start and one for each step, none after the end.
    assert sum(map(len, potential.calls)) == sum(one.n_steps + 1 for one in results)


def test_known_start_is_not_evaluated() -> None:
    job = jobs(1)[0]
    potential = MorsePotential()
    known = Relaxation(job.crystal, job.free, morse(job.crystal))
    with_start = relax([known], potential)[0]
    assert same_bits(with_start, relax([job])[0])
    assert len(potential.calls) == with_start.n_steps


@pytest.mark.parametrize("max_steps", [0, 3])
def test_steps_are_counted_for_each_crystal(max_steps: int) -> None:
    results = relax(jobs(9), max_steps=max_steps, max_atoms=12)
    assert [one.n_steps for one in results] == [max_steps] * 9
    assert not any(one.converged for one in results)
    assert all(np.isfinite(one.evaluation.energy) and one.fmax >= FMAX for one in results)


def test_no_free_sites_and_no_jobs() -> None:
    job = jobs(1)[0]
    still = relax([Relaxation(job.crystal, np.zeros_like(job.free))])[0]
    assert (still.converged, still.n_steps, still.fmax) == (True, 0, 0.0)
    assert relax([]) == []


class Sick(MorsePotential):
    """Fails for crystals whose first atom is argon (18)."""

    def __init__(self, illness: str) -> None:
        super().__init__()
        self.illness = illness

    def evaluate(self, crystals: Sequence[Crystal]) -> list[Evaluation]:
        """Return the energies, or fail."""
        if self.illness == "raises" and any(c.numbers[0] == 18 for c in crystals):
            raise EvaluationError("no such atom")
        return [self._one(crystal) for crystal in crystals]

    def _one(self, crystal: Crystal) -> Evaluation:
        found = morse(crystal)
        if crystal.numbers[0] != 18:
            return found
        energy, push = {
            "nan energy": (np.nan, 0.0),
            "nan forces": (0.0, np.nan),
            "explodes": (0.0, 2e3),
            "flies": (0.0, 5.0),
        }[self.illness]
        return Evaluation(energy, found.forces * 0 + push)


@pytest.mark.parametrize(
    ("illness", "message"),
    [
        ("nan energy", "NaN or infinity"),
        ("nan forces", "NaN or infinity"),
        ("explodes", "diverged"),
        ("flies", "moved by"),
        ("raises", "no such atom"),
    ],
)
def test_failing_crystal_does_not_affect_others(illness: str, message: str) -> None:
    some = jobs(9)
    some[4].crystal.numbers[0] = 18
    results = relax(some, Sick(illness))
    healthy = relax([job for k, job in enumerate(some) if k != 4])
    assert message in results[4].error
    assert (results[4].evaluation, results[4].converged) == (None, False)
    assert np.isnan(results[4].fmax)
    others = [one for k, one in enumerate(results) if k != 4]
    assert all(same_bits(a, b) for a, b in zip(others, healthy, strict=True))


class Small(MorsePotential):
    """Runs out of memory above 20 atoms."""

    def evaluate(self, crystals: Sequence[Crystal]) -> list[Evaluation]:
        """Return the energies, or fail."""
        found = super().evaluate(crystals)
        if sum(self.calls[-1]) > 20:
            raise MemoryShortageError("does not fit in memory")
        return found


def test_batch_is_halved_when_memory_runs_out() -> None:
    potential = Small()
    some = jobs(14)
    results = relax(some, potential, max_atoms=200)
    assert all(same_bits(a, b) for a, b in zip(results, relax(some), strict=True))
    too_large = [sum(call) > 20 for call in potential.calls]
    assert sum(too_large) <= 8  # the smaller batch size is kept
    assert not any(too_large[-20:])


def test_crystal_too_large_for_memory_fails_alone() -> None:
    big = Crystal(np.ones(27, int), np.random.default_rng(0).random((27, 3)) * 9, np.eye(3) * 9)
    some = [*jobs(3), Relaxation(big, np.ones(27, bool))]
    results = relax(some, Small())
    assert [bool(one.error) for one in results] == [False, False, False, True]
    assert "memory" in results[3].error


@pytest.mark.parametrize("distance", [0.05, 0.3, 0.5])
def test_clashing_proposals_are_relaxed(distance: float) -> None:
    crystal, _ = crystals(1, seed=3)[0]
    positions = crystal.positions.copy()
    positions[-1] = positions[0] + [distance, 0, 0]
    start = Crystal(crystal.numbers, positions, crystal.cell)
    free = np.arange(len(positions)) >= len(positions) - 1
    relaxed = relax([Relaxation(start, free)])[0]
    assert relaxed.converged
    assert np.linalg.norm(relaxed.positions[-1] - positions[0]) > 1.0


@given(
    forces=st.lists(st.floats(-1e6, 1e6, allow_subnormal=False), min_size=6, max_size=6),
    n_steps=st.integers(1, 30),
)
@settings(max_examples=50)
def test_maximum_step(forces: list[float], n_steps: int) -> None:
    fire = Fire(2)
    rng = np.random.default_rng(0)
    for _ in range(n_steps):
        step = fire.step(np.reshape(forces, (2, 3)) * rng.choice([-1, 1]))
        assert np.isfinite(step).all()
        assert np.linalg.norm(step) <= MAX_STEP * (1 + 1e-12)


def test_every_result_is_reported_once() -> None:
    seen: list[RelaxationResult] = []
    results = relax(jobs(7), on_done=seen.append)
    assert sorted(map(id, seen)) == sorted(map(id, results))
