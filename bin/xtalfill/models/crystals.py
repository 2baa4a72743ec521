"""Input and interface of score models that act on all sites of a crystal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from xtalfill.models.graphs import Host
from xtalfill.models.tensors import TensorGroup


@dataclass(frozen=True)
class Crystals(TensorGroup):
    """B crystals, concatenated.

    Attributes:
        fractions: (n, 3) fractional coordinates.
        cell: (B, 3, 3) Angstrom; rows are lattice vectors, in any orientation.
        numbers: (n,) int64 atomic numbers.
        structure: (n,) int64 index of the crystal, ascending.
    """

    fractions: Tensor
    cell: Tensor
    numbers: Tensor
    structure: Tensor


def join_crystals(hosts: Sequence[Host], sites: Sequence[np.ndarray]) -> Crystals:
    """Concatenate hosts with their missing sites filled; host sites come first in each crystal.

    Args:
        hosts: Hosts.
        sites: For each host the positions of its missing sites (n_sites, 3), Angstrom.

    Returns:
        The crystals in double precision.
    """
    pairs = list(zip(hosts, sites, strict=True))
    fractions = [np.concatenate([h.positions, s]) @ np.linalg.inv(h.cell) for h, s in pairs]
    numbers = [[*host.numbers, *[host.element] * host.n_sites] for host in hosts]
    return Crystals(
        fractions=torch.from_numpy(np.concatenate(fractions)),
        cell=torch.from_numpy(np.stack([host.cell for host in hosts])),
        numbers=torch.from_numpy(np.concatenate(numbers).astype(np.int64)),
        structure=torch.repeat_interleave(
            torch.arange(len(hosts)), torch.tensor([len(n) for n in numbers])
        ),
    )


class CrystalScore(Protocol):
    """Score model for all sites of a crystal, in fractional coordinates."""

    @property
    def per_site_times(self) -> bool:
        """Whether sites of one crystal may have different times (TD-Paint)."""

    def scaled_score(self, crystals: Crystals, times: Tensor) -> Tensor:
        """Return the score of each site times the standard deviation of its noise.

        Args:
            crystals: Noised crystals.
            times: (n,) diffusion time in (0, 1] of each site; equal within a crystal unless
                `per_site_times`.

        Returns:
            (n, 3) in fractional coordinates, dimensionless.
        """
