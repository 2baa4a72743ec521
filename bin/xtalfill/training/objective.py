"""What a training run learns: the network, its data, its loss and how it is validated."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import numpy as np
from torch import Tensor

from xtalfill.model.gemnet import GemNetScore
from xtalfill.model.hostnet import HostNet
from xtalfill.model.weights import ScoreNetwork

Part = TypeVar("Part")
Network = TypeVar("Network", HostNet, GemNetScore)


@dataclass(frozen=True)
class Validation:
    """Result of one validation.

    Attributes:
        loss: Mean of the losses by level.
        loss_by_level: The training loss at each fixed noise level or time.
        match: Share of single candidates that match, before any relaxation.
    """

    loss: float
    loss_by_level: dict[float, float]
    match: float


class Objective(Protocol[Part]):
    """One way of training; the loop knows nothing else of it."""

    def new_network(self) -> ScoreNetwork:
        """Return the network with random weights from torch's generator."""

    def draw(self, rng: np.random.Generator) -> Part:
        """Draw one part of an optimiser step; `rng` alone decides it."""

    def loss(self, network: ScoreNetwork, part: Part) -> Tensor:
        """Return the loss (a scalar) of one part."""

    def validate(self, network: ScoreNetwork) -> Validation:
        """Measure the network on held-out chemical systems; the same network, the same result."""


def expect(network: ScoreNetwork, kind: type[Network]) -> Network:
    """Return a network by its type.

    Raises:
        TypeError: It is of another architecture.
    """
    if not isinstance(network, kind):
        raise TypeError(f"{type(network).__name__} is no {kind.__name__}")
    return network


def can_start(weights: dict[str, Any], network: dict[str, Any]) -> bool:
    """Tell by their configurations whether a network can begin with weights of another.

    Dropout has no weights, nor has the way times are given (`td` and `pos`), and answers that
    the weights lack can be added.
    """
    free: dict[str, Any] = {name: None for name in ("dropout", "per_site_times") if name in network}
    if weights.get("answers") == 0:
        free |= {"answers": 0, "answer_cutoff": 0.0}
    return {**weights, **free} == {**network, **free}
