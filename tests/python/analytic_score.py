"""Analytic score models, for tests of the sampler."""

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from xtalfill.models.crystals import Crystals
from xtalfill.proposals.diffusion.wrapped_sde import noise_std

# Wide enough for the noise of time 1 in a crystal of two sites.
IMAGES = torch.arange(-20, 21, dtype=torch.float64)


def make_crystals(structures: list[tuple[Tensor, Tensor]]) -> Crystals:
    """Join structures, each fractions (n, 3) and numbers (n,), in skewed cells."""
    counts = torch.tensor([len(numbers) for _, numbers in structures])
    cell = torch.tensor([[0.0, 4.0, 0.3], [3.0, 0.0, 1.0], [0.2, 1.0, -5.0]], dtype=torch.float64)
    return Crystals(
        fractions=torch.cat([fractions for fractions, _ in structures]),
        cell=cell.repeat(len(structures), 1, 1),
        numbers=torch.cat([numbers for _, numbers in structures]),
        structure=torch.arange(len(structures)).repeat_interleave(counts),
    )


class Tape:
    """A generator with known numbers: one array (n, 3) per draw."""

    def __init__(self, arrays: np.ndarray) -> None:
        """Take arrays (draws, n, 3)."""
        self.arrays = iter(arrays)

    def standard_normal(self, shape: tuple[int, int]) -> np.ndarray:
        """Return the next array."""
        array = next(self.arrays)
        assert array.shape == shape
        return array


@dataclass
class MixtureScore:
    """Exact score of crystals that are drawn from C configurations, each with a width.

    Attributes:
        centres: (C, n, 3) the sites of the configurations, in fractional coordinates.
        weights: (C,) their probabilities.
        width: Standard deviation of each coordinate about its centre.
    """

    centres: Tensor
    weights: Tensor
    width: float
    per_site_times: bool = True

    def scaled_score(self, crystals: Crystals, times: Tensor) -> Tensor:
        """Return the score times the noise; all crystals of a batch are alike."""
        n_sites = self.centres.shape[1]
        std = noise_std(times, torch.full((len(times),), n_sites))
        variance = (std * std + self.width**2).reshape(-1, 1, n_sites, 1, 1)
        positions = crystals.fractions.reshape(-1, 1, n_sites, 3, 1)
        gaps = self.centres[None, :, :, :, None] + IMAGES - positions
        logs = -gaps * gaps / (2.0 * variance)
        # (B, C, n, 3): force and log density, the images summed up.
        force = (torch.softmax(logs, dim=-1) * gaps / variance).sum(-1)
        density = torch.logsumexp(logs, dim=-1) - 0.5 * torch.log(variance[..., 0])
        share = torch.softmax(density.sum((2, 3)) + torch.log(self.weights), dim=1)
        score = (share[:, :, None, None] * force).sum(1).reshape(-1, 3)
        return score * std[:, None]


@dataclass
class PairScore:
    """A smooth function of sites and times that keeps structures apart, bit for bit.

    Attributes:
        strength: Factor of the score, by the number of a structure's first site.
        seen: All that was asked, in order.
    """

    strength: dict[int, float] = field(default_factory=dict)
    per_site_times: bool = True
    seen: list[tuple[Crystals, Tensor]] = field(default_factory=list)

    def scaled_score(self, crystals: Crystals, times: Tensor) -> Tensor:
        """Return the function, structure by structure."""
        self.seen.append((crystals, times))
        counts = torch.bincount(crystals.structure).tolist()
        parts = zip(
            crystals.fractions.split(counts),
            crystals.numbers.split(counts),
            times.split(counts),
            strict=True,
        )
        return torch.cat([self._score(*part) for part in parts])

    def _score(self, fractions: Tensor, numbers: Tensor, times: Tensor) -> Tensor:
        waves = torch.sin(2.0 * torch.pi * (fractions[None] - fractions[:, None]))
        pull = (waves * numbers[None, :, None] / 10.0).sum(1)
        factor = self.strength.get(int(numbers[0]), 1.0)
        return factor * torch.tanh(pull) * (1.5 - times[:, None])


class ZeroScore:
    """A vanishing score; a sample is then a sum of noise."""

    per_site_times = True

    def scaled_score(self, crystals: Crystals, times: Tensor) -> Tensor:
        """Return zeros."""
        return torch.zeros_like(crystals.fractions) * times[:, None]
