"""Host sites answer: those near a moving site learn where the moving sites are.

The host is encoded once and knows nothing of the sites that move in it. That an oxygen has its
hydrogen already is then hard to see for the next hydrogen. In an answer, host sites collect
messages from the moving sites near them, one copy of a host site for each draw, and speak from
then on as what they have become.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from xtalfill.models.messages import sum_messages
from xtalfill.models.painn import Interaction, UpdateBlock, length_and_direction
from xtalfill.models.tensors import TensorGroup


@dataclass(frozen=True)
class FeedbackGraph(TensorGroup):
    """Who answers: a copy of a host site for each draw that has a moving site in its reach.

    Attributes:
        host: (n_copies,) index of the host site.
        draw: (n_copies,) index of the draw.
        edges: (2, n_edges) the host -> site edges: receivers among the moving sites, senders
            among the copies.
        short: (n_short,) index of those edges that are within the cutoff of an answer.
    """

    host: Tensor
    draw: Tensor
    edges: Tensor
    short: Tensor


def feedback_graph(
    host_edges: Tensor, vectors: Tensor, draw: Tensor, *, n_host: int, cutoff: float
) -> FeedbackGraph:
    """Find the host sites that moving sites see.

    On the CPU: how many there are is nothing that a GPU should be asked in the middle of a step.

    Args:
        host_edges: (2, n_edges) receivers among the moving sites, senders among the host's.
        vectors: (n_edges, 3) Angstrom, along these edges.
        draw: (n_sites,) index of a moving site's draw.
        n_host: Number of host sites.
        cutoff: Angstrom, longest edge of an answer.
    """
    receivers, senders = host_edges
    pairs, copy = torch.unique(draw[receivers] * n_host + senders, return_inverse=True)
    return FeedbackGraph(
        host=pairs % n_host,
        draw=pairs // n_host,
        edges=torch.stack([receivers, copy]),
        short=torch.nonzero(length_and_direction(vectors)[0] < cutoff)[:, 0],
    )


@dataclass(frozen=True)
class HostCopies:
    """Features of the copies: scalars (n_copies, F) and vectors (n_copies, 3, F)."""

    scalars: Tensor
    vectors: Tensor


class HostFeedback(nn.Module):
    """One answer; it begins by changing nothing, so a trained network can be given it."""

    def __init__(self, width: int, cutoff: float, n_radial: int, dropout: float) -> None:
        """Make an answer of `width` channels within `cutoff` Angstrom."""
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
        """Return what the copies have become.

        Args:
            hosts: The copies.
            sites: Scalars (n_sites, F) and vectors (n_sites, 3, F) of the moving sites.
            condition: (D, F) of each draw.
            graph: Whose copies they are.
            distance: (n_edges,) Angstrom, along the edges of `graph`.
            unit: (n_edges, 3) from the moving site to the host site.
        """
        short = graph.short
        filters = self.from_site.filter(self.from_site.filter.expand(distance[short]))
        s, v = sum_messages(
            self.from_site.sender(sites[0]), sites[1], filters, -unit[short],
            graph.edges.flip(0)[:, short], len(hosts.scalars),
        )  # fmt: skip
        shift = self.condition(condition)[graph.draw]
        scalars, vectors = self.update(hosts.scalars + shift + 0.15 * s, hosts.vectors + 0.15 * v)
        return HostCopies(scalars, vectors)
