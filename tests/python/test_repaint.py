"""RePaint: the schedule, the added noise, and the effect of resampling."""

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from analytic_score import MixtureScore, PairScore, Tape, ZeroScore, make_crystals
from xtalfill.core.errors import ConfigError
from xtalfill.proposals.diffusion import crystal_sampler
from xtalfill.proposals.diffusion.crystal_sampler import SamplerSettings, sample_crystals
from xtalfill.proposals.diffusion.repaint import RepaintNoise, climb_std, repaint_levels
from xtalfill.proposals.diffusion.wrapped_sde import level_stds, predictor_coefficients, wrap


@pytest.mark.parametrize(
    ("steps", "resampling", "down", "up"),
    [(200, 3, 580, 380), (300, 3, 880, 580), (200, 1, 200, 0), (300, 1, 300, 0)],
)
def test_schedule_has_the_counts_of_repaint(
    steps: int, resampling: int, down: int, up: int
) -> None:
    levels = repaint_levels(steps=steps, resampling=resampling, jump_length=10)

    moves = np.diff(levels)
    assert int((moves < 0).sum()) == down
    assert int((moves > 0).sum()) == up


@given(steps=st.integers(1, 60), resampling=st.integers(1, 4), jump_length=st.integers(1, 20))
def test_schedule_changes_by_single_levels(steps: int, resampling: int, jump_length: int) -> None:
    if resampling > 1 and jump_length >= steps:
        with pytest.raises(ConfigError, match="jump_length"):
            repaint_levels(steps=steps, resampling=resampling, jump_length=jump_length)
        return
    levels = repaint_levels(steps=steps, resampling=resampling, jump_length=jump_length)

    assert levels[0] == steps
    assert levels[-1] == 0
    assert levels.count(0) == 1
    assert max(levels) == steps
    assert set(np.abs(np.diff(levels))) == {1}
    down = [pair for pair in itertools.pairwise(levels) if pair[1] < pair[0]]
    jumps = (steps - 1) // jump_length if resampling > 1 else 0
    assert len(down) == steps + (resampling - 1) * jump_length * jumps
    # A level is denoised once or, within a jump, `resampling` times.
    assert {down.count(pair) for pair in down} <= {1, resampling}


def test_jumps_start_at_level_one_as_in_the_paper() -> None:
    assert repaint_levels(steps=5, resampling=2, jump_length=2) == [
        *[5, 4, 3, 4, 5, 4, 3, 2, 1, 2, 3, 2, 1, 0],
    ]


def test_renoising_adds_the_difference_of_the_variances() -> None:
    stds = level_stds(50, torch.tensor([7]))[:, 0]

    low, high = stds[10:11], stds[11:12]

    exact = climb_std(low, high, "exact")
    assert float(low**2 + exact**2) == pytest.approx(float(high**2))
    upstream = climb_std(low, high, "upstream")
    assert float(upstream) == pytest.approx(float(exact**2))


def test_without_resampling_repaint_is_pos() -> None:
    fractions = torch.from_numpy(np.random.default_rng(0).random((4, 3)))
    crystals = make_crystals([(fractions, torch.tensor([1, 8, 1, 3]))])
    settings = SamplerSettings(steps=12, resampling=1)
    pos, repaint = (
        sample_crystals(
            PairScore(),
            crystals,
            crystals.numbers != 1,
            method=method,
            settings=settings,
            generators=[np.random.default_rng(4)],
        )
        for method in ("pos", "repaint")
    )

    assert torch.equal(pos, repaint)


@pytest.mark.parametrize("kind", ["exact", "upstream"])
def test_walk_of_repaint_is_a_sum_of_its_noise(kind: RepaintNoise) -> None:
    settings = SamplerSettings(
        steps=12, corrector_steps=0, resampling=2, jump_length=4, repaint_noise=kind
    )
    levels = repaint_levels(steps=12, resampling=2, jump_length=4)
    # The prior, two draws per step down, one per step up.
    count = 1 + int((np.diff(levels) < 0).sum()) + len(levels) - 1
    tape = np.random.default_rng(6).standard_normal((count, 1, 3))
    crystals = make_crystals([(torch.zeros(1, 3).double(), torch.tensor([1]))])
    noise = Tape(tape)

    site = sample_crystals(
        ZeroScore(),
        crystals,
        torch.tensor([False]),
        method="repaint",
        settings=settings,
        generators=[noise],
    )

    stds = level_stds(12, torch.tensor([1]))[:, 0]
    draws = iter(torch.from_numpy(tape[:, 0]))
    walk = stds[12] * next(draws)
    for before, after in itertools.pairwise(levels):
        if after > before:
            gain = stds[after] ** 2 - stds[before] ** 2
            walk = walk + (gain**0.5 if kind == "exact" else gain) * next(draws)
            continue
        next(draws)  # for the known sites
        spread = predictor_coefficients("ancestral", stds[before], stds[after])[1]
        walk = walk + spread * next(draws)
    assert next(noise.arrays, None) is None
    np.testing.assert_allclose(site[0], wrap(walk), atol=1e-12)


def test_resampling_brings_missing_sites_in_line_with_known_ones() -> None:
    # The known site determines which of two positions the missing one has, but differs by only a
    # fifth of the cell, and the choice is made at noise of this size.
    known = torch.tensor([[0.1, 0.2, 0.3], [0.3, 0.2, 0.3]]).double()
    places = torch.tensor([[0.4, 0.5, 0.98], [0.8, 0.5, 0.98]]).double()
    model = MixtureScore(torch.stack([known, places], dim=1), torch.full((2,), 0.5), 0.01)
    crystals = make_crystals([(torch.stack([known[0], places[1]]), torch.tensor([8, 1]))] * 400)
    right = {}
    for method in ("td", "pos", "repaint"):
        sites = sample_crystals(
            model,
            crystals,
            crystals.numbers != 1,
            method=method,
            settings=SamplerSettings(steps=60, corrector_steps=0, resampling=6),
            generators=[np.random.default_rng(seed) for seed in range(400)],
        )
        right[method] = float((wrap(sites - places[0] + 0.5) - 0.5).norm(dim=1).lt(0.1).sum())

    assert right["td"] == 400
    # The difference is three standard deviations, at most 14 each.
    assert right["repaint"] > right["pos"] + 42
    assert right["pos"] < 350


def test_samples_are_those_of_xtalpaint(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Generated with RePaintV2GuidedPredictorCorrector of psi-lms/XtalPaint, commit 8e01af3, as
    # described in test_crystal_sampler.py, but on two structures and without a corrector, which
    # is at another place there. Its noise on the way up is the difference of the variances; its
    # jumps start one level below those of the paper.
    with np.load(repository / "tests/python/data/xtalpaint_samples.npz") as data:
        fractions, numbers, noise, mean, levels = (
            data[f"repaint_{part}"] for part in ("fractions", "numbers", "noise", "mean", "levels")
        )
    parts = [slice(0, 5), slice(5, 8)]
    crystals = make_crystals(
        [(torch.from_numpy(fractions[part]), torch.from_numpy(numbers[part])) for part in parts]
    )
    monkeypatch.setattr(crystal_sampler, "repaint_levels", lambda **_: levels.tolist())

    sites = sample_crystals(
        PairScore(),
        crystals,
        crystals.numbers != 1,
        method="repaint",
        settings=SamplerSettings(steps=8, corrector_steps=0, repaint_noise="upstream"),
        generators=[Tape(noise[:, part]) for part in parts],
    )

    np.testing.assert_allclose(sites, mean[numbers == 1], rtol=0, atol=1e-9)
