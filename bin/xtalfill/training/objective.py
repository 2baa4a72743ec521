"""Interface of a training objective: network, data, loss and validation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, Self, TypeVar

import numpy as np
import torch
from torch import Tensor

from xtalfill.core.errors import ConfigError
from xtalfill.models.gemnet import GemNetScore
from xtalfill.models.hostnet import HostNet
from xtalfill.models.weights import ScoreNetwork

Network = TypeVar("Network", HostNet, GemNetScore)


class MicroBatch(Protocol):
    """Input and target of one forward pass; a step consists of one or more micro-batches."""

    @property
    def n_crystals(self) -> int:
        """Number of crystals."""

    def to(self, device: torch.device) -> Self:
        """Return the micro-batch on a device."""

    def pin_memory(self) -> Self:
        """Return a copy in pinned memory."""


MicroBatchType = TypeVar("MicroBatchType", bound=MicroBatch)


@dataclass(frozen=True)
class MicroBatchSize:
    """Size of a micro-batch.

    Attributes:
        crystals: Number of crystals; ignored if `atoms` is given.
        atoms: Add complete crystals until this number of atoms is reached. Time and memory of a
            step scale with the number of atoms.
    """

    crystals: int = 8
    atoms: int | None = None

    def __post_init__(self) -> None:
        """Validate the numbers.

        Raises:
            ConfigError: A number is not positive.
        """
        for name, value in (("crystals", self.crystals), ("atoms", self.atoms)):
            if value is not None and value < 1:
                raise ConfigError(f"--{name} is {value}; it must be at least 1")

    def is_full(self, *, crystals: int, atoms: int) -> bool:
        """Return whether a micro-batch with these numbers of crystals and atoms is complete."""
        return crystals >= self.crystals if self.atoms is None else atoms >= self.atoms


@dataclass(frozen=True)
class Validation:
    """Result of one validation.

    Attributes:
        loss: Mean of `loss_by_level`.
        loss_by_level: Loss at each fixed noise level or time.
        match: Match rate of single candidates before relaxation.
    """

    loss: float
    loss_by_level: dict[float, float]
    match: float


class Objective(Protocol[MicroBatchType]):
    """Training objective, as used by the training loop.

    Must be picklable, for the data processes.
    """

    def new_network(self) -> ScoreNetwork:
        """Return the network with random weights from torch's global generator."""

    def draw(self, rng: np.random.Generator) -> MicroBatchType:
        """Draw one micro-batch; `rng` is the only source of randomness."""

    def loss(self, network: ScoreNetwork, part: MicroBatchType) -> Tensor:
        """Return the scalar loss of one micro-batch, if possible without synchronisation."""

    def validate(self, network: ScoreNetwork) -> Validation:
        """Validate the network on held-out chemical systems; deterministic."""


def require_type(network: ScoreNetwork, kind: type[Network]) -> Network:
    """Return `network` after checking its type.

    Raises:
        TypeError: The network has another architecture.
    """
    if not isinstance(network, kind):
        raise TypeError(f"{type(network).__name__} is not a {kind.__name__}")
    return network


def is_compatible(weights: dict[str, Any], network: dict[str, Any]) -> bool:
    """Return whether a network can be initialised with the weights of another, by configuration.

    Dropout and the type of times (`td` or `pos`) have no weights. Host feedback layers can be
    added to weights without them.
    """
    free: dict[str, Any] = {name: None for name in ("dropout", "per_site_times") if name in network}
    if weights.get("answers") == 0:
        free |= {"answers": 0, "answer_cutoff": 0.0}
    return {**weights, **free} == {**network, **free}
