"""What RELAX writes into its checkpoint: how far every job of every step is."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from xtalfill.core.batch import Batch
from xtalfill.core.checkpoint import Checkpoint
from xtalfill.relax.batched import RelaxationResult, State


def key_of(batch: Batch, name: str) -> str:
    """Return the key of a batch's checkpoint: its name, and a digest of the systems in it.

    A GPU may round energies differently in another attempt, and another proposal may then go on.
    """
    rows = zip(batch.id.tolist(), batch.method.tolist(), batch.sample.tolist(), strict=True)
    digest = hashlib.sha256("\n".join(f"{row}" for row in rows).encode()).hexdigest()
    return f"{name} ({digest[:16]})"


class RelaxCheckpoint:
    """The states of the jobs of all steps, in a checkpoint.

    An array is named "<step>/<place of the job>/<name>".

    Args:
        checkpoint: Of this task; what the attempt before left is taken over.
    """

    def __init__(self, checkpoint: Checkpoint) -> None:
        self._checkpoint = checkpoint
        self._arrays = dict(checkpoint.found)

    def states(self, step: str) -> dict[int, State]:
        """Return how far the jobs of a step are, by their place."""
        found: dict[int, dict[str, np.ndarray]] = {}
        for name, array in self._arrays.items():
            of_step, place, key = name.split("/")
            if of_step == step:
                found.setdefault(int(place), {})[key] = array
        return dict(found)

    def note(self, step: str, states: Callable[[], Mapping[int, State]]) -> None:
        """Call after each round of a step.

        Raises:
            TryAgainError: The time is up.
        """
        self._checkpoint.step(lambda: self._with(step, states()))

    def end(self, step: str, results: Sequence[RelaxationResult]) -> None:
        """Call at the end of a step: a later checkpoint then has all of its results."""
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
