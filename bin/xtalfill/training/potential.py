"""Train a small potential of the Nequix architecture on the labels of a large one.

The loss has four parts: energies, their share of each atom, forces, and energy differences between
structures of the same host, which decide the ranking.
"""

from __future__ import annotations

import csv
import logging
import math
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import smooth_l1_loss

from xtalfill.core.checkpoint import Checkpoint
from xtalfill.core.errors import ConfigError
from xtalfill.relax.nequix import NequixNetwork
from xtalfill.relax.nqx_file import NequixWeights
from xtalfill.relax.nqx_writer import write_weights
from xtalfill.training.labels import LabelBatch, Labelled, LabelSampler, in_batches

log = logging.getLogger(__name__)

_LOG_EVERY = 100  # steps
_AT_ONCE = 30  # structures of one evaluation
APART = 5e-3  # eV/atom; pairs that the ranking must order
NEAR = 0.3  # eV/Angstrom; largest component of a force near a minimum


@dataclass(frozen=True, kw_only=True)
class LossWeights:
    """Weights of the parts of the loss, and where each changes from quadratic to linear.

    Attributes:
        energy: Weight of the energy, eV/atom.
        atomic: Weight of the energies of the atoms, eV.
        difference: Weight of the energy difference between structures of a host, eV/atom.
        forces: Weight of the forces, eV/Angstrom.
        energy_scale: eV/atom.
        atomic_scale: eV.
        difference_scale: eV/atom.
        force_scale: eV/Angstrom.
        large_force: eV/Angstrom; an error counts half where the force is as large, and less above.
    """

    energy: float = 1.0
    atomic: float = 0.5
    difference: float = 2.0
    forces: float = 2.0
    energy_scale: float = 0.02
    atomic_scale: float = 0.1
    difference_scale: float = 0.005
    force_scale: float = 0.05
    large_force: float = 1.0


@dataclass(frozen=True, kw_only=True)
class PotentialTraining:
    """Settings of a training run.

    Attributes:
        steps: Number of optimiser steps; the learning rate decays to 1 % over them.
        hosts: Hosts of a micro-batch, with up to two structures each.
        parts: Micro-batches of a step, in parallel threads.
        learning_rate: Peak learning rate of Muon and AdamW.
        warmup: Steps of linear warm-up.
        ema: Decay of the averaged weights.
        clip: Maximum norm of the gradient.
        validate_every: Steps between validations.
        seed: Seed of the batches.
        loss: Weights of the loss.
    """

    steps: int
    hosts: int = 8
    parts: int = 1
    learning_rate: float = 5e-3
    warmup: int = 200
    ema: float = 0.998
    clip: float = 10.0
    validate_every: int = 1000
    seed: int = 42
    loss: LossWeights = field(default_factory=LossWeights)

    def rate(self, step: int) -> float:
        """Return the learning rate of a step."""
        warm = min(1.0, (step + 1) / self.warmup)
        cosine = 0.5 * (1.0 + math.cos(math.pi * min(1.0, step / self.steps)))
        return self.learning_rate * warm * (0.01 + 0.99 * cosine)


@dataclass(frozen=True)
class Errors:
    """Errors on held-out structures.

    Attributes:
        energy: Mean absolute error, eV/atom, of structures near minima.
        forces: Mean absolute error of a component, eV/Angstrom, of structures near minima.
        energy_all: As `energy`, of all structures.
        forces_all: As `forces`, of all structures.
        n_pairs: Pairs of relaxed structures of a host, more than 5 meV/atom apart by the labels.
        ordered: Share of these pairs in the right order.
    """

    energy: float
    forces: float
    energy_all: float
    forces_all: float
    n_pairs: int
    ordered: float


class Predicted(NamedTuple):
    """Result of a network.

    Attributes:
        energies: (n_structures,) eV, float64.
        atomic: (n_atoms,) eV, float64, which add up to them.
        forces: (n_atoms, 3) eV/Angstrom.
    """

    energies: Tensor
    atomic: Tensor
    forces: Tensor


def predict(network: NequixNetwork, batch: LabelBatch, *, train: bool) -> Predicted:
    """Return energies and forces of a batch, with their derivatives by the weights if `train`."""
    vectors = batch.vectors.detach().requires_grad_()
    atomic = network(batch.numbers, batch.pairs, vectors)
    slopes = torch.autograd.grad(atomic.sum(), vectors, create_graph=train)[0]
    forces = torch.zeros_like(batch.forces)
    forces = forces.index_add(0, batch.pairs[0], slopes).index_add(0, batch.pairs[1], -slopes)
    energies = torch.zeros_like(batch.energies).index_add(0, batch.structure, atomic)
    if not train:
        energies, atomic = energies.detach(), atomic.detach()
    return Predicted(energies, atomic, forces)


