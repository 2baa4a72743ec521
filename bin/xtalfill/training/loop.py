"""Training loop: seeded, resumable, with an exponential moving average of the weights."""

from __future__ import annotations

import contextlib
import csv
import json
import logging
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from xtalfill.core.checkpoint import Checkpoint
from xtalfill.core.device import torch_device
from xtalfill.core.errors import ConfigError
from xtalfill.core.io import atomic_writer
from xtalfill.models.weights import ScoreNetwork, load_weights, save_weights
from xtalfill.training.objective import MicroBatch, Objective, is_compatible
from xtalfill.training.prefetch import MicroBatchLoader

log = logging.getLogger(__name__)

_LOG_EVERY = 100  # steps


@dataclass(frozen=True)
class TrainingConfig:
    """Settings of a training run, independent of the objective.

    Attributes:
        steps: Total number of optimiser steps; the learning rate decays to 2 % over them.
        parts: Micro-batches of a step, computed in parallel threads.
        learning_rate: Peak learning rate of AdamW.
        warmup: Steps of linear warm-up.
        ema: Decay of the averaged weights.
        clip: Maximum norm of the gradient.
        validate_every: Steps between validations.
        seed: Seed of the run.
        device: "cpu" or "cuda".
        mixed_precision: Use bfloat16 autocast for the loss; weights stay in single precision.
        draw_processes: Processes that prepare micro-batches; 0 for a thread. The result does not
            depend on it.
    """

    steps: int
    parts: int = 2
    learning_rate: float = 1e-3
    warmup: int = 500
    ema: float = 0.999
    clip: float = 1.0
    validate_every: int = 1000
    seed: int = 42
    device: str = "cpu"
    mixed_precision: bool = False
    draw_processes: int = 0

    def __post_init__(self) -> None:
        """Validate the number of processes.

        Raises:
            ConfigError: It is negative.
        """
        if self.draw_processes < 0:
            raise ConfigError(
                f"--draw_processes is {self.draw_processes}; give a number of processes, "
                "or 0 for a thread"
            )


