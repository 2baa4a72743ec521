"""Inpainting with a score model for all sites of a crystal.

Four methods fill the missing sites as in arXiv:2601.01959, Methods IV.2. They differ in what the
model is given for the known sites:

- `td`: their exact coordinates, marked as known: every site has its own time (TD-Paint, Eq. 5).
  Only missing sites move.
- `pos`: one time per crystal. At each level the known sites are noised again from their exact
  coordinates. Within a level all sites move.
- `repaint`: `pos` with resampling (`xtalfill.proposals.diffusion.repaint`).
- `mattergen`: `pos` with a model that was trained to change cell and species, too; both are fixed.

At each level corrector steps come first, then one predictor step. State and noise are float64 on
the CPU; the model may run on another device and in another precision. Each structure has its own
random generator and no value combines several structures. A sample therefore depends only on its
structure, its generator and the settings, provided that the model treats structures independently.
The cell does not change; the results are fractional coordinates in the given cell.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from xtalfill.core.errors import ConfigError
from xtalfill.models.crystals import Crystals, CrystalScore
from xtalfill.proposals.diffusion.corrector import expected_step_size, langevin_step, step_size
from xtalfill.proposals.diffusion.repaint import climb_std, repaint_levels
from xtalfill.proposals.diffusion.settings import SamplerSettings
from xtalfill.proposals.diffusion.wrapped_sde import (
    add_noise,
    draw_prior,
    level_stds,
    predictor_coefficients,
)

METHODS = ("td", "pos", "repaint", "mattergen")


def check_method(method: str, settings: SamplerSettings, *, per_site_times: bool) -> None:
    """Check that a method can be sampled with a model and settings.

    Args:
        method: One of `METHODS`.
        settings: Sampler settings.
        per_site_times: Whether the model has a time per site.

    Raises:
        ConfigError: The method is unknown, or model or settings do not fit it.
    """
    if method not in METHODS:
        raise ConfigError(f"method {method} is unknown; choose from {', '.join(METHODS)}")
    if method == "td" and not per_site_times:
        raise ConfigError("method td needs a model with a time per site; choose pos or repaint")
    if method == "repaint" and settings.predictor == "x0_jump":
        raise ConfigError("predictor x0_jump leaves the noise levels that repaint climbs")
    _levels(method, settings)


def sample_crystals(
    model: CrystalScore,
    crystals: Crystals,
    known: Tensor,
    *,
    method: str,
    settings: SamplerSettings,
    generators: Sequence[np.random.Generator],
) -> Tensor:
    """Sample the missing sites of a batch of crystals.

    Args:
        model: The score model.
        crystals: Known and missing sites, on the device of the model; the coordinates of the
            missing
            ones are ignored and may be NaN.
        known: (n,) bool; fixed sites.
        method: One of `METHODS`.
        settings: Sampler settings.
        generators: One random generator per structure. Every draw has (n_atoms, 3) standard normal
            numbers: prior, then per level, if the method has them, known sites, corrector steps and
            predictor; one draw per step up.

    Returns:
        (n_missing, 3) float64 on the CPU: fractional coordinates in [0, 1) in the order of the
        missing sites, the mean of the last predictor step; NaN if the model output is not finite.

    Raises:
        ConfigError: The method is unknown, or model or settings do not fit it.
        ValueError: The numbers of generators and structures differ.
    """
    check_method(method, settings, per_site_times=model.per_site_times)
    sampling = _prepare(model, crystals, known.cpu(), method, settings, generators)
    with torch.inference_mode():
        missing = sampling.run(_levels(method, settings))[~sampling.known]
    return missing.clone()


def _prepare(
    model: CrystalScore,
    crystals: Crystals,
    known: Tensor,
    method: str,
    settings: SamplerSettings,
    generators: Sequence[np.random.Generator],
) -> _Sampling:
    """Return what the steps of a batch share; see `sample_crystals`."""
    structure = crystals.structure.cpu()
    n_atoms = torch.bincount(structure)
    if len(generators) != len(n_atoms):
        raise ValueError(f"{len(generators)} generators for {len(n_atoms)} structures")
    fractions = crystals.fractions.detach().to("cpu", torch.float64)
    return _Sampling(
        model=model,
        crystals=crystals,
        exact=torch.where(known[:, None], fractions, 0.0),
        known=known,
        structure=structure,
        n_atoms=n_atoms,
        stds=level_stds(settings.steps, n_atoms),
        is_td=method == "td",
        settings=settings,
        generators=generators,
    )


def _levels(method: str, settings: SamplerSettings) -> list[int]:
    """Return the sequence of noise levels."""
    if method != "repaint":
        return list(range(settings.steps, -1, -1))
    return repaint_levels(
        steps=settings.steps,
        resampling=settings.resampling,
        jump_length=settings.jump_length,
    )


@dataclass(frozen=True, kw_only=True)
class _Sampling:
    """One batch with all data shared by its steps; sites first, as in `Crystals`, on the CPU."""

    model: CrystalScore
    crystals: Crystals
    exact: Tensor  # (n, 3) coordinates of the known sites, zero for the missing ones
    known: Tensor  # (n,) bool
    structure: Tensor  # (n,)
    n_atoms: Tensor  # (B,)
    stds: Tensor  # (steps + 1, B)
    is_td: bool
    settings: SamplerSettings
    generators: Sequence[np.random.Generator]

    def run(self, levels: Sequence[int]) -> Tensor:
        """Go through the noise levels, which differ by one; return (n, 3)."""
        fractions = self._hold(draw_prior(self.n_atoms[self.structure], self._noise()))
        for level, following in itertools.pairwise(levels):
            step = self._down if following < level else self._up
            fractions = step(fractions, level, following)
        return fractions

    def _down(self, fractions: Tensor, level: int, following: int) -> Tensor:
        """Correct at a level, then predict the next lower one."""
        settings, std = self.settings, self._std(level)
        if not self.is_td:
            noised = add_noise(self.exact, std, self._noise())
            fractions = torch.where(self.known[:, None], noised, fractions)
        for _ in range(settings.corrector_steps):
            fractions = self._correct(fractions, level)
        gain, spread = predictor_coefficients(
            settings.predictor, std, self._std(following), renoise=settings.renoise
        )
        mean = fractions + gain[:, None] * self._score(fractions, level)
        return self._hold(add_noise(mean, spread, self._noise()))

    def _correct(self, fractions: Tensor, level: int) -> Tensor:
        """Take one Langevin step."""
        settings, noise = self.settings, self._noise()
        score = self._score(fractions, level)
        if settings.corrector_rule == "level":
            size = expected_step_size(self._std(level), snr=settings.snr)
        else:
            moving = ~self.known if self.is_td else torch.ones_like(self.known)
            size = step_size(
                score, noise, moving=moving, structure=self.structure, snr=settings.snr
            )
        return self._hold(langevin_step(fractions, score, noise, size))

    def _up(self, fractions: Tensor, level: int, following: int) -> Tensor:
        """Add noise to all sites up to the next higher level."""
        std = climb_std(self._std(level), self._std(following), self.settings.repaint_noise)
        return add_noise(fractions, std, self._noise())

    def _score(self, fractions: Tensor, level: int) -> Tensor:
        """Return the score (n, 3); it is meaningful for moving sites."""
        times = torch.full((len(fractions),), level / self.settings.steps, dtype=torch.float64)
        if self.is_td:
            times[self.known] = self.settings.known_time
        device = self.crystals.fractions.device
        noised = dataclasses.replace(self.crystals, fractions=fractions.to(device))
        scaled = self.model.scaled_score(noised, times.to(device))
        return scaled.to("cpu", torch.float64) / self._std(level)[:, None]

    def _std(self, level: int) -> Tensor:
        """Return the noise (n,) of sites at a level."""
        return self.stds[level][self.structure]

    def _hold(self, fractions: Tensor) -> Tensor:
        """Reset known sites to their exact coordinates if the method uses them."""
        return torch.where(self.known[:, None], self.exact, fractions) if self.is_td else fractions

    def _noise(self) -> Tensor:
        """Return standard normal numbers (n, 3), for each structure from its own generator."""
        pairs = zip(self.generators, self.n_atoms.tolist(), strict=True)
        return torch.from_numpy(
            np.concatenate([generator.standard_normal((n, 3)) for generator, n in pairs])
        )