def loss_of(network: NequixNetwork, batch: LabelBatch, weights: LossWeights) -> Tensor:
    """Return the loss of a batch."""
    found = predict(network, batch, train=True)
    sizes = torch.bincount(batch.structure)
    error = ((found.energies - batch.energies) / sizes).float()
    total = weights.energy * _robust(error, weights.energy_scale).mean()
    known = torch.isfinite(batch.atomic)
    if known.any():
        shares = (found.atomic - batch.atomic)[known].float()
        total = total + weights.atomic * _robust(shares, weights.atomic_scale).mean()
    if batch.couples.shape[1]:
        between = error[batch.couples[0]] - error[batch.couples[1]]
        total = total + weights.difference * _robust(between, weights.difference_scale).mean()
    # A clash must not outweigh the way to a minimum.
    large = torch.linalg.vector_norm(batch.forces, dim=1, keepdim=True) / weights.large_force
    relative = (found.forces - batch.forces) / (1.0 + large)
    return total + weights.forces * _robust(relative, weights.force_scale).mean()


def _robust(error: Tensor, scale: float) -> Tensor:
    return smooth_l1_loss(error, torch.zeros_like(error), beta=scale, reduction="none")


def held_out_errors(network: NequixNetwork, labels: Sequence[Labelled]) -> Errors:
    """Return the errors of a network on held-out structures."""
    energy, force, near, predicted = [], [], [], []
    for some, batch in in_batches(labels, cutoff=network.config.cutoff, at_once=_AT_ONCE):
        energies, _, forces = predict(network, batch, train=False)
        apart = (forces - batch.forces).abs().mean(dim=1)
        for index, one in enumerate(some):
            predicted.append(float(energies[index]) / len(one.crystal.numbers))
            energy.append(abs(predicted[-1] - one.energy / len(one.crystal.numbers)))
            force.append(float(apart[batch.structure == index].mean()))
            near.append(np.abs(one.forces).max() < NEAR)
    right = _orders(ends_of_ways(labels, predicted))
    energy_of, force_of, is_near = np.array(energy), np.array(force), np.array(near)
    return Errors(
        energy=_mean(energy_of[is_near]),
        forces=_mean(force_of[is_near]),
        energy_all=_mean(energy_of),
        forces_all=_mean(force_of),
        n_pairs=len(right),
        ordered=_mean(np.array(right)),
    )


def ends_of_ways(
    labels: Sequence[Labelled], predicted: Sequence[float]
) -> list[list[tuple[float, float]]]:
    """Return for each host the last structures of its relaxations, if near a minimum.

    Args:
        labels: Labelled structures.
        predicted: Their energies by another potential, eV/atom.

    Returns:
        Energies of label and prediction, eV/atom.
    """
    last: dict[int, dict[int, int]] = {}
    for index, one in enumerate(labels):
        ways = last.setdefault(one.host, {})
        if one.way not in ways or labels[ways[one.way]].step < one.step:
            ways[one.way] = index
    return [
        [
            (labels[i].energy / len(labels[i].crystal.numbers), predicted[i])
            for i in ways.values()
            if labels[i].step and np.abs(labels[i].forces).max() < NEAR
        ]
        for ways in last.values()
    ]


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if len(values) else math.nan


def _orders(hosts: Sequence[list[tuple[float, float]]]) -> list[bool]:
    """Return for each pair of a host that is apart by the labels whether its order is right."""
    found: list[bool] = []
    for members in hosts:
        expected, given = np.array(members).reshape(-1, 2).T
        first, second = np.nonzero(expected[:, None] - expected[None] > APART)
        found += (given[first] > given[second]).tolist()
    return found


