"""The Langevin corrector: moves sites without changing their noise level."""

from __future__ import annotations

from typing import Final, Literal

import torch
from torch import Tensor

from xtalfill.proposals.diffusion.wrapped_sde import add_noise

# What the size of a step follows: the norm of the score, or the noise of the level.
StepRule = Literal["score", "level"]

# Of no effect but where the score vanishes: a step of this size forgets where a site was.
MAX_STEP_SIZE: Final = 1e6


def langevin_step(fractions: Tensor, score: Tensor, noise: Tensor, size: Tensor) -> Tensor:
    """Return coordinates after one step of Langevin dynamics (Song et al., arXiv:2011.13456).

    Args:
        fractions: (n, 3) coordinates.
        score: (n, 3) their score.
        noise: (n, 3) standard normal.
        size: (n,) size of the step.

    Returns:
        (n, 3) in [0, 1).
    """
    return add_noise(fractions + size[:, None] * score, torch.sqrt(2.0 * size), noise)


def step_size(
    score: Tensor, noise: Tensor, *, moving: Tensor, structure: Tensor, snr: float
) -> Tensor:
    """Return the step 2 (snr |noise| / |score|)^2 of Song et al., Algorithm 4.

    The norms are those of one structure, over its sites that move. The samplers of MatterGen and
    XtalPaint average the norms over their batch instead, so that a structure's sample depends on
    its neighbours; for one structure alone they take the same step.

    Args:
        score: (n, 3) score of the sites.
        noise: (n, 3) noise of the step.
        moving: (n,) bool; the norms are over these sites.
        structure: (n,) int64 index of the site's crystal, ascending.
        snr: Ratio of the score's part of the step to the noise's.

    Returns:
        (n,) size of each site's step.
    """
    ratio = snr * _norms(noise, moving, structure) / _norms(score, moving, structure)
    return (2.0 * ratio * ratio).clamp(max=MAX_STEP_SIZE)[structure]


def expected_step_size(std: Tensor, *, snr: float) -> Tensor:
    """Return the step 2 (snr std)^2, which `step_size` has where |score| = |noise| / std.

    It does not depend on where the sites are. `step_size` does: with one or two missing sites the
    norm of the score is now and then near zero, and the step throws them far out.

    Args:
        std: (n,) noise of the sites.
        snr: As in `step_size`.

    Returns:
        (n,) size of each site's step.
    """
    return 2.0 * (snr * std) * (snr * std)


def _norms(vectors: Tensor, moving: Tensor, structure: Tensor) -> Tensor:
    """Return (B,) the norm of each structure's moving rows, added up one by one in their order."""
    squares = vectors * vectors
    # Written out: a reduction may add in another order in a larger batch.
    rows = torch.where(moving, squares[:, 0] + squares[:, 1] + squares[:, 2], 0.0)
    parts = rows.split(torch.bincount(structure).tolist())
    return torch.tensor([sum(part.tolist()) for part in parts], dtype=vectors.dtype).sqrt()
