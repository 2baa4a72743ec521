"""The wrapped SDE: its values, and agreement with mattergen."""

from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mattergen_reference import MattergenSteps, mattergen_in_double
from xtalfill.proposals.diffusion.wrapped_sde import (
    Predictor,
    add_noise,
    draw_prior,
    level_stds,
    noise_std,
    predictor_coefficients,
    time_grid,
    wrap,
)

N_ATOMS = torch.tensor([3, 3, 3, 7, 7, 7, 7, 7, 7, 7])
STRUCTURE = torch.tensor([0] * 3 + [1] * 7)


@given(st.floats(-1e6, 1e6))
def test_wrapped_coordinates_are_in_the_cell_and_stay(value: float) -> None:
    once = wrap(torch.tensor([value, -1e-20, 1.0, 0.25], dtype=torch.float64))

    assert bool(((once >= 0.0) & (once < 1.0)).all())
    assert torch.equal(wrap(once), once)
    np.testing.assert_allclose(np.cos(2 * np.pi * float(once[0] - value)), 1.0, atol=1e-12)


def test_noise_is_that_of_the_paper() -> None:
    std = noise_std(torch.tensor([0.0, 0.5, 1.0]).double(), torch.tensor([1, 8, 27]))

    np.testing.assert_allclose(std, [0.01, 0.01 * 500**0.5 / 2, 5 / 3], rtol=1e-14)
    np.testing.assert_allclose(time_grid(300), np.linspace(1.0, 1.0 / 300, 300), atol=1e-15)
    stds = level_stds(300, torch.tensor([20, 5]))
    assert stds.shape == (301, 2)
    assert not stds[0].any()
    np.testing.assert_allclose(stds[150], 0.01 * 500**0.5 * np.array([20, 5]) ** (-1 / 3))


def test_noise_is_bit_identical_at_any_position() -> None:
    times = torch.from_numpy(np.random.default_rng(0).random(41))
    n_atoms = torch.arange(1, 42)

    together = noise_std(times, n_atoms)

    alone = [noise_std(times[i : i + 1], n_atoms[i : i + 1]) for i in range(41)]
    assert torch.equal(together, torch.cat(alone))


def test_prior_is_practically_uniform() -> None:
    noise = torch.from_numpy(np.random.default_rng(1).standard_normal((20_000, 3)))

    prior = draw_prior(torch.full((20_000,), 40), noise)

    counts = np.histogram(prior, bins=20, range=(0, 1))[0]
    # Chi-squared with 19 degrees of freedom exceeds 66 with a probability of 1e-6.
    assert ((counts - 3_000) ** 2 / 3_000).sum() < 66


@pytest.mark.parametrize("predictor", get_args(Predictor))
def test_last_step_adds_no_noise(predictor: Predictor) -> None:
    gain, spread = predictor_coefficients(predictor, torch.tensor([0.02]), torch.tensor([0.0]))

    assert float(gain) == pytest.approx(4e-4)
    assert float(spread) == 0.0


@pytest.mark.parametrize(
    ("predictor", "sound"), [("ancestral", 1), ("x0_renoise", 1), ("x0_jump", 0)]
)
def test_valid_step_has_the_noise_of_the_next_level(predictor: Predictor, sound: int) -> None:
    # With the score of a single site at 0, -x / std^2, x before and after is Gaussian.
    std, std_next = torch.tensor([0.3]).double(), torch.tensor([0.2]).double()

    gain, spread = predictor_coefficients(predictor, std, std_next)

    variance = (1 - gain / std**2) ** 2 * std**2 + spread**2
    assert float(variance) == pytest.approx(sound * 0.04)


def test_renoise_is_a_share_of_the_next_levels_noise() -> None:
    std, std_next = torch.tensor([0.3]).double(), torch.tensor([0.2]).double()
    for predictor, share in (("x0_renoise", 0.7), ("ancestral", 1.0)):
        gain, spread = predictor_coefficients(predictor, std, std_next, renoise=0.7)
        exact_gain, exact_spread = predictor_coefficients(predictor, std, std_next)
        assert torch.equal(gain, exact_gain)
        assert float(spread) == pytest.approx(share * float(exact_spread))


def test_process_is_that_of_mattergen(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(2)
    fractions, noise, start = (torch.from_numpy(rng.random((10, 3))) for _ in range(3))
    times = torch.tensor([0.3, 0.8], dtype=torch.float64)
    with mattergen_in_double(repository), monkeypatch.context() as patch:
        theirs = MattergenSteps(STRUCTURE, steps=8)
        patch.setattr(torch, "randn_like", lambda _: noise)
        patch.setattr(torch, "randn", lambda *_: start)
        noised = theirs.process.sample_marginal(fractions, times, STRUCTURE, theirs.batch)
        prior = theirs.process.prior_sampling((10, 3), conditioning_data=theirs.batch)

    std = noise_std(times[STRUCTURE], N_ATOMS)
    np.testing.assert_allclose(add_noise(fractions, std, noise), noised, rtol=0, atol=1e-14)
    np.testing.assert_allclose(draw_prior(N_ATOMS, start), prior, rtol=0, atol=1e-13)


@pytest.mark.parametrize("level", [8, 5, 1])
def test_ancestral_step_is_that_of_mattergen(
    repository: Path, monkeypatch: pytest.MonkeyPatch, level: int
) -> None:
    rng = np.random.default_rng(level)
    fractions, noise, score = (torch.from_numpy(rng.standard_normal((10, 3))) for _ in range(3))
    with mattergen_in_double(repository), monkeypatch.context() as patch:
        patch.setattr(torch, "randn_like", lambda _: noise)
        theirs = MattergenSteps(STRUCTURE, steps=8).predict(fractions, score, level)

    stds = level_stds(8, torch.tensor([3, 7]))[:, STRUCTURE]
    gain, spread = predictor_coefficients("ancestral", stds[level], stds[level - 1])
    ours = add_noise(fractions + gain[:, None] * score, spread, noise)
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-13)
