"""HostNet: equivariant network that denoises the missing sites of a fixed host.

The host is encoded once for each structure and task. At each noise level messages are computed
only for edges that end on a moving site, so the cost of a denoising step scales with the number of
missing sites, not with the size of the crystal. Interaction and update blocks follow PaiNN
(arXiv:2102.03150); the preconditioning follows EDM (arXiv:2206.00364, Table 1) for a
variance-exploding process.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from xtalfill.models.host_feedback import FeedbackGraph, HostCopies, HostFeedback
from xtalfill.models.messages import MESSAGE_SHARE, sum_messages
from xtalfill.models.painn import Interaction, UpdateBlock, length_and_direction
from xtalfill.models.tensors import TensorGroup

MAX_ATOMIC_NUMBER = 103
N_GLOBAL = 4


@dataclass(frozen=True)
class HostNetConfig:
    """Architecture of a HostNet.

    Attributes:
        width: Channels of scalar and vector features.
        host_layers: Interaction layers of the host encoder.
        site_layers: Interaction layers of the site denoiser.
        host_cutoff: Cutoff of host-host edges, Angstrom.
        site_host_cutoff: Cutoff of host -> site edges, Angstrom.
        site_site_cutoff: Cutoff of site -> site edges, Angstrom.
        n_radial: Number of Gaussians of the distance expansion.
        dropout: Dropout rate of the update blocks during training.
        sigma_data: Largest useful displacement, Angstrom; limits the output at high noise.
        answers: Number of host feedback layers, distributed over the site layers.
        answer_cutoff: Cutoff of the site -> host edges of the feedback, Angstrom.
    """

    width: int = 96
    host_layers: int = 3
    site_layers: int = 5
    host_cutoff: float = 5.5
    site_host_cutoff: float = 5.0
    site_site_cutoff: float = 6.0
    n_radial: int = 24
    dropout: float = 0.0
    sigma_data: float = 0.8
    answers: int = 0
    answer_cutoff: float = 4.0

    def to_dict(self) -> dict[str, Any]:
        """Return the configuration as plain values."""
        return asdict(self)


@dataclass(frozen=True)
class HostGraph(TensorGroup):
    """Hosts of B structures, concatenated.

    Attributes:
        numbers: (n_host,) atomic numbers.
        structure: (n_host,) index of the structure.
        edges: (2, n_edges) receivers and senders among the host sites.
        vectors: (n_edges, 3) edge vectors, Angstrom.
        element: (B,) atomic number of the missing element.
        features: (B, N_GLOBAL) see `global_features`.
    """

    numbers: Tensor
    structure: Tensor
    edges: Tensor
    vectors: Tensor
    element: Tensor
    features: Tensor


@dataclass(frozen=True)
class SiteGraph(TensorGroup):
    """Noised sites of D draws, concatenated; a draw is a noised copy of a structure's sites.

    Attributes:
        structure: (D,) index of the structure in the `HostGraph`.
        draw: (n_sites,) index of the draw.
        sigma: (D,) noise level, Angstrom.
        host_edges: (2, n) receivers are sites, senders are host sites.
        host_vectors: (n, 3) edge vectors, Angstrom.
        site_edges: (2, m) receivers and senders among the sites.
        site_vectors: (m, 3) edge vectors, Angstrom.
        feedback: Host sites that receive feedback.
    """

    structure: Tensor
    draw: Tensor
    sigma: Tensor
    host_edges: Tensor
    host_vectors: Tensor
    site_edges: Tensor
    site_vectors: Tensor
    feedback: FeedbackGraph


@dataclass
class HostEncoding:
    """Encoded hosts, computed once and used at every noise level.

    Attributes:
        messages: (n_host, 3F) for each site layer.
        scalars: (n_host, F) scalar features.
        vectors: (n_host, 3, F) vector features.
        context: (B, F) summary of each structure and its task.
    """

    messages: list[Tensor]
    scalars: Tensor
    vectors: Tensor
    context: Tensor


def _interactions(layers: nn.ModuleList) -> list[Interaction]:
    """Return the layers with their type, which ModuleList does not keep."""
    return [cast("Interaction", layer) for layer in layers]


class HostNet(nn.Module):
    """Predicts the displacement of each noised site to its true position."""

    def __init__(self, config: HostNetConfig) -> None:
        """Create the network with random weights from torch's global generator."""
        super().__init__()
        self.config = config
        width, n_radial = config.width, config.n_radial
        self.host_embedding = nn.Embedding(MAX_ATOMIC_NUMBER + 1, width)
        self.element_embedding = nn.Embedding(MAX_ATOMIC_NUMBER + 1, width)
        self.global_net = nn.Sequential(
            nn.Linear(N_GLOBAL, width), nn.SiLU(), nn.Linear(width, width)
        )
        self.noise_net = nn.Sequential(nn.Linear(16, width), nn.SiLU(), nn.Linear(width, width))
        self.context_net = nn.Sequential(
            nn.Linear(2 * width, width), nn.SiLU(), nn.Linear(width, width)
        )
        self.host_interactions = nn.ModuleList(
            Interaction(width, config.host_cutoff, n_radial) for _ in range(config.host_layers)
        )
        self.host_updates = nn.ModuleList(
            UpdateBlock(width, config.dropout) for _ in range(config.host_layers)
        )
        self.from_host = nn.ModuleList(
            Interaction(width, config.site_host_cutoff, n_radial) for _ in range(config.site_layers)
        )
        self.from_site = nn.ModuleList(
            Interaction(width, config.site_site_cutoff, n_radial) for _ in range(config.site_layers)
        )
        self.conditions = nn.ModuleList(nn.Linear(width, width) for _ in range(config.site_layers))
        self.site_updates = nn.ModuleList(
            UpdateBlock(width, config.dropout) for _ in range(config.site_layers)
        )
        self.answers = nn.ModuleList(
            HostFeedback(width, config.answer_cutoff, n_radial, config.dropout)
            for _ in range(config.answers)
        )
        self.feedback_layers = [
            (1 + number) * config.site_layers // (1 + config.answers)
            for number in range(config.answers)
        ]
        self.gate = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width)
        )
        self.float()  # independent of torch's default dtype

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return self.host_embedding.weight.device

    def encode(self, graph: HostGraph) -> HostEncoding:
        """Encode the hosts, once for all noise levels and samples.

        Args:
            graph: Hosts without the missing sites.
        """
        task = self.element_embedding(graph.element) + self.global_net(graph.features)
        scalars = self.host_embedding(graph.numbers) + task[graph.structure]
        vectors = scalars.new_zeros(len(scalars), 3, self.config.width)
        distance, unit = length_and_direction(graph.vectors)
        interactions = _interactions(self.host_interactions)
        expanded = interactions[0].filter.expand(distance)
        for interaction, update in zip(interactions, self.host_updates, strict=True):
            s, v = sum_messages(
                interaction.sender(scalars), vectors, interaction.filter(expanded),
                unit, graph.edges, len(scalars),
            )  # fmt: skip
            scalars, vectors = update(scalars + 0.125 * s, vectors + 0.125 * v)
        n_structures = len(graph.element)
        pooled = scalars.new_zeros(n_structures, self.config.width)
        pooled = pooled.index_add(0, graph.structure, scalars)
        # torch.bincount would synchronise with a GPU
        count = torch.zeros_like(graph.element)
        count = count.index_add(0, graph.structure, torch.ones_like(graph.structure))
        context = self.context_net(torch.cat([pooled / count[:, None], task], dim=-1))
        messages = [layer.sender(scalars) for layer in _interactions(self.from_host)]
        return HostEncoding(messages, scalars, vectors, context)

    def denoise(self, encoding: HostEncoding, graph: SiteGraph) -> Tensor:
        """Predict the displacement of each noised site to its expected true position.

        Args:
            encoding: Encoded hosts.
            graph: Noised sites.

        Returns:
            (n_sites, 3) Angstrom: E[x0 | x] - x.
        """
        condition = encoding.context[graph.structure] + self.noise_net(noise_features(graph.sigma))
        scalars = condition[graph.draw].to(encoding.scalars.dtype)
        vectors = scalars.new_zeros(len(scalars), 3, self.config.width)
        host_distance, host_unit = length_and_direction(graph.host_vectors)
        site_distance, site_unit = length_and_direction(graph.site_vectors)
        from_hosts, from_sites = _interactions(self.from_host), _interactions(self.from_site)
        host_expanded = from_hosts[0].filter.expand(host_distance)
        site_expanded = from_sites[0].filter.expand(site_distance)
        hosts: HostCopies | None = None
        for layer, update in enumerate(self.site_updates):
            from_host, from_site = from_hosts[layer], from_sites[layer]
            if layer in self.feedback_layers:
                hosts = hosts or HostCopies(
                    encoding.scalars[graph.feedback.host], encoding.vectors[graph.feedback.host]
                )
                feedback = self.answers[self.feedback_layers.index(layer)]
                hosts = feedback(
                    hosts, (scalars, vectors), condition, graph.feedback, host_distance, host_unit
                )
            if hosts is None:
                phi, v_host, edges = encoding.messages[layer], encoding.vectors, graph.host_edges
            else:
                phi, v_host = from_host.sender(hosts.scalars), hosts.vectors
                edges = graph.feedback.edges
            filters = from_host.filter(host_expanded)
            s, v = sum_messages(phi, v_host, filters, host_unit, edges, len(scalars))
            if len(site_distance):
                s_site, v_site = sum_messages(
                    from_site.sender(scalars), vectors, from_site.filter(site_expanded),
                    site_unit, graph.site_edges, len(scalars),
                )  # fmt: skip
                s, v = s + s_site, v + v_site
            shift = self.conditions[layer](condition)[graph.draw]
            scalars, vectors = update(
                scalars + shift + MESSAGE_SHARE * s, vectors + MESSAGE_SHARE * v
            )
        direction = (vectors * self.gate(scalars)[:, None]).sum(-1)
        return direction * self.output_scale(graph.sigma)[graph.draw, None]

    def output_scale(self, sigma: Tensor) -> Tensor:
        """Return the expected displacement, Angstrom, at noise level `sigma`, Angstrom."""
        return sigma / torch.sqrt(1.0 + (sigma / self.config.sigma_data) ** 2)


def global_features(*, volume: float, n_host: int, n_sites: int) -> list[float]:
    """Return global features of a task: density of the crystal and fraction of missing sites.

    Args:
        volume: Cell volume, cubic Angstrom.
        n_host: Number of host sites.
        n_sites: Number of missing sites.
    """
    per_atom = torch.tensor(
        [volume / (n_host + n_sites), volume / n_sites, (1 + n_sites) / n_host, float(n_sites)],
        dtype=torch.float64,
    )
    scale = torch.tensor([12.0, 40.0, 1.0, 4.0], dtype=torch.float64)
    return torch.log(per_atom / scale).tolist()


def noise_features(sigma: Tensor) -> Tensor:
    """Expand log(sigma) in 16 Gaussians between 0.02 and 5 Angstrom."""
    log_sigma = torch.log(sigma)[:, None]
    centres = torch.linspace(-3.9, 1.6, 16, dtype=sigma.dtype, device=sigma.device)
    return torch.exp(-(0.5 * ((log_sigma - centres) / 0.37) ** 2).clamp(max=30.0))