class PotentialTrainer:
    """State of a training run: network, averaged network, optimiser, step.

    Args:
        weights: Initial weights.
        config: Settings.
    """

    def __init__(self, weights: NequixWeights, config: PotentialTraining) -> None:
        self.config = config
        self.network = NequixNetwork(weights, fused=True, trainable=True)
        self.averaged = NequixNetwork(weights, fused=True, trainable=True).requires_grad_(False)
        self.parameters = list(self.network.parameters())
        self.optimizers = _optimizers(self.network)
        self.step = 0

    def state(self) -> dict[str, np.ndarray]:
        """Return all that another attempt needs to continue."""
        content = {"step": np.array(self.step)}
        for number, (mean, value) in enumerate(
            zip(self.averaged.parameters(), self.parameters, strict=True)
        ):
            content[f"network/{number}"] = value.numpy(force=True)
            content[f"averaged/{number}"] = mean.numpy(force=True)
            for optimizer in self.optimizers:
                for name, moment in optimizer.state.get(value, {}).items():
                    content[f"optimizer/{number}/{name}"] = moment.numpy(force=True)
        return content

    def resume(self, found: Mapping[str, np.ndarray]) -> None:
        """Resume from the result of `state`."""
        self.step = int(found["step"])
        with torch.no_grad():
            for number, (mean, value) in enumerate(
                zip(self.averaged.parameters(), self.parameters, strict=True)
            ):
                value.copy_(torch.from_numpy(found[f"network/{number}"]))
                mean.copy_(torch.from_numpy(found[f"averaged/{number}"]))
        for name, array in found.items():
            kind, _, rest = name.partition("/")
            if kind == "optimizer":
                place, _, key = rest.partition("/")
                parameter = self.parameters[int(place)]
                (owner,) = (one for one in self.optimizers if _owns(one, parameter))
                owner.state[parameter][key] = torch.from_numpy(array)

    def learn(self, batches: Sequence[LabelBatch], pool: ThreadPoolExecutor) -> float:
        """Make one step with the mean gradient of some micro-batches; return the loss."""
        results = list(pool.map(self._gradients, batches))
        for number, parameter in enumerate(self.parameters):
            parameter.grad = torch.stack([result[1][number] for result in results]).mean(0)
        torch.nn.utils.clip_grad_norm_(self.parameters, self.config.clip)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = self.config.rate(self.step)
            optimizer.step()
        self.step += 1
        decay = min(self.config.ema, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            for mean, value in zip(self.averaged.parameters(), self.parameters, strict=True):
                mean.lerp_(value, 1.0 - decay)
        return float(np.mean([result[0] for result in results]))

    def _gradients(self, batch: LabelBatch) -> tuple[float, tuple[Tensor, ...]]:
        loss = loss_of(self.network, batch, self.config.loss)
        return float(loss.detach()), torch.autograd.grad(loss, self.parameters)


def _optimizers(network: NequixNetwork) -> list[torch.optim.Optimizer]:
    """Return Muon for the linear maps between features, AdamW for all other weights.

    Muon (Jordan et al. 2024) needs fewer steps for these networks (arXiv:2508.16067).
    """
    by_species = ("_layers.0._linear_in", "_layers.0._skip")  # rows are elements, not features
    maps: list[Tensor] = []
    others: list[Tensor] = []
    for name, parameter in network.named_parameters():
        is_map = parameter.ndim == 2 and min(parameter.shape) > 1
        (maps if is_map and not name.startswith(by_species) else others).append(parameter)
    return [
        torch.optim.Muon(maps, weight_decay=1e-4, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(others, weight_decay=1e-4, betas=(0.9, 0.99)),
    ]


def _owns(optimizer: torch.optim.Optimizer, parameter: Tensor) -> bool:
    return any(one is parameter for group in optimizer.param_groups for one in group["params"])


def train_potential(
    trainer: PotentialTrainer,
    sampler: LabelSampler,
    held_out: Sequence[Labelled],
    folder: Path,
    *,
    about: dict[str, str],
    checkpoint: Checkpoint,
) -> None:
    """Train until the last step; write log.csv and last.nqx at every validation.

    Args:
        trainer: New state of a run; continues from the checkpoint if there is one.
        sampler: Training structures.
        held_out: Structures to validate on.
        folder: Output folder.
        about: Entries for the first line of the weights file.
        checkpoint: Stores the state.

    Raises:
        ConfigError: The loss is not finite.
        TryAgainError: The time limit is nearly reached, or the task received SIGTERM.
    """
    config, cutoff = trainer.config, trainer.network.config.cutoff
    if checkpoint.found:
        trainer.resume(checkpoint.found)
        log.info("resumed at step %d", trainer.step)
    losses, begin = [], time.perf_counter()
    with ThreadPoolExecutor(config.parts) as pool:
        while trainer.step < config.steps:
            numbers = [trainer.step * config.parts + part for part in range(config.parts)]
            batches = [sampler.batch(number, cutoff=cutoff) for number in numbers]
            losses.append(trainer.learn(batches, pool))
            if not math.isfinite(losses[-1]):
                raise ConfigError(
                    f"{folder}: the loss is not finite at step {trainer.step}; "
                    "lower --learning_rate"
                )
            if trainer.step % _LOG_EVERY == 0:
                speed = _LOG_EVERY / (time.perf_counter() - begin)
                mean = np.mean(losses[-_LOG_EVERY:])
                log.info("step %d loss %.4f, %.2f steps/s", trainer.step, mean, speed)
                begin = time.perf_counter()
            if trainer.step % config.validate_every == 0 or trainer.step == config.steps:
                _report(trainer, held_out, folder, float(np.mean(losses)), about)
                losses, begin = [], time.perf_counter()
            checkpoint.step(trainer.state)
    checkpoint.write(trainer.state())


def _report(
    trainer: PotentialTrainer,
    held_out: Sequence[Labelled],
    folder: Path,
    loss: float,
    about: dict[str, str],
) -> None:
    """Validate, log, and write the averaged weights."""
    errors = held_out_errors(trainer.averaged, held_out)
    row = {
        "step": trainer.step,
        "loss": f"{loss:.4f}",
        "energy": f"{1e3 * errors.energy:.1f}",
        "forces": f"{errors.forces:.4f}",
        "energy_all": f"{1e3 * errors.energy_all:.1f}",
        "forces_all": f"{errors.forces_all:.4f}",
        "pairs": errors.n_pairs,
        "ordered": f"{errors.ordered:.4f}",
    }
    path = folder / "log.csv"
    new = not path.is_file()
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(row))
        if new:
            writer.writeheader()
        writer.writerow(row)
    log.info("%s", row)
    write_weights(folder / "last.nqx", trainer.averaged.weights(), about=about)
