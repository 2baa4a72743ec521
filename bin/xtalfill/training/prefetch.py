"""Prefetching of micro-batches, in a thread or in data processes."""

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

_PREFETCH = 2  # steps prefetched by the thread; micro-batches prefetched by each process


class _MicroBatches(Dataset[MicroBatch]):
    """All micro-batches of a run, by number."""

    def __init__(self, objective: Objective[Any], *, seed: int, parts: int) -> None:
        self._objective, self._seed, self._parts = objective, seed, parts

    def __getitem__(self, number: int) -> MicroBatch:
        """Draw a micro-batch, determined by the seed, its step and its index in the step."""
        rng = np.random.default_rng([self._seed, *divmod(number, self._parts)])
        part: MicroBatch = self._objective.draw(rng)
        return part


class MicroBatchLoader:
    """Prefetches the micro-batches of a run.

    A micro-batch depends only on the seed, its step and its index in the step. The data of a run
    therefore does not depend on the number of processes or on interruptions.
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
        """Start prefetching.

        Args:
            objective: Draws a micro-batch.
            seed: Seed of all micro-batches.
            steps: Numbers of the remaining steps.
            parts: Micro-batches of a step.
            processes: Number of data processes; 0 for a thread of this process.
            pin: Return micro-batches in pinned memory.
        """
        loader: DataLoader[MicroBatch] = DataLoader(
            _MicroBatches(objective, seed=seed, parts=parts),
            batch_size=None,  # the dataset returns complete micro-batches
            collate_fn=_identity,
            sampler=range(steps.start * parts, steps.stop * parts),
            num_workers=processes,
            prefetch_factor=_PREFETCH if processes else None,
            multiprocessing_context=_forkserver() if processes else None,
            pin_memory=pin,
            generator=torch.Generator(),  # the global generator is used by dropout
        )
        self._n_parts = parts
        self._parts = iter(loader) if processes else _prefetch(loader, n=_PREFETCH * parts)

    def next(self) -> list[MicroBatch]:
        """Return the micro-batches of the next step.

        Raises:
            ConfigError: A data process died while it sent a micro-batch.
            RuntimeError: A micro-batch could not be drawn, or a data process died.
        """
        try:
            return [next(self._parts) for _ in range(self._n_parts)]
        except (OSError, EOFError) as error:
            raise ConfigError(
                f"a data process died ({error}), possibly out of memory; "
                "resume from the checkpoint with fewer --draw_processes"
            ) from error
        except Exception as error:
            raise RuntimeError(f"drawing a micro-batch failed: {error}") from error

    def close(self) -> None:
        """Stop the thread or the data processes."""
        parts, self._parts = self._parts, iter(())
        if isinstance(parts, Generator):
            parts.close()


def _identity(part: Any) -> Any:
    """Return the argument: a micro-batch needs no collation."""
    return part


def _forkserver() -> BaseContext:
    """Return a start method that is safe with threads and a GPU.

    The fork server imports torch once for all data processes.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["torch"])
    return context


def _prefetch(loader: DataLoader[MicroBatch], *, n: int) -> Iterator[MicroBatch]:
    """Yield the items of a loader, with up to `n` items prefetched by a thread.

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
        except BaseException as error:  # re-raised in the consumer
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
        while thread.is_alive():  # it may be blocked by a full queue
            with contextlib.suppress(queue.Empty):
                loaded.get(timeout=0.05)
