"""HostNet for sampling on a CPU: `HostNet.denoise` without the overhead of torch and autograd.

A denoising step has many small operations, so torch spends much of its time starting them. Here a
block is one compiled function, and filters exist for one edge at a time. Results are those of
`HostNet.denoise` within the rounding of float32.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from xtalfill.models.host_kernels import (
    WINDOW,
    Expansion,
    MlpWeights,
    add_messages,
    expand,
    mlp,
    product,
    update,
)
from xtalfill.models.hostnet import HostEncoding, HostNet, SiteGraph, noise_features
from xtalfill.models.messages import MESSAGE_SHARE
from xtalfill.models.painn import length_and_direction

_SHARE = np.float32(MESSAGE_SHARE)
# Scalars (n, F) and vectors (n, 3, F).
Features = tuple[np.ndarray, np.ndarray]


def _array(tensor: Tensor) -> np.ndarray:
    return np.ascontiguousarray(tensor.detach().numpy(), dtype=np.float32)


def _mlp_weights(norm: Any, first: Any, second: Any) -> MlpWeights:
    return MlpWeights(
        scale=_array(norm.weight), offset=_array(norm.bias),
        first=_array(first.weight.T), first_bias=_array(first.bias),
        second=_array(second.weight.T), second_bias=_array(second.bias),
    )  # fmt: skip


@dataclass(frozen=True)
class _Edges:
    """Edges of one kind and the expansion of their lengths."""

    receivers: np.ndarray
    senders: np.ndarray
    unit: np.ndarray
    expansion: Expansion

    @classmethod
    def of(cls, edges: Tensor, vectors: Tensor, interaction: _Interaction) -> Self:
        distance, unit = length_and_direction(vectors)
        receivers, senders = edges.numpy()
        return cls(receivers, senders, unit.numpy(), interaction.expand(distance.numpy()))

    def sent_by(self, senders: np.ndarray) -> Self:
        return replace(self, senders=senders)


class _Interaction:
    """The messages of an `Interaction`."""

    def __init__(self, layer: Any) -> None:
        self.sender = _mlp_weights(*(layer.sender[number] for number in (0, 1, 3)))
        self.cutoff, self.n_radial = layer.filter.cutoff, len(layer.filter.centres)
        weight = _array(layer.filter.weight)
        none = np.zeros((max(WINDOW - self.n_radial, 0), weight.shape[1]), np.float32)
        self.weight = np.concatenate([weight[:-1], none, weight[-1:]])

    def expand(self, distance: np.ndarray) -> Expansion:
        return Expansion(*expand(distance, self.cutoff, self.n_radial))

    def phi(self, scalars: np.ndarray) -> np.ndarray:
        return np.asarray(mlp(scalars, self.sender))

    def add(self, phi: np.ndarray, vectors: np.ndarray, edges: _Edges, out: Features) -> None:
        """Add the messages of senders with `phi` and `vectors` to the features of receivers."""
        add_messages(
            phi, vectors, edges.expansion, self.weight,
            edges.receivers, edges.senders, edges.unit, _SHARE, *out,
        )  # fmt: skip


class _Update:
    """An `UpdateBlock` and the condition of its layer."""

    def __init__(self, block: Any, condition: Any) -> None:
        self.mix = _array(block.mix.weight.T)
        self.weights = _mlp_weights(block.norm, block.net[0], block.net[3])
        self.condition, self.bias = _array(condition.weight.T), _array(condition.bias)

    def shifted(self, features: Features, condition: np.ndarray, draw: np.ndarray) -> Features:
        """Return copies of the features, the scalars shifted by the condition of their draw."""
        shift = product(condition, self.condition) + self.bias
        return features[0] + shift[draw], features[1].copy()

    def mix_in(self, features: Features) -> None:
        """Change the features in place, as the block does."""
        update(*features, self.mix, self.weights)


class _Answer:
    """A `HostFeedback` layer."""

    def __init__(self, layer: Any) -> None:
        self.from_site = _Interaction(layer.from_site)
        self.update = _Update(layer.update, layer.condition)

    def __call__(
        self, copies: Features, sites: Features, condition: np.ndarray, graph: SiteGraph
    ) -> Features:
        """Return the updated features of the host copies."""
        short = graph.feedback.short
        edges = graph.feedback.edges[:, short].flip(0)
        to_copies = _Edges.of(edges, -graph.host_vectors[short], self.from_site)
        changed = self.update.shifted(copies, condition, graph.feedback.draw.numpy())
        self.from_site.add(self.from_site.phi(sites[0]), sites[1], to_copies, changed)
        self.update.mix_in(changed)
        return changed


def _copies(encoding: HostEncoding, graph: SiteGraph) -> Features:
    """Return the features of the copies before the first feedback."""
    host = graph.feedback.host
    return encoding.scalars[host].numpy(), encoding.vectors[host].numpy()


class CompiledHostNet:
    """Denoises like a HostNet on the CPU; later changes of its weights have no effect."""

    def __init__(self, model: HostNet) -> None:
        """Copy the weights of a network."""
        self._noise_net = model.noise_net
        self._output_scale = model.output_scale
        self._from_host = [_Interaction(layer) for layer in model.from_host]
        self._from_site = [_Interaction(layer) for layer in model.from_site]
        pairs = zip(model.site_updates, model.conditions, strict=True)
        self._updates = [_Update(block, condition) for block, condition in pairs]
        answers = zip(model.feedback_layers, model.answers, strict=True)
        self._answers = {layer: _Answer(answer) for layer, answer in answers}
        self._gate = _mlp_weights(*(model.gate[number] for number in (0, 1, 3)))

    def denoise(self, encoding: HostEncoding, graph: SiteGraph) -> Tensor:
        """Return the displacements (n_sites, 3), Angstrom; see `HostNet.denoise`."""
        noise = self._noise_net(noise_features(graph.sigma))
        condition = (encoding.context[graph.structure] + noise).numpy()
        draw = graph.draw.numpy()
        scalars = condition[draw]
        sites = scalars, np.zeros((len(scalars), 3, scalars.shape[1]), np.float32)
        from_host = _Edges.of(graph.host_edges, graph.host_vectors, self._from_host[0])
        from_site = _Edges.of(graph.site_edges, graph.site_vectors, self._from_site[0])
        encoded = encoding.vectors.numpy()
        copies: Features | None = None
        for layer, update_block in enumerate(self._updates):
            if layer in self._answers:
                copies = copies or _copies(encoding, graph)
                copies = self._answers[layer](copies, sites, condition, graph)
            changed = update_block.shifted(sites, condition, draw)
            if copies is None:
                phi = encoding.messages[layer].numpy()
                self._from_host[layer].add(phi, encoded, from_host, changed)
            else:
                phi = self._from_host[layer].phi(copies[0])
                to_copies = from_host.sent_by(graph.feedback.edges[1].numpy())
                self._from_host[layer].add(phi, copies[1], to_copies, changed)
            phi = self._from_site[layer].phi(sites[0])
            self._from_site[layer].add(phi, sites[1], from_site, changed)
            update_block.mix_in(changed)
            sites = changed
        direction = (sites[1] * mlp(sites[0], self._gate)[:, None]).sum(-1)
        return torch.from_numpy(direction) * self._output_scale(graph.sigma)[graph.draw, None]
