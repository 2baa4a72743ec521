"""Training of `td` and `pos`: denoise all sites of a crystal with GemNet.

One time t is drawn for each crystal and its sites are noised with the wrapped SDE
(`proposals/diffusion/wrapped_sde.py`). For `td` some sites are known and have the smallest time
(TD-Paint; arXiv:2601.01959, Methods IV.2). To reduce the training time, three details differ from
the paper. The paper marks a random fifth of the sites as known; here most crystals have all
sublattices but one known, as at inference. The paper also trains the score of the known sites,
which samplers do not use. It draws t uniformly; here see `draw_time`.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from xtalfill.models.crystal_graph import CrystalGraph
from xtalfill.models.crystals import Crystals, join_crystals
from xtalfill.models.gemnet import GemNetConfig, GemNetScore, gemnet_graph
from xtalfill.models.tensors import TensorGroup
from xtalfill.models.weights import ScoreNetwork
from xtalfill.proposals.diffusion.settings import TRAINED_KNOWN_TIME
from xtalfill.proposals.diffusion.wrapped_sde import SIGMA_MAX, noise_std, wrap
from xtalfill.training.assignment import assignment_probabilities, nearest_distances
from xtalfill.training.data import CrystalSet, Task, TaskSampler
from xtalfill.training.objective import MicroBatchSize, Validation, require_type
from xtalfill.training.validate import match_rate, validation_tasks

TIMES = (0.1, 0.3, 0.5, 0.7, 0.9)
_IMAGES = np.arange(-int(5 * SIGMA_MAX) - 1, int(5 * SIGMA_MAX) + 2)
_VALIDATION_STEPS = 50
# at larger times the sites are distributed almost uniformly in the cell
_INFORMATIVE_TIME = 0.7
_INFORMATIVE_FRACTION = 0.85


@dataclass(frozen=True)
class CrystalTasks:
    """Composition of a micro-batch.

    Attributes:
        size: Size of a micro-batch, in crystals or atoms.
        hydrogen_fraction: Fraction of crystals with hydrogen.
        max_sites: Largest sublattice of another element that is treated as missing.
        substituted_fraction: Fraction of crystals with one host element replaced.
        known_fraction: `td`: fraction of known sites, drawn independently.
        sublattice_fraction: `td`: fraction of crystals in which, instead, all sublattices but one
            are known.
        validation_count: Number of held-out crystals in a validation.
    """

    size: MicroBatchSize = field(default_factory=MicroBatchSize)
    hydrogen_fraction: float = 0.6
    max_sites: int = 16
    substituted_fraction: float = 0.4
    known_fraction: float = 0.2
    sublattice_fraction: float = 0.8
    validation_count: int = 60


@dataclass(frozen=True)
class CrystalMicroBatch(TensorGroup):
    """Input and target of one micro-batch.

    Attributes:
        crystals: Noised crystals.
        times: (n,) time of each site.
        target: (n, 3) scaled scores.
        graph: Graph of the crystals.
    """

    crystals: Crystals
    times: Tensor
    target: Tensor
    graph: CrystalGraph

    @property
    def n_crystals(self) -> int:
        """Number of crystals."""
        return len(self.crystals.cell)

    @property
    def moving(self) -> Tensor:
        """Sites (n,) bool that are not known."""
        return self.times > TRAINED_KNOWN_TIME


class CrystalObjective:
    """Training objective: predict the scaled score of all sites of noised crystals."""

    def __init__(
        self,
        crystals: CrystalSet,
        tasks: CrystalTasks,
        model: GemNetConfig,
        *,
        method: Literal["td", "pos"],
        scale_file: Path,
        seed: int,
    ) -> None:
        """Prepare the sampler and choose the validation tasks.

        Args:
            crystals: Training data.
            tasks: Composition of a micro-batch.
            model: Architecture; `per_site_times` must agree with the method.
            method: Method that the weights are trained for.
            scale_file: GemNet's scale factors, assets/gemnet-dT.json.
            seed: Seed of the validation tasks and their noise.
        """
        self._tasks, self._model, self._method = tasks, model, method
        self._scale_file, self._seed = scale_file, seed
        self._sampler = TaskSampler(
            crystals,
            hydrogen_fraction=tasks.hydrogen_fraction,
            max_sites=tasks.max_sites,
            substituted_fraction=tasks.substituted_fraction,
        )
        self._validation = validation_tasks(crystals, count=tasks.validation_count, seed=seed)

    def new_network(self) -> GemNetScore:
        """Return the network with random weights from torch's global generator."""
        return GemNetScore(self._model, scale_file=self._scale_file)

    def draw(self, rng: np.random.Generator) -> CrystalMicroBatch:
        """Draw crystals, times, noise and targets of one micro-batch."""
        tasks: list[Task] = []
        atoms = 0
        while not self._tasks.size.is_full(crystals=len(tasks), atoms=atoms):
            tasks.append(self._sampler.draw(rng))
            atoms += len(tasks[-1].host.numbers) + tasks[-1].host.n_sites
        times = [self._times(task, rng) for task in tasks]
        return noised_micro_batch(tasks, times, rng, self._model)

    def _times(self, task: Task, rng: np.random.Generator) -> np.ndarray:
        """Return the time (n,) of each site, host sites first."""
        n_host, n_sites = len(task.host.numbers), task.host.n_sites
        times = np.full(n_host + n_sites, draw_time(rng))
        if self._method == "td":
            if rng.random() < self._tasks.sublattice_fraction:
                known = np.arange(len(times)) < n_host
            else:
                known = rng.random(len(times)) < self._tasks.known_fraction
            times[known] = TRAINED_KNOWN_TIME
        return times

    def loss(self, network: ScoreNetwork, part: CrystalMicroBatch) -> Tensor:
        """Return the squared error, summed over a crystal's moving sites (mean over x, y, z)."""
        model = require_type(network, GemNetScore)
        predicted = model.scaled_score(part.crystals, part.times, part.graph)
        errors = ((predicted - part.target) ** 2).mean(1)
        # selecting the moving sites would synchronise with a GPU
        return torch.where(part.moving, errors, 0.0).sum() / part.n_crystals

    def validate(self, network: ScoreNetwork) -> Validation:
        """Measure the loss at fixed times and the match rate of single candidates."""
        model = require_type(network, GemNetScore)
        losses = {time: self._loss_at(model, time) for time in TIMES}
        match = match_rate(
            model, self._validation, method=self._method, steps=_VALIDATION_STEPS, seed=self._seed
        )
        return Validation(float(np.mean(list(losses.values()))), losses, match)

    def _loss_at(self, network: GemNetScore, time: float) -> float:
        """Return the mean error of the missing sites at one time, with fixed noise."""
        rng = np.random.default_rng(self._seed)
        errors = []
        for task in self._validation:
            n_host = len(task.host.numbers)
            times = np.full(n_host + task.host.n_sites, time)
            if self._method == "td":
                times[:n_host] = TRAINED_KNOWN_TIME
            part = noised_micro_batch([task], [times], rng, self._model).to(network.device)
            with torch.inference_mode():
                predicted = network.scaled_score(part.crystals, part.times, part.graph)
            errors.append(float(((predicted - part.target)[n_host:] ** 2).mean()))
        return float(np.mean(errors))


