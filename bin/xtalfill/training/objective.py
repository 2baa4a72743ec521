"""What a training run learns: the network, its data, its loss and how it is validated."""

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
    """What one device learns from at once; a step has one or more of them."""

    @property
    def n_crystals(self) -> int:
        """Number of crystals in it."""

    def to(self, device: torch.device) -> Self:
        """Return the part on a device."""

    def pin_memory(self) -> Self:
        """Return the part in memory that a GPU can copy from by itself."""


MicroBatchType = TypeVar("MicroBatchType", bound=MicroBatch)


@dataclass(frozen=True)
class MicroBatchSize:
    """How much a part of a step holds.

    Attributes:
        crystals: So many crystals, unless `atoms` is given.
        atoms: Crystals until there are so many atoms, the last one whole: a step's time and
            memory follow the atoms, whose edges are about as many for each of them.
    """

    crystals: int = 8
    atoms: int | None = None

    def __post_init__(self) -> None:
        """Check the numbers.

        Raises:
            ConfigError: One is not positive.
        """
        for name, value in (("crystals", self.crystals), ("atoms", self.atoms)):
            if value is not None and value < 1:
                raise ConfigError(f"--{name} {value}: a part of a step needs at least 1")

    def is_full(self, *, crystals: int, atoms: int) -> bool:
        """Tell whether a part of so many crystals and atoms needs no further one."""
        return crystals >= self.crystals if self.atoms is None else atoms >= self.atoms


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


class Objective(Protocol[MicroBatchType]):
    """One way of training; the loop knows nothing else of it.

    It is pickled for the processes that draw.
    """

    def new_network(self) -> ScoreNetwork:
        """Return the network with random weights from torch's generator."""

    def draw(self, rng: np.random.Generator) -> MicroBatchType:
        """Draw one part of an optimiser step; `rng` alone decides it."""

    def loss(self, network: ScoreNetwork, part: MicroBatchType) -> Tensor:
        """Return the loss (a scalar) of one part, which waits for no device where it can."""

    def validate(self, network: ScoreNetwork) -> Validation:
        """Measure the network on held-out chemical systems; the same network, the same result."""


def require_type(network: ScoreNetwork, kind: type[Network]) -> Network:
    """Return a network by its type.

    Raises:
        TypeError: It is of another architecture.
    """
    if not isinstance(network, kind):
        raise TypeError(f"{type(network).__name__} is no {kind.__name__}")
    return network


def is_compatible(weights: dict[str, Any], network: dict[str, Any]) -> bool:
    """Tell by their configurations whether a network can begin with weights of another.

    Dropout has no weights, nor has the way times are given (`td` and `pos`), and answers that
    the weights lack can be added.
    """
    free: dict[str, Any] = {name: None for name in ("dropout", "per_site_times") if name in network}
    if weights.get("answers") == 0:
        free |= {"answers": 0, "answer_cutoff": 0.0}
    return {**weights, **free} == {**network, **free}
