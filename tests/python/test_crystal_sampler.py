"""Sampling of missing sites: distribution, bit-identity, and the steps of upstream."""

import dataclasses
import itertools
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
from torch import Tensor

from analytic_score import MixtureScore, PairScore, Tape, ZeroScore, make_crystals
from mattergen_reference import MattergenSteps, mattergen_in_double
from xtalfill.core.errors import ConfigError
from xtalfill.models.crystals import CrystalScore
from xtalfill.proposals.diffusion.corrector import expected_step_size, langevin_step, step_size
from xtalfill.proposals.diffusion.crystal_sampler import METHODS, SamplerSettings, sample_crystals
from xtalfill.proposals.diffusion.wrapped_sde import (
    Predictor,
    level_stds,
    noise_std,
    predictor_coefficients,
    wrap,
)

SETTINGS = SamplerSettings(steps=8, resampling=2, jump_length=3)


def structures(seed: int = 0) -> list[tuple[Tensor, Tensor]]:
    """Return three structures; the first and last start with a missing site (hydrogen)."""
    rng = np.random.default_rng(seed)
    numbers = [[1, 8, 12, 1], [12, 8, 1], [1, 3, 1, 9, 22]]
    return [(torch.from_numpy(rng.random((len(z), 3))), torch.tensor(z)) for z in numbers]


def sample(
    model: CrystalScore,
    parts: list[tuple[Tensor, Tensor]],
    *,
    method: str = "td",
    settings: SamplerSettings = SETTINGS,
    seeds: list[int] | None = None,
) -> Tensor:
    """Fill the hydrogen sites of structures, each with its own seed."""
    crystals = make_crystals(parts)
    generators = [np.random.default_rng(seed) for seed in seeds or range(len(parts))]
    return sample_crystals(
        model,
        crystals,
        crystals.numbers != 1,
        method=method,
        settings=settings,
        generators=generators,
    )


@pytest.mark.parametrize(
    ("method", "predictor"),
    # repaint refuses x0_jump
    sorted({*itertools.product(METHODS, get_args(Predictor))} - {("repaint", "x0_jump")}),
)
def test_sample_is_bit_identical_alone_and_in_any_batch(method: str, predictor: str) -> None:
    settings = SamplerSettings(steps=8, predictor=predictor, resampling=2, jump_length=3)
    # The norms differ by orders of magnitude, which reveals a step size shared by a batch.
    model = PairScore(strength={1: 1.0, 12: 0.01})
    parts = structures()

    together = sample(model, parts, method=method, settings=settings, seeds=[5, 6, 7])
    turned = sample(model, parts[::-1], method=method, settings=settings, seeds=[7, 6, 5])

    alone = [
        sample(model, [part], method=method, settings=settings, seeds=[seed])
        for part, seed in zip(parts, [5, 6, 7], strict=True)
    ]
    assert torch.equal(together, torch.cat(alone))
    assert torch.equal(turned, torch.cat(alone[::-1]))


@pytest.mark.parametrize("method", METHODS)
def test_sample_depends_on_its_generator_alone(method: str) -> None:
    torch.manual_seed(1)
    first = sample(PairScore(), structures(), method=method)
    torch.manual_seed(2)
    again = sample(PairScore(), structures(), method=method)
    other = sample(PairScore(), structures(), method=method, seeds=[0, 1, 3])

    assert torch.equal(first, again)
    assert torch.equal(first[:3], other[:3])
    assert not torch.equal(first[3:], other[3:])


@pytest.mark.parametrize("method", METHODS)
def test_result_is_the_missing_sites_and_inputs_are_unchanged(
    method: str,
) -> None:
    parts = structures()
    crystals = make_crystals(parts)
    crystals.fractions[crystals.numbers == 1] = torch.nan
    before = crystals.fractions.clone(), crystals.cell.clone()
    model = PairScore()

    sites = sample_crystals(
        model,
        crystals,
        crystals.numbers != 1,
        method=method,
        settings=SETTINGS,
        generators=[np.random.default_rng(seed) for seed in range(3)],
    )

    assert sites.dtype == torch.float64
    assert sites.shape == (5, 3)
    assert bool(((sites >= 0) & (sites < 1)).all())
    assert torch.equal(sites, sample(PairScore(), parts, method=method))
    assert torch.equal(crystals.fractions.nan_to_num(9.0), before[0].nan_to_num(9.0))
    # Upstream rotates the cell. Here the model reads the given one in any orientation.
    assert all(torch.equal(seen.cell, before[1]) for seen, _ in model.seen)