def draw_time(rng: np.random.Generator) -> float:
    """Draw a time, more often below `_INFORMATIVE_TIME`.

    The smallest time is that of known sites, where a sampler with 1000 levels ends.
    """
    if rng.random() < _INFORMATIVE_FRACTION:
        return float(rng.uniform(TRAINED_KNOWN_TIME, _INFORMATIVE_TIME))
    return float(rng.uniform(_INFORMATIVE_TIME, 1.0))


def join_tasks(tasks: list[Task]) -> Crystals:
    """Concatenate tasks to crystals, host sites first in each."""
    crystals = join_crystals([task.host for task in tasks], [task.sites for task in tasks])
    return replace(crystals, fractions=crystals.fractions.float(), cell=crystals.cell.float())


def noised_micro_batch(
    tasks: list[Task], times: list[np.ndarray], rng: np.random.Generator, model: GemNetConfig
) -> CrystalMicroBatch:
    """Add noise to each site according to its time.

    Args:
        tasks: True crystals.
        times: For each crystal the time (n,) of its sites, host sites first.
        rng: Source of the noise.
        model: Architecture of the network that will process the micro-batch.
    """
    clean = join_tasks(tasks)
    flat = torch.from_numpy(np.concatenate(times))
    n_atoms = torch.bincount(clean.structure)[clean.structure]
    std = noise_std(flat, n_atoms).numpy()
    displacement = std[:, None] * rng.normal(size=(len(std), 3))
    target = scaled_wrapped_score(displacement, std)[0]
    for task, rows in zip(tasks, np.split(np.arange(len(std)), _ends(times)), strict=True):
        moving = rows[flat[rows].numpy() > TRAINED_KNOWN_TIME]  # the loss ignores the others
        for group in indistinguishable_groups(clean.numbers[moving].numpy(), flat[moving].numpy()):
            sites = moving[group]
            target[sites] = mixture_score(
                clean.fractions[sites].double().numpy(),
                displacement[sites],
                float(std[sites[0]]),
                task.host.cell,
            )
    noised = replace(
        clean, fractions=wrap(clean.fractions + torch.from_numpy(displacement)).float()
    )
    return CrystalMicroBatch(
        crystals=noised,
        times=flat.float(),
        target=torch.from_numpy(target.astype(np.float32)),
        graph=gemnet_graph(noised, flat.float(), model),
    )


