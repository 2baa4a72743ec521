"""Sampler settings, shared by all denoising methods."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import get_args

from xtalfill.core.errors import ConfigError
from xtalfill.core.settings import parameter
from xtalfill.proposals.diffusion.corrector import StepRule
from xtalfill.proposals.diffusion.repaint import RepaintNoise
from xtalfill.proposals.diffusion.wrapped_sde import Predictor

# The time that conditioning sites had in training. Their noise there, 0.01 n^(-1/3), is small
# enough for exact coordinates to look alike, while a pair of times (running time, 1 / steps), as
# XtalPaint has it, never occurred: at 50 steps the model would be told of noise it does not see.
TRAINED_KNOWN_TIME = 0.001


@dataclass(frozen=True, kw_only=True)
class SamplerSettings:
    """Sampler settings.

    Attributes:
        steps: Number of noise levels.
        predictor: See `xtalfill.proposals.diffusion.wrapped_sde.predictor_coefficients`.
        renoise: For the predictor `x0_renoise`: share of the next level's noise that it adds.
        corrector_steps: Langevin steps per level.
        corrector_rule: What determines the size of these steps: the norm of the "score", as in the
            paper, or the noise of the "level" (`xtalfill.proposals.diffusion.corrector`).
        snr: Signal-to-noise ratio of these steps; 0.2 in the paper.
        resampling: For `repaint`: number of times each section is denoised.
        jump_length: For `repaint`: levels per jump.
        repaint_noise: For `repaint`: see `xtalfill.proposals.diffusion.repaint.climb_std`.
        known_time: For `td`: diffusion time assigned to known sites.

    Raises:
        ConfigError: A value is out of range.
    """

    steps: int = 300
    predictor: Predictor = "ancestral"
    renoise: float = 1.0
    corrector_steps: int = 1
    corrector_rule: StepRule = "score"
    snr: float = 0.2
    resampling: int = 3
    jump_length: int = 10
    repaint_noise: RepaintNoise = "exact"
    known_time: float = field(default=TRAINED_KNOWN_TIME, metadata=parameter(None))

    def __post_init__(self) -> None:
        least = {"steps": 1, "corrector_steps": 0, "resampling": 1, "jump_length": 1}
        for name, value in least.items():
            if getattr(self, name) < value:
                raise ConfigError(f"{name} is {getattr(self, name)}; it must be at least {value}")
        choices = {
            "predictor": get_args(Predictor),
            "corrector_rule": get_args(StepRule),
            "repaint_noise": get_args(RepaintNoise),
        }
        for name, values in choices.items():
            if getattr(self, name) not in values:
                raise ConfigError(
                    f"{name} {getattr(self, name)} is unknown; choose from {', '.join(values)}"
                )
        if not 0.0 < self.snr < math.inf:
            raise ConfigError(f"snr is {self.snr}; it must be positive")
        for name in ("renoise", "known_time"):
            if not 0.0 < getattr(self, name) <= 1.0:
                raise ConfigError(f"{name} is {getattr(self, name)}; it must be above 0, at most 1")
        if self.predictor == "x0_jump" and self.corrector_steps == 0:
            raise ConfigError("predictor x0_jump makes no noise; it needs corrector_steps above 0")
