"""The parts of the next steps, drawn while the network learns from the last ones."""

from __future__ import annotations

import contextlib
import multiprocessing
import queue
import threading
from collections.abc import Generator, Iterator
from multiprocessing.context import BaseContext
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from xtalfill.core.errors import ConfigError
from xtalfill.training.objective import MicroBatch, Objective

_PREFETCH = 2  # steps drawn by the thread, and parts drawn by each process, before they are needed


class _MicroBatches(Dataset[MicroBatch]):
    """All parts of a run, numbered through."""

    def __init__(self, objective: Objective[Any], *, seed: int, parts: int) -> None:
        self._objective, self._seed, self._parts = objective, seed, parts

    def __getitem__(self, number: int) -> MicroBatch:
        """Draw a part: the seed, the number of its step and its own number decide it."""
        rng = np.random.default_rng([self._seed, *divmod(number, self._parts)])
        part: MicroBatch = self._objective.draw(rng)
        return part


class MicroBatchLoader:
    """Draws the parts of a run's steps ahead, in a thread or in processes of their own.

    A part is decided by the seed, the number of its step and its own number, so a run sees the
    same data however many processes draw, interrupted or not.
    """

    def __init__(
        self,
        objective: Objective[Any],
        *,
        seed: int,
        steps: range,
        parts: int,
        processes: int = 0,
        pin: bool = False,
    ) -> None:
        """Start to draw.

        Args:
            objective: What draws a part.
            seed: Of all parts.
            steps: Numbers of the steps to come.
            parts: Parts of a step.
            processes: How many draw; 0 for a thread of this process.
            pin: Hand the parts out in memory that a GPU can copy from by itself.
        """
        loader: DataLoader[MicroBatch] = DataLoader(
            _MicroBatches(objective, seed=seed, parts=parts),
            batch_size=None,  # a part is a batch already
            collate_fn=_identity,
            sampler=range(steps.start * parts, steps.stop * parts),
            num_workers=processes,
            prefetch_factor=_PREFETCH if processes else None,
            multiprocessing_context=_forkserver() if processes else None,
            pin_memory=pin,
            generator=torch.Generator(),  # or it would draw from that of the network's dropout
        )
        self._n_parts = parts
        self._parts = iter(loader) if processes else _prefetch(loader, n=_PREFETCH * parts)

    def next(self) -> list[MicroBatch]:
        """Return the parts of the next step.

        Raises:
            ConfigError: A process that draws has died and its part with it.
            RuntimeError: One could not be drawn, or a process was found dead.
        """
        try:
            return [next(self._parts) for _ in range(self._n_parts)]
        except (OSError, EOFError) as error:
            raise ConfigError(
                f"a process that draws has died ({error}), perhaps for want of memory: "
                "go on from the checkpoint with fewer --draw_processes"
            ) from error
        except Exception as error:
            raise RuntimeError(f"drawing a part of a step failed: {error}") from error

    def close(self) -> None:
        """End the thread, or the processes, which end with their iterator."""
        parts, self._parts = self._parts, iter(())
        if isinstance(parts, Generator):
            parts.close()


def _identity(part: Any) -> Any:
    """Stand for the joining of samples, of which a part needs none."""
    return part


def _forkserver() -> BaseContext:
    """Return the way to start processes beside threads and a GPU.

    torch, which is most of what they import, is imported once for all of them.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["torch"])
    return context


def _prefetch(loader: DataLoader[MicroBatch], *, n: int) -> Iterator[MicroBatch]:
    """Yield what a loader gives, up to `n` of it loaded in a thread beforehand.

    The thread ends with the generator.
    """
    loaded: queue.Queue[MicroBatch | BaseException] = queue.Queue(maxsize=n)
    ended = threading.Event()

    def load() -> None:
        try:
            for part in loader:
                loaded.put(part)
                if ended.is_set():
                    return
        except BaseException as error:  # handed to the consumer, which raises it
            loaded.put(error)
            raise

    thread = threading.Thread(target=load, daemon=True)
    thread.start()
    try:
        while True:
            item = loaded.get()
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        ended.set()
        while thread.is_alive():  # it may wait for room
            with contextlib.suppress(queue.Empty):
                loaded.get(timeout=0.05)
