"""Construction of batched graphs for HostNet from crystals."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from xtalfill.models.edges import Edges, periodic_edges
from xtalfill.models.host_feedback import feedback_graph
from xtalfill.models.hostnet import HostGraph, HostNetConfig, SiteGraph, global_features


@dataclass(frozen=True)
class Host:
    """A crystal with missing sites of one element.

    Attributes:
        numbers: (n_host,) atomic numbers.
        positions: (n_host, 3) Angstrom.
        cell: (3, 3) Angstrom; rows are lattice vectors.
        element: Atomic number of the missing species.
        n_sites: Number of missing sites.
    """

    numbers: np.ndarray
    positions: np.ndarray
    cell: np.ndarray
    element: int
    n_sites: int

    @property
    def volume(self) -> float:
        """Volume of the cell, cubic Angstrom."""
        return float(abs(np.linalg.det(self.cell)))


@dataclass(frozen=True)
class Draw:
    """One noised copy of the missing sites of a host.

    Attributes:
        structure: Index of the host.
        positions: (n_sites, 3) Angstrom.
        sigma: Noise level, Angstrom.
    """

    structure: int
    positions: np.ndarray
    sigma: float


def host_graph(hosts: list[Host], config: HostNetConfig) -> HostGraph:
    """Return the batched graph of several hosts."""
    sizes = [len(host.numbers) for host in hosts]
    edges = [
        periodic_edges(h.positions, h.positions, h.cell, config.host_cutoff, same=True)
        for h in hosts
    ]
    starts = _starts(sizes)
    joined, vectors = _join(edges, starts, starts)
    features = [
        global_features(volume=h.volume, n_host=len(h.numbers), n_sites=h.n_sites) for h in hosts
    ]
    return HostGraph(
        numbers=torch.from_numpy(np.concatenate([h.numbers for h in hosts]).astype(np.int64)),
        structure=torch.from_numpy(np.repeat(np.arange(len(hosts)), sizes)),
        edges=joined,
        vectors=vectors,
        element=torch.tensor([h.element for h in hosts]),
        features=torch.tensor(features, dtype=torch.float32),
    )


def site_graph(hosts: list[Host], draws: list[Draw], config: HostNetConfig) -> SiteGraph:
    """Return the batched graph of noised sites; host senders index the sites of all hosts."""
    host_starts = _starts([len(host.numbers) for host in hosts])
    sizes = [len(draw.positions) for draw in draws]
    site_starts = _starts(sizes)
    from_host, from_site = [], []
    for draw in draws:
        host = hosts[draw.structure]
        from_host.append(
            periodic_edges(
                draw.positions, host.positions, host.cell, config.site_host_cutoff, same=False
            )
        )
        from_site.append(
            periodic_edges(
                draw.positions, draw.positions, host.cell, config.site_site_cutoff, same=True
            )
        )
    structure = np.array([draw.structure for draw in draws])
    host_edges, host_vectors = _join(from_host, site_starts, host_starts[structure])
    site_edges, site_vectors = _join(from_site, site_starts, site_starts)
    draw_of = torch.from_numpy(np.repeat(np.arange(len(draws)), sizes))
    return SiteGraph(
        structure=torch.from_numpy(structure),
        draw=draw_of,
        sigma=torch.tensor([draw.sigma for draw in draws], dtype=torch.float32),
        host_edges=host_edges,
        host_vectors=host_vectors,
        site_edges=site_edges,
        site_vectors=site_vectors,
        feedback=feedback_graph(
            host_edges, host_vectors, draw_of,
            n_host=sum(len(host.numbers) for host in hosts), n_draws=len(draws),
            cutoff=config.answer_cutoff,
        ),
    )  # fmt: skip


def _starts(sizes: list[int]) -> np.ndarray:
    return np.concatenate([[0], np.cumsum(sizes)[:-1]]).astype(np.int64)


def _join(
    edges: list[Edges], receiver_starts: np.ndarray, sender_starts: np.ndarray
) -> tuple[Tensor, Tensor]:
    counts = [len(e.receiver) for e in edges]
    receiver = np.concatenate([e.receiver for e in edges]) + np.repeat(receiver_starts, counts)
    sender = np.concatenate([e.sender for e in edges]) + np.repeat(sender_starts, counts)
    vectors = np.concatenate([e.vector for e in edges])
    return torch.from_numpy(np.stack([receiver, sender])), torch.from_numpy(vectors)
