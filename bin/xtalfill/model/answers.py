"""Host sites answer: those near a moving site learn where the moving sites are.

The host is encoded once and knows nothing of the sites that move in it. That an oxygen has its
hydrogen already is then hard to see for the next hydrogen. In an answer, host sites collect
messages from the moving sites near them, one copy of a host site for each draw, and speak from
then on as what they have become.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from xtalfill.model.messages import sum_messages
from xtalfill.model.painn import Interaction, UpdateBlock


@dataclass(frozen=True)
class NearHosts:
    """Copies of host sites, one for each draw that has a moving site within an edge's length.

    Attributes:
        scalars: (n_copies, F).
        vectors: (n_copies, 3, F).
        draw: (n_copies,) index of the draw.
        edges: (2, n_edges) the host -> site edges: receivers among the moving sites, senders
            among the copies.
    """

    scalars: Tensor
    vectors: Tensor
    draw: Tensor
    edges: Tensor

    @classmethod
    def copied(
        cls, scalars: Tensor, vectors: Tensor, host_edges: Tensor, draw: Tensor
    ) -> NearHosts:
        """Copy the host sites that moving sites see.

        Args:
            scalars: (n_host, F).
            vectors: (n_host, 3, F).
            host_edges: (2, n_edges) receivers among the moving sites, senders among the host's.
            draw: (n_sites,) index of a moving site's draw.
        """
        receivers, senders = host_edges
        n_host = len(scalars)
        pairs, copy = torch.unique(draw[receivers] * n_host + senders, return_inverse=True)
        origin = pairs % n_host
        edges = torch.stack([receivers, copy])
        return cls(scalars[origin], vectors[origin], pairs // n_host, edges)


class HostAnswers(nn.Module):
    """One answer; it begins by changing nothing, so a trained network can be given it."""

    def __init__(self, width: int, cutoff: float, n_radial: int, dropout: float) -> None:
        """Make an answer of `width` channels within `cutoff` Angstrom."""
        super().__init__()
        self.cutoff = cutoff
        self.from_site = Interaction(width, cutoff, n_radial)
        self.condition = nn.Linear(width, width)
        self.update = UpdateBlock(width, dropout)
        for last in (self.from_site.sender[-1], self.condition, self.update.net[-1]):
            for parameter in last.parameters():
                nn.init.zeros_(parameter)

    def forward(
        self,
        hosts: NearHosts,
        sites: tuple[Tensor, Tensor],
        condition: Tensor,
        distance: Tensor,
        unit: Tensor,
    ) -> NearHosts:
        """Return what the copies have become.

        Args:
            hosts: The copies.
            sites: Scalars (n_sites, F) and vectors (n_sites, 3, F) of the moving sites.
            condition: (D, F) of each draw.
            distance: (n_edges,) Angstrom, along the edges of `hosts`.
            unit: (n_edges, 3) from the moving site to the host site.
        """
        short = distance < self.cutoff
        filters = self.from_site.filter(self.from_site.filter.expand(distance[short]))
        s, v = sum_messages(
            self.from_site.sender(sites[0]), sites[1], filters, -unit[short],
            hosts.edges.flip(0)[:, short], len(hosts.scalars),
        )  # fmt: skip
        shift = self.condition(condition)[hosts.draw]
        scalars, vectors = self.update(hosts.scalars + shift + 0.15 * s, hosts.vectors + 0.15 * v)
        return replace(hosts, scalars=scalars, vectors=vectors)
