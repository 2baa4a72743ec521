"""Resampling with jumps: RePaint (Lugmayr et al., CVPR 2022, arXiv:2201.09865)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from xtalfill.core.errors import ConfigError

RepaintNoise = Literal["exact", "upstream"]


def repaint_levels(*, steps: int, resampling: int, jump_length: int) -> list[int]:
    """Return the noise levels of a sample, from `steps` to 0, with jumps.

    After every `jump_length` levels, counted from level 1, the sample is noised again by
    `jump_length` levels, `resampling` - 1 times (Lugmayr et al., Appendix B). Level k has time k /
    steps.

    Args:
        steps: Number of noise levels N.
        resampling: Number of times each section is denoised; 1 means no jumps.
        jump_length: Levels per jump.

    Returns:
        Levels; neighbours differ by one. (N, resampling, jump) = (200, 3, 10) gives 961 levels: 580
        steps down, 380 up.

    Raises:
        ConfigError: The jumps do not fit into the levels.
    """
    if resampling > 1 and jump_length >= steps:
        raise ConfigError(
            f"jump_length is {jump_length}; it must be less than the steps, which are {steps}"
        )
    left = dict.fromkeys(range(1, steps - jump_length + 1, jump_length), resampling - 1)
    levels = [steps]
    while levels[-1] > 0:
        levels.append(levels[-1] - 1)
        bottom = levels[-1]
        if left.get(bottom, 0) > 0:
            left[bottom] -= 1
            levels.extend(range(bottom + 1, bottom + jump_length + 1))
    return levels


def climb_std(std: Tensor, std_next: Tensor, kind: RepaintNoise) -> Tensor:
    """Return the standard deviation of the noise that leads to a higher noise level.

    Args:
        std: (n,) current noise of the sites.
        std_next: (n,) noise of the target level, larger.
        kind: `exact` adds the difference of the variances. `upstream` uses this difference as the
            standard deviation, as XtalPaint does; for comparison only.

    Returns:
        (n,) in fractional coordinates.
    """
    gain = std_next * std_next - std * std
    return gain if kind == "upstream" else torch.sqrt(gain)