class Trainer:
    """State of a training run: network, averaged network, optimiser, step, losses."""

    def __init__(self, config: TrainingConfig, objective: Objective[Any], folder: Path) -> None:
        """Create the state of a new run in `folder`."""
        torch.manual_seed(config.seed)
        self.config, self.objective, self.folder = config, objective, folder
        self.device = torch_device(config.device)
        self.network = objective.new_network().to(self.device)
        self.averaged = objective.new_network().to(self.device)
        self.averaged.load_state_dict(self.network.state_dict())
        self.averaged.eval()
        # GemNet stores its scale factors as parameters without gradient
        self.parameters = [p for p in self.network.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(self.parameters, weight_decay=0.01)
        self.step, self.best_match = 0, -1.0
        self.begin = time.perf_counter()  # start, corrected for validations and interruptions
        self.losses: list[float] = []  # since the last validation
        self._pending: list[Tensor] = []  # losses still on the device

    @property
    def seconds(self) -> float:
        """Training time without validations, s."""
        return time.perf_counter() - self.begin

    def resume(self, found: Mapping[str, np.ndarray]) -> None:
        """Resume from the result of `state`.

        Raises:
            ConfigError: The state belongs to another network.
        """
        if json.loads(str(found["model"])) != self.network.config.to_dict():
            raise ConfigError(
                f"{self.folder}: contains the training of another network; "
                "use the same options or another folder"
            )
        optimizer = self.optimizer.state_dict()
        for name, array in found.items():
            kind, _, rest = name.partition("/")
            if kind == "optimizer":
                number, _, key = rest.partition("/")
                # CPU tensors: AdamW keeps step counts on their device, and on a GPU would
                # synchronise for each parameter at every step; it moves all other tensors
                optimizer["state"].setdefault(int(number), {})[key] = torch.from_numpy(array)
        self.optimizer.load_state_dict(optimizer)
        for kind, network in self._networks().items():
            names = network.state_dict()
            network.load_state_dict(
                {name: torch.from_numpy(found[f"{kind}/{name}"]) for name in names}
            )
        self.step, self.best_match = int(found["step"]), float(found["best_match"])
        self.losses = found["losses"].tolist()
        self.begin -= float(found["seconds"])

    def state(self) -> dict[str, np.ndarray]:
        """Return all that another attempt needs to continue bit-identically."""
        self.settle()
        content = {
            "model": np.array(json.dumps(self.network.config.to_dict())),
            "step": np.array(self.step),
            "seconds": np.array(self.seconds),
            "best_match": np.array(self.best_match),
            "losses": np.array(self.losses, dtype=float),
        }
        for kind, network in self._networks().items():
            for name, value in network.state_dict().items():
                content[f"{kind}/{name}"] = value.numpy(force=True)
        for number, moments in self.optimizer.state_dict()["state"].items():
            for name, value in moments.items():
                content[f"optimizer/{number}/{name}"] = value.numpy(force=True)
        return content

    def _networks(self) -> dict[str, ScoreNetwork]:
        return {"network": self.network, "averaged": self.averaged}

    def start_from(self, weights: Path) -> None:
        """Initialise the network with the weights of an earlier run.

        Raises:
            ConfigError: The weights belong to another network.
        """
        model = load_weights(weights)
        if not is_compatible(model.config.to_dict(), self.network.config.to_dict()):
            raise ConfigError(
                f"{weights}: weights of another network; use the options of their training"
            )
        for network in (self.network, self.averaged):
            # layers missing in the weights keep their initial values (identity)
            network.load_state_dict({**network.state_dict(), **model.state_dict()})

    def gradients(self, part: MicroBatch) -> tuple[Tensor, list[Tensor]]:
        """Return the loss and gradients of a micro-batch. Thread-safe."""
        with torch.autocast(
            self.device.type, dtype=torch.bfloat16, enabled=self.config.mixed_precision
        ):
            loss = self.objective.loss(self.network, part.to(self.device))
        gradients = torch.autograd.grad(
            loss, self.parameters, allow_unused=True, materialize_grads=True
        )
        return loss.detach(), list(gradients)

    def learn(self, parts: list[MicroBatch], pool: ThreadPoolExecutor) -> None:
        """Make one optimiser step with the mean gradient of several micro-batches.

        Args:
            parts: Micro-batches.
            pool: Threads, one for each micro-batch.
        """
        results = list(pool.map(self.gradients, parts))
        for number, parameter in enumerate(self.parameters):
            parameter.grad = torch.stack([result[1][number] for result in results]).mean(0)
        for group in self.optimizer.param_groups:
            group["lr"] = self._learning_rate()
        torch.nn.utils.clip_grad_norm_(self.parameters, self.config.clip)
        self.optimizer.step()
        self.step += 1
        decay = min(self.config.ema, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            pairs = zip(self.averaged.parameters(), self.network.parameters(), strict=True)
            for mean, value in pairs:
                mean.lerp_(value, 1.0 - decay)
        # keep the loss on the device: reading it would synchronise
        self._pending.append(torch.stack([result[0] for result in results]).mean())

    def settle(self) -> None:
        """Wait for the device and read the pending losses.

        Raises:
            ConfigError: A loss is not finite.
        """
        values = torch.stack(self._pending).tolist() if self._pending else []
        wrong = np.flatnonzero(~np.isfinite(values))
        if len(wrong):
            step = self.step - len(values) + 1 + int(wrong[0])
            raise ConfigError(
                f"{self.folder}: the loss is not finite at step {step}; "
                "resume from the checkpoint with a lower --learning_rate"
            )
        self.losses += values
        self._pending = []

    def _learning_rate(self) -> float:
        warm = min(1.0, (self.step + 1) / self.config.warmup)
        progress = min(1.0, self.step / self.config.steps)
        cosine = 0.5 * (1.0 + np.cos(np.pi * progress))
        return float(self.config.learning_rate * warm * (0.02 + 0.98 * cosine))


def train(
    objective: Objective[Any],
    config: TrainingConfig,
    folder: Path,
    *,
    source: dict[str, Any],
    start: Path | None = None,
    checkpoint: Checkpoint | None = None,
) -> None:
    """Train until step `config.steps`, resuming from the checkpoint if there is one.

    Writes log.csv, last.pt and best.pt (highest match rate on held-out systems).

    Args:
        objective: Training objective.
        config: Settings of the run.
        folder: Output folder.
        source: Description of the data, stored in the weights file.
        start: Initial weights of a new run; None for random weights.
        checkpoint: Stores the state of the run for another attempt or more steps; None to store
            nothing.

    Raises:
        ConfigError: The checkpoint or the weights belong to another network.
        TryAgainError: The time limit is nearly reached, or the task received SIGTERM.
    """
    folder.mkdir(parents=True, exist_ok=True)
    trainer = Trainer(config, objective, folder)
    if checkpoint is not None and checkpoint.found:
        trainer.resume(checkpoint.found)
        log.info("resumed at step %d", trainer.step)
        _forget_rows_after(trainer.step, folder / "log.csv")
    elif start is not None:
        trainer.start_from(start)
    stream = MicroBatchLoader(
        objective,
        seed=config.seed,
        steps=range(trainer.step, config.steps),
        parts=config.parts,
        processes=config.draw_processes,
        pin=config.device == "cuda",
    )
    with contextlib.closing(stream), ThreadPoolExecutor(config.parts) as pool:
        _learn_all(trainer, stream, pool, source, checkpoint)
    if checkpoint is not None:
        checkpoint.write(trainer.state())


def _learn_all(
    trainer: Trainer,
    stream: MicroBatchLoader,
    pool: ThreadPoolExecutor,
    source: dict[str, Any],
    checkpoint: Checkpoint | None,
) -> None:
    """Make the remaining steps; log, validate and save between them."""
    config = trainer.config
    n_crystals, since = 0, trainer.seconds
    while trainer.step < config.steps:
        parts = _draw(stream, trainer, checkpoint)
        trainer.learn(parts, pool)
        n_crystals += sum(part.n_crystals for part in parts)
        if trainer.step % _LOG_EVERY == 0:
            trainer.settle()
            now = trainer.seconds
            loss, speed = np.mean(trainer.losses[-_LOG_EVERY:]), n_crystals / (now - since)
            log.info("step %d loss %.4f, %.0f crystals/s", trainer.step, loss, speed)
            n_crystals, since = 0, now
        if trainer.step % config.validate_every == 0 or trainer.step == config.steps:
            _report(trainer, source)
        if checkpoint is not None:
            checkpoint.step(trainer.state)


def _draw(
    stream: MicroBatchLoader, trainer: Trainer, checkpoint: Checkpoint | None
) -> list[MicroBatch]:
    """Return the micro-batches of the next step.

    Raises:
        TryAgainError: SIGTERM ended the data processes before this process handled it.
    """
    try:
        return stream.next()
    except (ConfigError, RuntimeError):
        if checkpoint is not None:
            checkpoint.step(trainer.state)
        raise


def _forget_rows_after(step: int, path: Path) -> None:
    """Remove the rows of a log after `step`; the resumed run writes them again."""
    if not path.is_file():
        return
    with path.open(newline="") as file:
        reader = csv.DictReader(file)
        rows, names = [row for row in reader if int(row["step"]) <= step], reader.fieldnames
    with atomic_writer(path) as file:
        writer = csv.DictWriter(file, fieldnames=names or [])
        writer.writeheader()
        writer.writerows(rows)


def _report(trainer: Trainer, source: dict[str, Any]) -> None:
    """Validate, log, and save the weights if the match rate is the highest so far."""
    trainer.settle()
    seconds, loss = trainer.seconds, float(np.mean(trainer.losses))
    result = trainer.objective.validate(trainer.averaged)
    training = {
        **source,
        "steps": trainer.step,
        "seconds": round(seconds),
        "validation_match": result.match,
        "validation_loss": result.loss,
        "seed": trainer.config.seed,
    }
    save_weights(trainer.averaged, trainer.folder / "last.pt", training=training)
    if result.match >= trainer.best_match:
        trainer.best_match = result.match
        save_weights(trainer.averaged, trainer.folder / "best.pt", training=training)
    row = {
        "step": trainer.step,
        "seconds": round(seconds),
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
    trainer.losses = []
    trainer.begin += trainer.seconds - seconds