def test_td_shows_exact_known_sites_at_their_trained_time() -> None:
    model, parts = PairScore(), structures()
    sample(model, parts)

    known = make_crystals(parts).numbers != 1
    exact = make_crystals(parts).fractions[known]
    assert len(model.seen) == 2 * SETTINGS.steps
    for call, (crystals, times) in enumerate(model.seen):
        assert torch.equal(crystals.fractions[known], exact)
        assert set(times[known].tolist()) == {0.001}
        assert set(times[~known].tolist()) == {1.0 - (call // 2) / 8}


@pytest.mark.parametrize("method", ["pos", "mattergen"])
def test_pos_shows_known_sites_noised_from_their_exact_coordinates(method: str) -> None:
    model, parts = PairScore(), structures()[:1]
    tape = np.random.default_rng(3).standard_normal((1 + 3 * 8, 4, 3))
    crystals = make_crystals(parts)
    known = crystals.numbers != 1
    sample_crystals(
        model, crystals, known, method=method, settings=SETTINGS, generators=[Tape(tape)]
    )

    stds = level_stds(8, torch.tensor([4]))[:, 0]
    for index, (seen, times) in enumerate(model.seen[::2]):
        level = 8 - index
        noised = wrap(crystals.fractions + stds[level] * torch.from_numpy(tape[1 + 3 * index]))
        assert torch.equal(seen.fractions[known], noised[known])
        assert set(times.tolist()) == {level / 8}


def test_known_sites_do_not_limit_the_noise_of_others() -> None:
    # Upstream removes all noise of structure j if the j-th site of the batch is known: here in
    # the second structure, independent of its own sites.
    parts = structures()
    settings = SamplerSettings(steps=8, corrector_steps=0)
    tapes = [
        np.random.default_rng(seed).standard_normal((9, len(numbers), 3))
        for seed, (_, numbers) in enumerate(parts)
    ]
    crystals = make_crystals(parts)
    known = crystals.numbers != 1
    sites = sample_crystals(
        ZeroScore(),
        crystals,
        known,
        method="td",
        settings=settings,
        generators=[Tape(tape) for tape in tapes],
    )

    stds = level_stds(8, torch.bincount(crystals.structure))[:, crystals.structure]
    draws = torch.from_numpy(np.concatenate(tapes, axis=1))
    walk = stds[8, :, None] * draws[0]
    for draw, level in enumerate(range(8, 0, -1), start=1):
        spread = predictor_coefficients("ancestral", stds[level], stds[level - 1])[1]
        walk = walk + spread[:, None] * draws[draw]
    np.testing.assert_allclose(sites, wrap(walk)[~known], atol=1e-12)


def two_sites(count: int) -> list[tuple[Tensor, Tensor]]:
    """Return crystals with a known site at (0.1, 0.2, 0.3) and a missing one."""
    fractions = torch.tensor([[0.1, 0.2, 0.3], [0.0, 0.0, 0.0]], dtype=torch.float64)
    return [(fractions, torch.tensor([8, 1]))] * count


def two_places(*, width: float) -> MixtureScore:
    """Return the score of a missing site with two modes of weights 3/4 and 1/4."""
    places = [[0.4, 0.5, 0.98], [0.9, 0.1, 0.3]]
    centres = [[[0.1, 0.2, 0.3], place] for place in places]
    weights = torch.tensor([0.75, 0.25], dtype=torch.float64)
    return MixtureScore(torch.tensor(centres, dtype=torch.float64), weights, width)


def at_which_place(sites: Tensor, model: MixtureScore) -> tuple[Tensor, Tensor]:
    """Return the mode of each site and its deviation from it, (n, 3)."""
    gaps = wrap(sites[:, None] - model.centres[None, :, 1] + 0.5) - 0.5
    nearest = gaps.norm(dim=-1).argmin(dim=1)
    return nearest, gaps[torch.arange(len(sites)), nearest]


# Three quarters of 400, within five standard deviations.
SHARE_TOLERANCE = 5 * np.sqrt(400 * 0.75 * 0.25)


@pytest.mark.parametrize("corrector_steps", [0, 1])
@pytest.mark.parametrize("method", ["td", "pos", "repaint"])
def test_samples_have_the_true_distribution(method: str, corrector_steps: int) -> None:
    settings = SamplerSettings(
        steps=60, corrector_steps=corrector_steps, corrector_rule="level", resampling=2
    )
    model = two_places(width=0.04)

    sites = sample(model, two_sites(400), method=method, settings=settings)

    place, offsets = at_which_place(sites, model)
    assert abs(int((place == 0).sum()) - 300) < SHARE_TOLERANCE
    assert float(offsets.norm(dim=1).max()) < 6 * 0.04
    assert float(offsets.std()) == pytest.approx(0.04, rel=0.12)


@pytest.mark.parametrize(
    ("predictor", "corrector_steps"), [("ancestral", 1), ("x0_renoise", 1), ("x0_renoise", 0)]
)
@pytest.mark.parametrize("method", ["td", "pos"])
def test_narrow_modes_are_sampled_by_weight(
    method: str, predictor: str, corrector_steps: int
) -> None:
    settings = SamplerSettings(steps=60, predictor=predictor, corrector_steps=corrector_steps)
    model = two_places(width=0.004)

    sites = sample(model, two_sites(400), method=method, settings=settings)

    place, offsets = at_which_place(sites, model)
    assert abs(int((place == 0).sum()) - 300) < SHARE_TOLERANCE
    assert float(offsets.norm(dim=1).max()) < 0.05


def test_x0_jump_ignores_the_weights() -> None:
    model = two_places(width=0.004)

    sites = sample(model, two_sites(400), settings=SamplerSettings(steps=60, predictor="x0_jump"))

    place, _ = at_which_place(sites, model)
    assert abs(int((place == 0).sum()) - 300) > SHARE_TOLERANCE


def test_step_size_of_the_corrector_is_bounded() -> None:
    one = torch.zeros(2, dtype=torch.int64)
    flat, noise = torch.zeros(2, 3), torch.ones(2, 3)

    assert step_size(flat, noise, moving=one == 0, structure=one, snr=0.2).tolist() == [1e6] * 2


def test_rules_of_the_corrector_agree_where_score_and_noise_match() -> None:
    structure = torch.tensor([0, 0, 1])
    noise = torch.from_numpy(np.random.default_rng(0).standard_normal((3, 3)))
    std = torch.tensor([0.1, 0.1, 0.3]).double()

    size = step_size(
        noise / std[:, None], noise, moving=structure < 2, structure=structure, snr=0.2
    )

    np.testing.assert_allclose(size, expected_step_size(std, snr=0.2))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"steps": 0}, "steps is 0"),
        ({"corrector_steps": -1}, "corrector_steps is -1"),
        ({"resampling": 0}, "resampling is 0"),
        ({"jump_length": 0}, "jump_length is 0"),
        ({"snr": 0.0}, "snr is 0.0"),
        ({"snr": np.nan}, "snr is nan"),
        ({"known_time": 0.0}, "known_time is 0.0"),
        ({"renoise": 0.0}, "renoise is 0.0; it must be above 0, at most 1"),
        ({"renoise": 1.1}, "renoise is 1.1"),
        ({"corrector_rule": "none"}, "corrector_rule none is unknown; choose from score, level"),
        ({"predictor": "euler"}, "predictor euler is unknown; choose from ancestral, x0_jump"),
        ({"repaint_noise": "none"}, "repaint_noise none is unknown"),
        ({"predictor": "x0_jump", "corrector_steps": 0}, "needs corrector_steps above 0"),
    ],
)
def test_settings_out_of_range_are_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        SamplerSettings(**change)