def _ends(parts: list[np.ndarray]) -> np.ndarray:
    """Return the end of each part, except the last one, in the concatenation."""
    return np.cumsum([len(part) for part in parts])[:-1]


def indistinguishable_groups(numbers: np.ndarray, times: np.ndarray) -> list[np.ndarray]:
    """Return groups of two or more sites with the same element and time."""
    pairs = np.stack([numbers, times], axis=1)
    kinds = np.unique(pairs, axis=0, return_inverse=True)[1].ravel()
    groups = [np.flatnonzero(kinds == kind) for kind in np.unique(kinds)]
    return [group for group in groups if len(group) > 1]


def mixture_score(
    true: np.ndarray, displacement: np.ndarray, std: float, cell: np.ndarray
) -> np.ndarray:
    """Return the posterior mean of `scaled_wrapped_score` over the assignments of the sites.

    This is the score of the density of a crystal whose sites of one element are
    indistinguishable. Its variance is lower than that of the score for the drawn assignment.

    Args:
        true: (n, 3) fractional coordinates of sites of one element.
        displacement: (n, 3) noise, fractional.
        std: Standard deviation of the noise.
        cell: (3, 3) Angstrom; rows are lattice vectors.

    Returns:
        (n, 3) dimensionless.
    """
    noised = true + displacement
    score, log_density = scaled_wrapped_score(noised[:, None] - true, np.array(std))
    probability = assignment_probabilities(log_density, nearest_distances(noised, cell))
    return np.asarray((probability[:, :, None] * score).sum(axis=1))


def scaled_wrapped_score(
    displacement: np.ndarray, std: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the score of a wrapped normal distribution times its standard deviation.

    The axes of fractional coordinates are independent, so there is one sum over images for each
    axis, with enough terms for all noise levels in use.

    Args:
        displacement: (..., 3) from the centre, fractional.
        std: (...) or scalar, fractional.

    Returns:
        (..., 3) dimensionless, and the log density (...) up to a constant.
    """
    nearest = displacement - np.round(displacement)
    images = (nearest[..., None] + _IMAGES) / std[..., None, None]
    log_weight = -0.5 * images**2
    largest = log_weight.max(-1, keepdims=True)
    weight = np.exp(log_weight - largest)
    total = weight.sum(-1)
    log_density = (np.log(total) + largest[..., 0]).sum(-1)
    return -(weight * images).sum(-1) / total, log_density
