"""The Langevin corrector: moves sites at constant noise level."""

from __future__ import annotations

from typing import Final, Literal

import torch
from torch import Tensor

from xtalfill.proposals.diffusion.wrapped_sde import add_noise

# What determines the step size: the norm of the score, or the noise level.
StepRule = Literal["score", "level"]

# Limits the step only where the score vanishes; such a step randomises the site.
MAX_STEP_SIZE: Final = 1e6


def langevin_step(fractions: Tensor, score: Tensor, noise: Tensor, size: Tensor) -> Tensor:
    """Return coordinates after one step of Langevin dynamics (Song et al., arXiv:2011.13456).

    Args:
        fractions: (n, 3) coordinates.
        score: (n, 3) score.
        noise: (n, 3) standard normal.
        size: (n,) step size.

    Returns:
        (n, 3) in [0, 1).
    """
    return add_noise(fractions + size[:, None] * score, torch.sqrt(2.0 * size), noise)


def step_size(
    score: Tensor, noise: Tensor, *, moving: Tensor, structure: Tensor, snr: float
) -> Tensor:
    """Return the step 2 (snr |noise| / |score|)^2 of Song et al., Algorithm 4.

    The norms include the moving sites of one structure. MatterGen and XtalPaint average the norms
    over their batch instead, so that a sample depends on the other structures of the batch. For a
    single structure the steps are the same.

    Args:
        score: (n, 3) score of the sites.
        noise: (n, 3) noise of the step.
        moving: (n,) bool; the norms include these sites.
        structure: (n,) int64 index of the site's crystal, ascending.
        snr: Signal-to-noise ratio of the step.

    Returns:
        (n,) step size of each site.
    """
    ratio = snr * _norms(noise, moving, structure) / _norms(score, moving, structure)
    return (2.0 * ratio * ratio).clamp(max=MAX_STEP_SIZE)[structure]


def expected_step_size(std: Tensor, *, snr: float) -> Tensor:
    """Return the step 2 (snr std)^2, which equals `step_size` if |score| = |noise| / std.

    It does not depend on the positions. With one or two missing sites the norm of the score is
    sometimes close to zero; `step_size` then gives a very large step.

    Args:
        std: (n,) noise of the sites.
        snr: Signal-to-noise ratio of the step.

    Returns:
        (n,) step size of each site.
    """
    return 2.0 * (snr * std) * (snr * std)


def _norms(vectors: Tensor, moving: Tensor, structure: Tensor) -> Tensor:
    """Return (B,) the norm of the moving rows of each structure, summed in their order."""
    squares = vectors * vectors
    # Written out, because the order of a reduction may depend on the batch size.
    rows = torch.where(moving, squares[:, 0] + squares[:, 1] + squares[:, 2], 0.0)
    parts = rows.split(torch.bincount(structure).tolist())
    return torch.tensor([sum(part.tolist()) for part in parts], dtype=vectors.dtype).sqrt()