def refused(message: str, **options: object) -> None:
    with pytest.raises(ConfigError, match=message):
        sample(**{"model": PairScore(), "parts": structures(), **options})


def test_impossible_methods_are_refused() -> None:
    refused("method host is unknown; choose from td, pos", method="host")
    refused("time per site", method="td", model=PairScore(per_site_times=False))
    refused("climbs", method="repaint", settings=SamplerSettings(predictor="x0_jump"))
    refused("less than the steps", method="repaint", settings=SamplerSettings(steps=10))


def test_each_structure_needs_its_own_generator() -> None:
    with pytest.raises(ValueError, match="2 generators for 3 structures"):
        sample(PairScore(), structures(), seeds=[1, 2])


def test_corrector_is_that_of_mattergen_for_one_structure(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(9)
    fractions, noise, score = (torch.from_numpy(rng.standard_normal((5, 3))) for _ in range(3))
    one = torch.zeros(5, dtype=torch.int64)
    with mattergen_in_double(repository), monkeypatch.context() as patch:
        patch.setattr(torch, "randn_like", lambda _: noise)
        theirs = MattergenSteps(one, steps=8).correct(fractions, score, 4)

    size = step_size(score, noise, moving=one == 0, structure=one, snr=0.2)
    ours = langevin_step(fractions, score, noise, size)
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-13)


