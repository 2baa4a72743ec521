"""Whole crystals as the score models over all sites read them, and what such a model offers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor


@dataclass(frozen=True)
class Crystals:
    """B crystals, joined.

    Attributes:
        fractions: (n, 3) fractional coordinates.
        cell: (B, 3, 3) Angstrom; rows are lattice vectors, in any orientation.
        numbers: (n,) int64 atomic numbers.
        structure: (n,) int64 index of the site's crystal, ascending.
    """

    fractions: Tensor
    cell: Tensor
    numbers: Tensor
    structure: Tensor

    def to(self, device: torch.device) -> Crystals:
        """Return the crystals on a device."""
        return Crystals(**{name: value.to(device) for name, value in vars(self).items()})


class CrystalScore(Protocol):
    """A score model over all sites of a crystal, in fractional coordinates."""

    @property
    def per_site_times(self) -> bool:
        """Whether sites of one crystal may have different times (TD-Paint)."""

    def scaled_score(self, crystals: Crystals, times: Tensor) -> Tensor:
        """Return the score of each site times the standard deviation of its noise.

        Args:
            crystals: The noised crystals.
            times: (n,) diffusion time in (0, 1] of each site; equal within a crystal unless
                `per_site_times`.

        Returns:
            (n, 3) in fractional coordinates, dimensionless.
        """
