"""Building blocks of the equivariant network, from PaiNN (arXiv:2102.03150)."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class RadialFilter(nn.Module):
    """Distances -> message filters that vanish smoothly at the cutoff."""

    def __init__(self, cutoff: float, n_radial: int, n_out: int) -> None:
        """Create filters of width `n_out` for distances up to `cutoff` Angstrom."""
        super().__init__()
        self.cutoff = cutoff
        self.centres: Tensor
        # the last row is the bias; multiplied by the envelope, it vanishes at the cutoff
        self.weight = nn.Parameter(torch.empty(n_radial + 1, n_out))
        nn.init.normal_(self.weight, std=n_radial**-0.5)
        self.register_buffer("centres", torch.linspace(0.0, cutoff, n_radial), persistent=False)

    def expand(self, distance: Tensor) -> Tensor:
        """Return the Gaussians and the envelope of distances: (n_edges, n_radial + 1)."""
        spacing = self.cutoff / (len(self.centres) - 1)
        # the lower bound exp(-30) avoids denormal numbers, which are ten times slower
        exponent = (0.5 * ((distance[:, None] - self.centres) / spacing) ** 2).clamp(max=30.0)
        gaussians = torch.exp(-exponent)
        envelope = 0.5 * (torch.cos(torch.pi * distance / self.cutoff) + 1.0)
        return torch.cat([gaussians, torch.ones_like(distance)[:, None]], 1) * envelope[:, None]

    def forward(self, expanded: Tensor) -> Tensor:
        """Return the filters (n_edges, n_out) of expanded distances."""
        return expanded @ self.weight


class UpdateBlock(nn.Module):
    """Mix scalars and vectors of one site (PaiNN, Eqs. 9 and 10)."""

    def __init__(self, width: int, dropout: float) -> None:
        """Create a block for `width` channels."""
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.mix = nn.Linear(width, 2 * width, bias=False)
        self.net = nn.Sequential(
            nn.Linear(2 * width, width), nn.SiLU(), nn.Dropout(dropout), nn.Linear(width, 3 * width)
        )

    def forward(self, scalars: Tensor, vectors: Tensor) -> tuple[Tensor, Tensor]:
        """Return the updated scalars (n, F) and vectors (n, 3, F)."""
        left, right = self.mix(vectors).chunk(2, dim=-1)
        length = torch.sqrt((right**2).sum(1) + 1e-6)
        gates = self.net(torch.cat([self.norm(scalars), length], dim=-1))
        g_vv, g_sv, g_ss = gates.chunk(3, dim=-1)
        scalars = scalars + g_ss + g_sv * (left * right).sum(1)
        return scalars, vectors + left * g_vv[:, None]


class Interaction(nn.Module):
    """Messages from one type of sender: network for the sender, filter for the edge."""

    def __init__(self, width: int, cutoff: float, n_radial: int) -> None:
        """Create an interaction of `width` channels with a cutoff in Angstrom."""
        super().__init__()
        self.sender = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, width), nn.SiLU(), nn.Linear(width, 3 * width)
        )
        self.filter = RadialFilter(cutoff, n_radial, 3 * width)


def length_and_direction(vectors: Tensor) -> tuple[Tensor, Tensor]:
    """Return lengths (n,), always positive, and directions (n, 3) of vectors (n, 3)."""
    distance = torch.sqrt((vectors**2).sum(-1) + 1e-12)
    return distance, vectors / distance[:, None]
