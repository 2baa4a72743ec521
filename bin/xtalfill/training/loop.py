"""The training loop: resumable, seeded, with an averaged copy of the weights."""

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
    """How a training run goes, whatever it learns.

    Attributes:
        steps: Optimiser steps of the whole run; the learning rate falls to 2 % with them.
        parts: Threads, each with its own part of a step.
        learning_rate: Peak learning rate of AdamW.
        warmup: Steps of linear warm-up.
        ema: Decay of the averaged weights.
        clip: Largest norm of the gradient.
        validate_every: Steps between validations.
        seed: Of everything random.
        device: "cpu" or "cuda".
        mixed_precision: Compute the loss in bfloat16 where that is safe; weights stay single.
        draw_processes: Processes that draw parts; 0 for a thread. It changes no result.
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
        """Check the number of processes.

        Raises:
            ConfigError: It is negative.
        """
        if self.draw_processes < 0:
            raise ConfigError(
                f"--draw_processes {self.draw_processes}: give a number of processes, "
                "or 0 for a thread"
            )


class Trainer:
    """State of a run: network, averaged network, optimiser, step number, losses."""

    def __init__(self, config: TrainingConfig, objective: Objective[Any], folder: Path) -> None:
        """Make the state of a new run in `folder`."""
        torch.manual_seed(config.seed)
        self.config, self.objective, self.folder = config, objective, folder
        self.device = torch_device(config.device)
        self.network = objective.new_network().to(self.device)
        self.averaged = objective.new_network().to(self.device)
        self.averaged.load_state_dict(self.network.state_dict())
        self.averaged.eval()
        # GemNet keeps its scale factors as parameters that are not to be learned
        self.parameters = [p for p in self.network.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(self.parameters, weight_decay=0.01)
        self.step, self.best_match = 0, -1.0
        self.begin = time.perf_counter()  # had it learned without a break
        self.losses: list[float] = []  # since the last validation
        self._pending: list[Tensor] = []  # losses that a GPU may still compute

    @property
    def seconds(self) -> float:
        """Time spent on learning, validations not counted."""
        return time.perf_counter() - self.begin

    def resume(self, found: Mapping[str, np.ndarray]) -> None:
        """Go on from what `state` returned.

        Raises:
            ConfigError: It belongs to another network.
        """
        if json.loads(str(found["model"])) != self.network.config.to_dict():
            raise ConfigError(
                f"{self.folder}: holds the training of another network; "
                "use its options or another folder"
            )
        optimizer = self.optimizer.state_dict()
        for name, array in found.items():
            kind, _, rest = name.partition("/")
            if kind == "optimizer":
                number, _, key = rest.partition("/")
                # on the CPU: AdamW would ask a GPU for its step counts at every step, parameter
                # by parameter, and leaves them where it is given them; all else it moves
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
        """Return all that another attempt needs to end as this one would."""
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
        """Begin with the weights of an earlier run instead of random ones.

        Raises:
            ConfigError: They belong to another network.
        """
        model = load_weights(weights)
        if not is_compatible(model.config.to_dict(), self.network.config.to_dict()):
            raise ConfigError(f"{weights}: of another network; give the options it was made with")
        for network in (self.network, self.averaged):
            # parts that the weights lack begin as if they were not there
            network.load_state_dict({**network.state_dict(), **model.state_dict()})

    def gradients(self, part: MicroBatch) -> tuple[Tensor, list[Tensor]]:
        """Return the loss of a part and its gradients; safe to call from several threads."""
        with torch.autocast(
            self.device.type, dtype=torch.bfloat16, enabled=self.config.mixed_precision
        ):
            loss = self.objective.loss(self.network, part.to(self.device))
        gradients = torch.autograd.grad(
            loss, self.parameters, allow_unused=True, materialize_grads=True
        )
        return loss.detach(), list(gradients)

    def learn(self, parts: list[MicroBatch], pool: ThreadPoolExecutor) -> None:
        """Take one optimiser step on the mean of several parts, one thread each.

        Args:
            parts: The parts.
            pool: Threads to compute them in.
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
        # left on the device: to read it would wait for the step
        self._pending.append(torch.stack([result[0] for result in results]).mean())

    def settle(self) -> None:
        """Wait for the steps to be done and read their losses.

        Raises:
            ConfigError: One is not finite.
        """
        values = torch.stack(self._pending).tolist() if self._pending else []
        wrong = np.flatnonzero(~np.isfinite(values))
        if len(wrong):
            step = self.step - len(values) + 1 + int(wrong[0])
            raise ConfigError(
                f"{self.folder}: the loss is not finite at step {step}; "
                "go on from the checkpoint with a lower --learning_rate"
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
    """Train until `config.steps`, from where the checkpoint stands.

    Writes log.csv, last.pt and best.pt (highest match rate on held-out systems).

    Args:
        objective: What to learn.
        config: The run.
        folder: Where all files go.
        source: What the weights file says of the data.
        start: Weights to begin a new run with; without them it begins at random.
        checkpoint: Holds the state of the run, for another attempt or more steps; None keeps
            nothing.

    Raises:
        ConfigError: The checkpoint or the weights belong to another network.
        TryAgainError: The checkpoint's time is nearly up, or it was told to stop.
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
    """Take the steps that are left; log, validate and save between them."""
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
    """Return the parts of the next step.

    Raises:
        TryAgainError: The task was told to stop, and the processes that draw have heard it first.
    """
    try:
        return stream.next()
    except (ConfigError, RuntimeError):
        if checkpoint is not None:
            checkpoint.step(trainer.state)
        raise


def _forget_rows_after(step: int, path: Path) -> None:
    """Drop the rows of a log that the run, resumed at `step`, will write again."""
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
    """Validate, log, and keep the weights if they match more than any before."""
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
