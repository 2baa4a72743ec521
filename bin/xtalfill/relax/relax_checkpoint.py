"""Checkpoint of RELAX: the state of every relaxation of every step."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from xtalfill.core.batch import Batch
from xtalfill.core.checkpoint import Checkpoint
from xtalfill.relax.batched import RelaxationResult, State


def key_of(batch: Batch, name: str) -> str:
    """Return the key of a batch's checkpoint: its name and a digest of its systems.

    Rounding on a GPU may differ between attempts, and with it the proposals that are kept.
    """
    rows = zip(batch.id.tolist(), batch.method.tolist(), batch.sample.tolist(), strict=True)
    digest = hashlib.sha256("\n".join(f"{row}" for row in rows).encode()).hexdigest()
    return f"{name} ({digest[:16]})"


class RelaxCheckpoint:
    """States of the relaxations of all steps, stored in a checkpoint.

    Arrays are named "<step>/<index of the relaxation>/<name>".

    Args:
        checkpoint: Checkpoint of this task, with the arrays of the previous attempt if any.
    """

    def __init__(self, checkpoint: Checkpoint) -> None:
        self._checkpoint = checkpoint
        self._arrays = dict(checkpoint.found)

    def states(self, step: str) -> dict[int, State]:
        """Return the states of the relaxations of a step, by index."""
        found: dict[int, dict[str, np.ndarray]] = {}
        for name, array in self._arrays.items():
            of_step, place, key = name.split("/")
            if of_step == step:
                found.setdefault(int(place), {})[key] = array
        return dict(found)

    def note(self, step: str, states: Callable[[], Mapping[int, State]]) -> None:
        """Record the states after a round of steps.

        Raises:
            TryAgainError: The time limit is reached.
        """
        self._checkpoint.step(lambda: self._with(step, states()))

    def end(self, step: str, results: Sequence[RelaxationResult]) -> None:
        """Record the results of a completed step, for later checkpoints."""
        self._with(step, {place: result.state() for place, result in enumerate(results)})

    def _with(self, step: str, states: Mapping[int, State]) -> dict[str, np.ndarray]:
        others = {n: a for n, a in self._arrays.items() if not n.startswith(f"{step}/")}
        these = {
            f"{step}/{place}/{key}": array
            for place, state in states.items()
            for key, array in state.items()
        }
        self._arrays = {**others, **these}
        return self._arrays
