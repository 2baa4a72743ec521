"""The noise of score models for all sites: a wrapped variance-exploding SDE.

Fractional coordinates of a crystal of n atoms, missing ones included, carry Gaussian noise of
standard deviation sigma(t) n^(-1/3) at time t in (0, 1], wrapped into the cell; sigma(t) =
sigma_min (sigma_max / sigma_min)^t. This is the process of arXiv:2601.01959, Eq. 3, with the
scaling of MatterGen (Zeni et al., Nature 639, 624 (2025)). Its reverse is Eq. 4.

The values of a site depend on its own crystal alone, to the last bit. Powers are computed one by
one, because vectorised powers may depend on the position in the vector.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

SIGMA_MIN = 0.01
SIGMA_MAX = 5.0

Predictor = Literal["ancestral", "x0_jump", "x0_renoise"]


def wrap(fractions: Tensor) -> Tensor:
    """Return fractional coordinates, any shape, wrapped into [0, 1)."""
    wrapped = torch.remainder(fractions, 1.0)
    # A tiny negative number is rounded to 1.
    return torch.where(wrapped >= 1.0, 0.0, wrapped)


def noise_std(times: Tensor, n_atoms: Tensor) -> Tensor:
    """Return the standard deviation of the noise.

    Args:
        times: (n,) diffusion times in [0, 1].
        n_atoms: (n,) number of atoms of the crystal, missing ones included.

    Returns:
        (n,) float64, in fractional coordinates; sigma_min n^(-1/3) at time 0.
    """
    pairs = zip(times.tolist(), n_atoms.tolist(), strict=True)
    ratio = SIGMA_MAX / SIGMA_MIN
    stds = [SIGMA_MIN * ratio**time * atoms ** (-1.0 / 3.0) for time, atoms in pairs]
    return torch.tensor(stds, dtype=torch.float64)


def time_grid(steps: int) -> Tensor:
    """Return the times of the noise levels, (steps,) float64: from 1 down to 1 / steps."""
    return torch.arange(steps, 0, -1, dtype=torch.float64) / steps


def level_stds(steps: int, n_atoms: Tensor) -> Tensor:
    """Return the noise of every level. Level k has time k / steps; level 0 has no noise.

    Args:
        steps: Number of noise levels.
        n_atoms: (B,) number of atoms of each crystal.

    Returns:
        (steps + 1, B) float64, in fractional coordinates.
    """
    rows = [noise_std(time.expand(len(n_atoms)), n_atoms) for time in time_grid(steps).flip(0)]
    return torch.stack([torch.zeros(len(n_atoms), dtype=torch.float64), *rows])


def add_noise(fractions: Tensor, std: Tensor, noise: Tensor) -> Tensor:
    """Return coordinates with added noise: a sample of the forward process.

    Args:
        fractions: (n, 3) coordinates at the lower noise level.
        std: (n,) standard deviation of the added noise.
        noise: (n, 3) standard normal.

    Returns:
        (n, 3) in [0, 1).
    """
    return wrap(fractions + std[:, None] * noise)


def draw_prior(n_atoms: Tensor, noise: Tensor) -> Tensor:
    """Return coordinates at time 1. They are practically uniform, as the noise exceeds the cell.

    Args:
        n_atoms: (n,) number of atoms of the crystal of each site.
        noise: (n, 3) standard normal.

    Returns:
        (n, 3) in [0, 1).
    """
    start = torch.ones(len(n_atoms), dtype=torch.float64)
    return add_noise(torch.zeros_like(noise), noise_std(start, n_atoms), noise)


def predictor_coefficients(
    predictor: Predictor, std: Tensor, std_next: Tensor, *, renoise: float = 1.0
) -> tuple[Tensor, Tensor]:
    """Return a and b of one denoising step: x -> wrap(x + a score + b z), z standard normal.

    With the predicted clean coordinates x0 = x + std^2 score, the predictors are

    - `ancestral`: a sample of the posterior between x and x0 (Eq. 4):
      a = std^2 - std_next^2, b = std_next sqrt(std^2 - std_next^2) / std;
    - `x0_renoise`: x0 with the noise of the next level: a = std^2, b = renoise std_next;
    - `x0_jump`: x0 itself at every level: a = std^2, b = 0.

    The first two belong to one family whose samples have the correct noise at every level if x0 is
    correct (Song et al., arXiv:2010.02502, Eq. 7; `x0_renoise` keeps none of the old noise).
    `x0_jump` is not a valid sampler: its output has no noise, while the model assumes the noise of
    the next level. It exists because the sampler of XtalPaint takes this step for most structures,
    because of an indexing error. Only a corrector then adds noise, and more of it if the score is
    small. Use it to reproduce published results, otherwise use `x0_renoise`.

    With `renoise` below 1 the next level gets less noise than the model assumes, by the same factor
    at all levels. Samples then concentrate at the density maxima, as at a lower temperature. They
    no longer follow the distribution, but single candidates are more accurate.

    Args:
        predictor: One of the three.
        std: (n,) current noise of the sites.
        std_next: (n,) noise after the step, smaller; zero at the end, where b is zero for all.
        renoise: Share of the next level's noise that `x0_renoise` adds.

    Returns:
        a and b, each (n,).
    """
    if predictor == "x0_jump":
        return std * std, torch.zeros_like(std)
    if predictor == "x0_renoise":
        return std * std, renoise * std_next
    gain = std * std - std_next * std_next
    return gain, std_next * torch.sqrt(gain) / std