def test_pos_trajectory_equals_steps_of_mattergen(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    part = structures()[2]
    crystals, known = make_crystals([part]), part[1] != 1
    tape = np.random.default_rng(11).standard_normal((1 + 3 * 8, 5, 3))
    ours = sample_crystals(
        PairScore(), crystals, known, method="pos", settings=SETTINGS, generators=[Tape(tape)]
    )

    draws = (torch.from_numpy(array) for array in tape)
    with mattergen_in_double(repository), monkeypatch.context() as patch:
        steps = MattergenSteps(crystals.structure, steps=8)
        patch.setattr(torch, "randn_like", lambda _: next(draws))
        x = wrap(5.0 * 5 ** (-1 / 3) * next(draws))
        for level in range(8, 0, -1):
            time = torch.full((5,), level / 8)
            std = noise_std(time, torch.full((5,), 5))[:, None]
            x[known] = wrap(part[0] + std * next(draws))[known]
            for step in (steps.correct, steps.predict):
                noised = dataclasses.replace(crystals, fractions=x)
                x = step(x, PairScore().scaled_score(noised, time) / std, level)
    np.testing.assert_allclose(ours, x[~known], rtol=0, atol=1e-9)


# Generated with the unchanged samplers of psi-lms/XtalPaint, commit 8e01af3: double precision,
# eight levels, snr 0.2, one structure of five sites each, PairScore as the score model. The noise
# is the random numbers that they drew. "pos" is CustomGuidedPredictorCorrector; "td" and "td_jump"
# are TDPaintGuidedPredictorCorrector. It tests whether site j is known instead of structure j. Here
# this is site 0: missing in "td", which gives the intended ancestral step, and known in "td_jump",
# which gives a jump to x0 at every level. It assigns time 1 / 8 to known sites.
XTALPAINT = "tests/python/data/xtalpaint_samples.npz"


@pytest.mark.parametrize(
    ("name", "method", "predictor"),
    [("pos", "pos", "ancestral"), ("td", "td", "ancestral"), ("td_jump", "td", "x0_jump")],
)
def test_samples_are_those_of_xtalpaint(
    repository: Path, name: str, method: str, predictor: str
) -> None:
    with np.load(repository / XTALPAINT) as data:
        fractions, numbers, noise, mean = (
            data[f"{name}_{part}"] for part in ("fractions", "numbers", "noise", "mean")
        )
    crystals = make_crystals([(torch.from_numpy(fractions), torch.from_numpy(numbers))])

    sites = sample_crystals(
        PairScore(),
        crystals,
        crystals.numbers != 1,
        method=method,
        settings=SamplerSettings(steps=8, predictor=predictor, known_time=1 / 8),
        generators=[Tape(noise)],
    )

    np.testing.assert_allclose(sites, mean[numbers == 1], rtol=0, atol=1e-9)
