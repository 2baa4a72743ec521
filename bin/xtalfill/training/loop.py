"""The training loop: resumable, seeded, with an averaged copy of the weights."""

from __future__ import annotations

import csv
import logging
import os
import queue
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from xtalfill.errors import ConfigError
from xtalfill.model.graphs import Draw, Host, host_graph, site_graph
from xtalfill.model.hostnet import HostGraph, HostNet, HostNetConfig, SiteGraph
from xtalfill.model.weights import load_weights, save_weights
from xtalfill.training.data import Crystals, TaskSampler
from xtalfill.training.target import expected_displacement
from xtalfill.training.validate import validate, validation_tasks

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainingConfig:
    """What a training run is made of.

    Attributes:
        steps: Optimiser steps of the whole run; the learning rate falls to zero with them.
        parts: Threads, each with its own part of a step.
        hosts: Hosts in a part.
        sites: Noised sites of each host in a step, shared out over draws.
        learning_rate: Peak learning rate of AdamW.
        warmup: Steps of linear warm-up.
        ema: Decay of the averaged weights.
        hydrogen_fraction: Share of tasks whose missing species is hydrogen.
        max_sites: Largest sublattice of another species.
        validate_every: Steps between validations.
        validation_count: Held-out crystals in a validation.
        seed: Of everything random.
    """

    steps: int
    parts: int = 2
    hosts: int = 8
    sites: int = 48
    learning_rate: float = 1e-3
    warmup: int = 500
    ema: float = 0.999
    hydrogen_fraction: float = 0.6
    max_sites: int = 16
    validate_every: int = 1000
    validation_count: int = 150
    seed: int = 42


@dataclass(frozen=True)
class Step:
    """Input and target (n_sites, 3) of one optimiser step."""

    hosts: HostGraph
    sites: SiteGraph
    target: torch.Tensor


def draw_sigma(rng: np.random.Generator) -> float:
    """Draw a noise level: log-uniform, and more where sites choose their neighbours."""
    if rng.random() < 0.5:
        return float(np.exp(rng.uniform(np.log(0.04), np.log(3.5))))
    return float(np.exp(np.clip(rng.normal(np.log(0.7), 0.6), np.log(0.04), np.log(3.5))))


