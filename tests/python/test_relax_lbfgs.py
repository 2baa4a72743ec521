"""L-BFGS: the steps are those of the dense formula, downhill, and fewer than those of FIRE."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from analytic_potential import MorsePotential, crystals
from xtalfill.relax.batched import BatchedRelaxer, Relaxation
from xtalfill.relax.lbfgs import FIRST_CURVATURE, MAX_STEP, MEMORY, SOFTEST, Lbfgs
from xtalfill.relax.optimizers import OptimizerName


def bowl(n_sites: int, *, softest: float, seed: int = 1) -> np.ndarray:
    """Return a Hessian (3n, 3n), eV/Angstrom^2."""
    axes = np.linalg.qr(np.random.default_rng(seed).normal(size=(3 * n_sites, 3 * n_sites)))[0]
    return np.asarray((axes * np.linspace(softest, 90.0, 3 * n_sites)) @ axes.T)


def dense_direction(steps: np.ndarray, changes: np.ndarray, forces: np.ndarray) -> np.ndarray:
    """Return H times the forces, with H updated step by step (Nocedal and Wright, Eq. 6.17)."""
    one = np.eye(forces.size)
    curvature = changes[-1] @ changes[-1] / (steps[-1] @ changes[-1])
    inverse = one / max(curvature, SOFTEST)
    for s, y in zip(steps, changes, strict=True):
        rho = 1.0 / (s @ y)
        left = one - rho * np.outer(s, y)
        inverse = left @ inverse @ left.T + rho * np.outer(s, s)
    return np.asarray(inverse @ forces.ravel())


def test_steps_are_those_of_the_dense_inverse_hessian() -> None:
    hessian, optimizer = bowl(4, softest=10.0), Lbfgs(4)
    position = 0.02 * np.random.default_rng(0).normal(size=12)
    steps: list[np.ndarray] = []
    changes: list[np.ndarray] = []
    for _ in range(20):
        forces = -hessian @ position
        step = optimizer.step(forces.reshape(4, 3)).ravel()
        expected = forces / FIRST_CURVATURE
        if steps:
            expected = dense_direction(np.array(steps), np.array(changes), forces)
        np.testing.assert_allclose(step, expected, rtol=1e-6, atol=1e-14)
        steps.append(step)
        changes.append(hessian @ step)
        position = position + step
    assert np.linalg.norm(hessian @ position) < 1e-5


def test_the_oldest_step_is_forgotten() -> None:
    hessian, optimizer = bowl(2, softest=85.0), Lbfgs(2)
    position = np.full(6, 100.0)  # far away: the steps stay at their limit
    for _ in range(MEMORY + 5):
        position = position + optimizer.step((-hessian @ position).reshape(2, 3)).ravel()
    assert optimizer.state()["steps"].shape == (MEMORY, 6)


def test_where_the_energy_curves_down_the_memory_is_forgotten() -> None:
    optimizer, x = Lbfgs(1), 0.01
    for _ in range(5):  # E = -k x^2 / 2 along x
        step = optimizer.step(np.array([[50.0 * x, 0.0, 0.0]]))
        assert 0.0 < step[0, 0] <= MAX_STEP
        assert not optimizer.state()["steps"].size
        x += step[0, 0]


@given(
    forces=st.lists(st.floats(-1e6, 1e6, allow_subnormal=False), min_size=6, max_size=6),
    n_steps=st.integers(1, 30),
)
@settings(max_examples=50)
def test_steps_are_short_and_downhill(forces: list[float], n_steps: int) -> None:
    optimizer, rng = Lbfgs(2), np.random.default_rng(0)
    for _ in range(n_steps):
        given_forces = np.reshape(forces, (2, 3)) * rng.uniform(-1, 1, (2, 3))
        step = optimizer.step(given_forces)
        assert np.isfinite(step).all()
        assert np.linalg.norm(step, axis=1).max() <= MAX_STEP * (1 + 1e-12)
        assert np.vdot(step, given_forces) >= 0.0


def test_far_fewer_steps_to_nearly_always_the_same_minima() -> None:
    jobs = [Relaxation(crystal, free) for crystal, free in crystals(12)]

    def relaxed(name: OptimizerName) -> list[tuple[float, int]]:
        driver = BatchedRelaxer(MorsePotential(), max_atoms=1000, optimizer=name)
        found = driver.relax(jobs, fmax=1e-4, max_steps=2000)
        assert all(one.converged for one in found)
        return [(one.evaluation.energy, one.n_steps) for one in found if one.evaluation]

    fire, lbfgs = np.array(relaxed("fire")).T, np.array(relaxed("lbfgs")).T
    assert lbfgs[1].sum() < 0.6 * fire[1].sum()
    # Another way down may end in another minimum; one of these twelve does.
    assert (np.abs(lbfgs[0] - fire[0]) < 1e-4).sum() >= 11
