"""Progress lines of a relaxation."""

from __future__ import annotations

import time
from typing import TextIO

from xtalfill.relax.batched import RelaxationResult


class Progress:
    """Prints the progress of a step.

    Args:
        name: Name of the step.
        total: Number of systems.
        file: Output stream.
        seconds: Minimum time between two lines, s.
    """

    def __init__(self, name: str, total: int, *, file: TextIO, seconds: float) -> None:
        self._name, self._total, self._file, self._seconds = name, total, file, seconds
        self._begin = self._last = time.monotonic()
        self._done = self._failed = 0

    def count(self, relaxed: RelaxationResult) -> None:
        """Count a finished system; print a line if one is due."""
        self._done += 1
        self._failed += relaxed.evaluation is None
        now = time.monotonic()
        if now - self._last >= self._seconds or self._done == self._total:
            self._last = now
            print(self._line(now - self._begin), file=self._file, flush=True)

    def _line(self, elapsed: float) -> str:
        line = f"{self._name}: {self._done}/{self._total} done, {self._failed} failed"
        if self._done == self._total:
            return f"{line}, {elapsed:.0f} s"
        remaining = elapsed / self._done * (self._total - self._done)
        return f"{line}, ETA {max(1, round(remaining / 60))} min"
