"""Training of the method `host`: denoise a sublattice in its fixed host."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch

from xtalfill.models.graphs import Draw, Host, host_graph, site_graph
from xtalfill.models.hostnet import HostGraph, HostNet, HostNetConfig, SiteGraph
from xtalfill.models.tensors import TensorGroup
from xtalfill.models.weights import ScoreNetwork
from xtalfill.training.data import CrystalSet, TaskSampler
from xtalfill.training.objective import MicroBatchSize, Validation, require_type
from xtalfill.training.target import expected_displacement
from xtalfill.training.validate import validate, validation_tasks


@dataclass(frozen=True)
class HostTasks:
    """Composition of a micro-batch.

    Attributes:
        size: Size of a micro-batch, in hosts, or in host sites plus noised sites.
        sites: Number of noised sites of each host, distributed over draws.
        hydrogen_fraction: Fraction of tasks with hydrogen as the missing element.
        max_sites: Largest sublattice of another element.
        substituted_fraction: Fraction of tasks with one host element replaced.
        validation_count: Number of held-out crystals in a validation.
    """

    size: MicroBatchSize = field(default_factory=MicroBatchSize)
    sites: int = 48
    hydrogen_fraction: float = 0.6
    max_sites: int = 16
    substituted_fraction: float = 0.4
    validation_count: int = 150


@dataclass(frozen=True)
class HostMicroBatch(TensorGroup):
    """Input and target (n_sites, 3) of one micro-batch."""

    hosts: HostGraph
    sites: SiteGraph
    target: torch.Tensor

    @property
    def n_crystals(self) -> int:
        """Number of hosts."""
        return len(self.hosts.element)


class HostObjective:
    """Training objective: predict the displacement of noised sites to their true positions."""

    def __init__(
        self, crystals: CrystalSet, tasks: HostTasks, model: HostNetConfig, *, seed: int
    ) -> None:
        """Prepare the sampler and choose the validation tasks.

        Args:
            crystals: Training data.
            tasks: Composition of a micro-batch.
            model: Architecture.
            seed: Seed of the validation tasks and their noise.
        """
        self._tasks, self._model, self._seed = tasks, model, seed
        self._sampler = TaskSampler(
            crystals,
            hydrogen_fraction=tasks.hydrogen_fraction,
            max_sites=tasks.max_sites,
            substituted_fraction=tasks.substituted_fraction,
        )
        self._validation = validation_tasks(crystals, count=tasks.validation_count, seed=seed)

    def new_network(self) -> HostNet:
        """Return the network with random weights from torch's global generator."""
        return HostNet(self._model)

    def draw(self, rng: np.random.Generator) -> HostMicroBatch:
        """Draw hosts, noise and targets of one micro-batch."""
        hosts: list[Host] = []
        draws: list[Draw] = []
        targets: list[np.ndarray] = []
        atoms = 0
        while not self._tasks.size.is_full(crystals=len(hosts), atoms=atoms):
            task = self._sampler.draw(rng)
            n_draws = int(np.clip(self._tasks.sites // task.host.n_sites, 2, 12))
            for _ in range(n_draws):
                sigma = draw_sigma(rng)
                noised = task.sites + sigma * rng.normal(size=task.sites.shape)
                draws.append(Draw(len(hosts), noised, sigma))
                targets.append(expected_displacement(noised, task.sites, task.host.cell, sigma))
            hosts.append(task.host)
            atoms += len(task.host.numbers) + n_draws * task.host.n_sites
        target = torch.from_numpy(np.concatenate(targets).astype(np.float32))
        return HostMicroBatch(
            host_graph(hosts, self._model), site_graph(hosts, draws, self._model), target
        )

    def loss(self, network: ScoreNetwork, part: HostMicroBatch) -> torch.Tensor:
        """Return the mean squared error in units of the expected displacement."""
        model = require_type(network, HostNet)
        predicted = model.denoise(model.encode(part.hosts), part.sites)
        scale = model.output_scale(part.sites.sigma)[part.sites.draw, None]
        return (((predicted - part.target) / scale) ** 2).mean()

    def validate(self, network: ScoreNetwork) -> Validation:
        """Measure loss and match rate on the validation tasks."""
        return validate(require_type(network, HostNet), self._validation, steps=40, seed=self._seed)


def draw_sigma(rng: np.random.Generator) -> float:
    """Draw a noise level, Angstrom: log-uniform, or log-normal around 0.7, with equal odds.

    Sites choose their neighbours at noise levels around 0.7 Angstrom.
    """
    if rng.random() < 0.5:
        return float(np.exp(rng.uniform(np.log(0.04), np.log(3.5))))
    return float(np.exp(np.clip(rng.normal(np.log(0.7), 0.6), np.log(0.04), np.log(3.5))))