def make_step(
    sampler: TaskSampler, config: TrainingConfig, model: HostNetConfig, rng: np.random.Generator
) -> Step:
    """Draw the hosts, noise and targets of one step."""
    hosts: list[Host] = []
    draws: list[Draw] = []
    targets: list[np.ndarray] = []
    for number in range(config.hosts):
        task = sampler.draw()
        hosts.append(task.host)
        for _ in range(int(np.clip(config.sites // task.host.n_sites, 2, 12))):
            sigma = draw_sigma(rng)
            noised = task.sites + sigma * rng.normal(size=task.sites.shape)
            draws.append(Draw(number, noised, sigma))
            targets.append(expected_displacement(noised, task.sites, task.host.cell, sigma))
    target = torch.from_numpy(np.concatenate(targets).astype(np.float32))
    return Step(host_graph(hosts, model), site_graph(hosts, draws, model), target)


class StepStream:
    """Makes steps in a thread while the network works on the last one."""

    def __init__(
        self, crystals: Crystals, config: TrainingConfig, model: HostNetConfig, *, first_step: int
    ) -> None:
        """Start the stream; step number and seed alone decide what a stream draws from there."""
        rng = np.random.default_rng([config.seed, first_step])
        sampler = TaskSampler(
            crystals,
            hydrogen_fraction=config.hydrogen_fraction,
            max_sites=config.max_sites,
            rng=rng,
        )
        self._queue: queue.Queue[Step | BaseException] = queue.Queue(maxsize=4)

        def produce() -> None:
            try:
                while True:
                    self._queue.put(make_step(sampler, config, model, rng))
            except BaseException as error:  # handed to the consumer, which raises it
                self._queue.put(error)
                raise

        threading.Thread(target=produce, daemon=True).start()

    def next(self) -> Step:
        """Return the next step."""
        item = self._queue.get()
        if isinstance(item, BaseException):
            raise RuntimeError("making a training step failed") from item
        return item


class Trainer:
    """State of a run: network, averaged network, optimiser, step number."""

    def __init__(self, config: TrainingConfig, model: HostNetConfig, folder: Path) -> None:
        """Make the state of a new run in `folder`."""
        torch.manual_seed(config.seed)
        self.config, self.folder = config, folder
        self.network = HostNet(model)
        self.averaged = HostNet(model)
        self.averaged.load_state_dict(self.network.state_dict())
        self.averaged.eval()
        self.optimizer = torch.optim.AdamW(self.network.parameters(), weight_decay=0.01)
        self.step, self.seconds, self.best_match = 0, 0.0, -1.0

    def resume(self) -> bool:
        """Go on from the checkpoint in the folder, if there is one.

        Raises:
            ConfigError: The checkpoint belongs to another network.
        """
        path = self.folder / "checkpoint.pt"
        if not path.is_file():
            return False
        saved = torch.load(path, weights_only=True)
        if saved["model"] != self.network.config.to_dict():
            raise ConfigError(f"{path}: of another network; use its options or another folder")
        self.network.load_state_dict(saved["network"])
        self.averaged.load_state_dict(saved["averaged"])
        self.optimizer.load_state_dict(saved["optimizer"])
        self.step, self.seconds = saved["step"], saved["seconds"]
        self.best_match = saved["best_match"]
        return True

    def start_from(self, weights: Path) -> None:
        """Begin with the weights of an earlier run instead of random ones.

        Raises:
            ConfigError: They belong to another network.
        """
        model = load_weights(weights)
        if replace(model.config, dropout=0.0) != replace(self.network.config, dropout=0.0):
            raise ConfigError(f"{weights}: of another network; give the options it was made with")
        self.network.load_state_dict(model.state_dict())
        self.averaged.load_state_dict(model.state_dict())

    def save(self) -> None:
        """Write the checkpoint; a kill at any moment leaves a whole one."""
        content = {
            "model": self.network.config.to_dict(),
            "network": self.network.state_dict(),
            "averaged": self.averaged.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
            "seconds": self.seconds,
            "best_match": self.best_match,
        }
        temporary = self.folder / "checkpoint.tmp"
        torch.save(content, temporary)
        os.replace(temporary, self.folder / "checkpoint.pt")

    def gradients(self, step: Step) -> tuple[float, list[torch.Tensor]]:
        """Return the loss of a step and its gradients; safe to call from several threads."""
        predicted = self.network.denoise(self.network.encode(step.hosts), step.sites)
        scale = self.network.output_scale(step.sites.sigma)[step.sites.draw, None]
        loss = (((predicted - step.target) / scale) ** 2).mean()
        gradients = torch.autograd.grad(loss, list(self.network.parameters()))
        return loss.item(), list(gradients)

    def learn(self, steps: list[Step], pool: ThreadPoolExecutor) -> float:
        """Take one optimiser step on the mean of several parts, one thread each.

        Args:
            steps: The parts.
            pool: Threads to compute them in.

        Returns:
            The mean loss.
        """
        parts = list(pool.map(self.gradients, steps))
        for number, parameter in enumerate(self.network.parameters()):
            parameter.grad = torch.stack([part[1][number] for part in parts]).mean(0)
        for group in self.optimizer.param_groups:
            group["lr"] = self._learning_rate()
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        self.optimizer.step()
        self.step += 1
        decay = min(self.config.ema, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            pairs = zip(self.averaged.parameters(), self.network.parameters(), strict=True)
            for mean, value in pairs:
                mean.lerp_(value, 1.0 - decay)
        return float(np.mean([part[0] for part in parts]))

    def _learning_rate(self) -> float:
        warm = min(1.0, (self.step + 1) / self.config.warmup)
        progress = min(1.0, self.step / self.config.steps)
        cosine = 0.5 * (1.0 + np.cos(np.pi * progress))
        return float(self.config.learning_rate * warm * (0.02 + 0.98 * cosine))


def train(
    crystals: Crystals,
    config: TrainingConfig,
    model: HostNetConfig,
    folder: Path,
    *,
    source: dict[str, Any],
    start: Path | None = None,
) -> None:
    """Train until `config.steps`, resuming what stands in `folder`.

    Writes checkpoint.pt, log.csv, last.pt and best.pt (highest match rate on held-out systems).

    Args:
        crystals: The data.
        config: The run.
        model: The network.
        folder: Where all files go.
        source: What the weights file says of the data.
        start: Weights to begin a new run with; without them it begins at random.
    """
    folder.mkdir(parents=True, exist_ok=True)
    trainer = Trainer(config, model, folder)
    if trainer.resume():
        log.info("resumed at step %d", trainer.step)
    elif start is not None:
        trainer.start_from(start)
    tasks = validation_tasks(crystals, count=config.validation_count, seed=config.seed)
    stream = StepStream(crystals, config, model, first_step=trainer.step)
    pool = ThreadPoolExecutor(config.parts)
    losses: list[float] = []
    started = time.perf_counter()
    while trainer.step < config.steps:
        losses.append(trainer.learn([stream.next() for _ in range(config.parts)], pool))
        if trainer.step % 100 == 0:
            log.info("step %d loss %.4f", trainer.step, np.mean(losses[-100:]))
        if trainer.step % config.validate_every == 0 or trainer.step == config.steps:
            trainer.seconds += time.perf_counter() - started
            _report(trainer, tasks, float(np.mean(losses)), source)
            losses = []
            started = time.perf_counter()


def _report(trainer: Trainer, tasks: list[Any], loss: float, source: dict[str, Any]) -> None:
    """Validate, log, and keep the weights if they match more than any before."""
    config = trainer.config
    result = validate(trainer.averaged, tasks, steps=40, seed=config.seed)
    training = {
        **source,
        "steps": trainer.step,
        "seconds": round(trainer.seconds),
        "validation_match": result.match,
        "validation_loss": result.loss,
        "seed": config.seed,
    }
    save_weights(trainer.averaged, trainer.folder / "last.pt", training=training)
    if result.match >= trainer.best_match:
        trainer.best_match = result.match
        save_weights(trainer.averaged, trainer.folder / "best.pt", training=training)
    row = {
        "step": trainer.step,
        "seconds": round(trainer.seconds),
        "loss": f"{loss:.4f}",
        "validation_loss": f"{result.loss:.4f}",
        **{f"loss_{level}": f"{value:.4f}" for level, value in result.loss_by_level.items()},
        "validation_match": f"{result.match:.4f}",
    }
    log_path = trainer.folder / "log.csv"
    new = not log_path.is_file()
    with log_path.open("a", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(row))
        if new:
            writer.writeheader()
        writer.writerow(row)
    log.info("%s", row)
    trainer.save()
