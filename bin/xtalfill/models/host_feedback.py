"""Host feedback: update the features of host sites near moving sites.

The host is encoded once, without the moving sites, so its features do not show, for example, that
an oxygen already has a hydrogen. A feedback layer passes messages from the moving sites to the
host sites around them. Each draw has its own copy of these host sites, and later layers use the
updated copies.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from xtalfill.models.messages import MESSAGE_SHARE, sum_messages
from xtalfill.models.painn import Interaction, UpdateBlock, length_and_direction
from xtalfill.models.tensors import TensorGroup


@dataclass(frozen=True)
class FeedbackGraph(TensorGroup):
    """Copies of host sites: one for each draw with a moving site within the cutoff.

    Attributes:
        host: (n_copies,) index of the host site.
        draw: (n_copies,) index of the draw.
        edges: (2, n_edges) host -> site edges: receivers are moving sites, senders are copies.
        short: (n_short,) indices of the edges within the cutoff of the feedback.
    """

    host: Tensor
    draw: Tensor
    edges: Tensor
    short: Tensor


def feedback_graph(
    host_edges: Tensor, vectors: Tensor, draw: Tensor, *, n_host: int, n_draws: int, cutoff: float
) -> FeedbackGraph:
    """Find the host sites connected to moving sites.

    Runs on the CPU: the size of the result would need a GPU synchronisation.

    Args:
        host_edges: (2, n_edges) receivers are moving sites, senders are host sites.
        vectors: (n_edges, 3) edge vectors, Angstrom.
        draw: (n_sites,) draw of each moving site.
        n_host: Number of host sites.
        n_draws: Number of draws.
        cutoff: Longest edge of the feedback, Angstrom.
    """
    receivers, senders = host_edges
    pair = draw[receivers] * n_host + senders
    present = torch.zeros(n_host * n_draws, dtype=torch.int64)
    present[pair] = 1
    pairs = torch.nonzero(present)[:, 0]
    return FeedbackGraph(
        host=pairs % n_host,
        draw=pairs // n_host,
        edges=torch.stack([receivers, (torch.cumsum(present, 0) - 1)[pair]]),
        short=torch.nonzero(length_and_direction(vectors)[0] < cutoff)[:, 0],
    )


@dataclass(frozen=True)
class HostCopies:
    """Features of the copies: scalars (n_copies, F) and vectors (n_copies, 3, F)."""

    scalars: Tensor
    vectors: Tensor


class HostFeedback(nn.Module):
    """Feedback layer, initialised to the identity so that it can extend a trained network."""

    def __init__(self, width: int, cutoff: float, n_radial: int, dropout: float) -> None:
        """Create a layer of `width` channels with a cutoff in Angstrom."""
        super().__init__()
        self.from_site = Interaction(width, cutoff, n_radial)
        self.condition = nn.Linear(width, width)
        self.update = UpdateBlock(width, dropout)
        for last in (self.from_site.sender[-1], self.condition, self.update.net[-1]):
            for parameter in last.parameters():
                nn.init.zeros_(parameter)

    def forward(
        self,
        hosts: HostCopies,
        sites: tuple[Tensor, Tensor],
        condition: Tensor,
        graph: FeedbackGraph,
        distance: Tensor,
        unit: Tensor,
    ) -> HostCopies:
        """Return the updated features of the copies.

        Args:
            hosts: Features of the copies.
            sites: Scalars (n_sites, F) and vectors (n_sites, 3, F) of the moving sites.
            condition: (D, F) condition of each draw.
            graph: Copies and edges.
            distance: (n_edges,) edge lengths, Angstrom.
            unit: (n_edges, 3) directions from the moving site to the host site.
        """
        short = graph.short
        filters = self.from_site.filter(self.from_site.filter.expand(distance[short]))
        s, v = sum_messages(
            self.from_site.sender(sites[0]), sites[1], filters, -unit[short],
            graph.edges.flip(0)[:, short], len(hosts.scalars),
        )  # fmt: skip
        shift = self.condition(condition)[graph.draw]
        scalars, vectors = self.update(
            hosts.scalars + shift + MESSAGE_SHARE * s, hosts.vectors + MESSAGE_SHARE * v
        )
        return HostCopies(scalars, vectors)
