"""Checkpoints of a long task: what it has so far, where its next attempt finds it.

    checkpoint = Checkpoint(Path("checkpoint"), key="batch_0007.h5", previous=None, seconds=3600)
    results = dict(checkpoint.found)
    for piece in work:
        results[piece] = ...
        checkpoint.step(lambda: results)

They are written every minute, so that a task that is killed loses no more; at the end of the time
it was given, when it stops itself; and on SIGTERM, which a scheduler sends before it kills.
"""

from __future__ import annotations

import signal
import sys
import time
import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from xtalfill.core.errors import TryAgainError
from xtalfill.core.io import replacing

FILE = "state.npz"
_KEY = "key"
_NAMES = "names"  # of the arrays: a damaged index of the archive may hide some
SECONDS = 60.0  # between two checkpoints
TIME_FRACTION = 0.95  # the rest is for ending in order


class Checkpoint:
    """What a task has so far, in a folder.

    Args:
        folder: Gets the checkpoint.
        key: Tells whose it is: one with another key is not used.
        previous: Folder of the attempt before; None or without a checkpoint to begin anew.
        seconds: Until the task is killed, counted from `begin`; None without a limit.
        every: Seconds between two checkpoints.
        begin: When the task began, `time.monotonic()`; now where it is not given.

    Attributes:
        found: The arrays of the attempt before; empty where it left none.
    """

    def __init__(
        self,
        folder: Path,
        *,
        key: str,
        previous: Path | None = None,
        seconds: float | None = None,
        every: float = SECONDS,
        begin: float | None = None,
    ) -> None:
        self._folder, self._key, self._seconds, self._every = folder, key, seconds, every
        self._last = self._last_step = time.monotonic()
        self._begin = self._last if begin is None else begin
        self._longest = 0.0
        self._terminated = False
        self.found: dict[str, np.ndarray] = {}
        if previous is not None and (previous / FILE).is_file():
            self.found = _read(previous / FILE, key)

    def handle_sigterm(self) -> None:
        """From now on SIGTERM ends the task at its next step; for the main thread alone."""

        def note(_number: int, _frame: object) -> None:
            self._terminated = True

        signal.signal(signal.SIGTERM, note)

    def step(self, content: Callable[[], Mapping[str, np.ndarray]]) -> None:
        """Call after each piece of work: writes a checkpoint when one is due.

        Args:
            content: Returns all that the next attempt needs.

        Raises:
            TryAgainError: Another piece as long as the longest would not end in time, or the task
                was told to stop.
        """
        now = time.monotonic()
        self._longest = max(self._longest, now - self._last_step)
        self._last_step = now
        late = self._seconds is not None and (
            now - self._begin + self._longest > TIME_FRACTION * self._seconds
        )
        stop = late or self._terminated
        if not stop and now - self._last < self._every:
            return
        self.write(content())
        self._last = time.monotonic()
        if stop:
            why = "the time is nearly up" if late else "told to stop"
            raise TryAgainError(f"{self._key}: {why}; goes on from its checkpoint")

    def write(self, content: Mapping[str, np.ndarray]) -> None:
        """Write a checkpoint now; a kill at any moment leaves a whole one or the one before."""
        self._folder.mkdir(parents=True, exist_ok=True)
        own = {_KEY: np.array(self._key), _NAMES: np.array(sorted(content), dtype=np.str_)}
        with replacing(self._folder / FILE) as temporary, temporary.open("wb") as file:
            np.savez(file, allow_pickle=False, **own, **content)

    def remove(self) -> None:
        """Call when the task is done: nothing goes on from it."""
        (self._folder / FILE).unlink(missing_ok=True)


def _read(path: Path, key: str) -> dict[str, np.ndarray]:
    """Return the arrays of a checkpoint; none, and a line that says so, where it is no use."""
    try:
        with np.load(path, allow_pickle=False) as file:
            content = {name: file[name] for name in file.files}
        names = content.pop(_NAMES).tolist()
        if sorted(content.keys() - {_KEY}) != names:
            raise ValueError("it lacks some of its arrays")
    except (OSError, ValueError, EOFError, LookupError, NotImplementedError, RuntimeError,
            zipfile.BadZipFile, zlib.error) as error:  # fmt: skip
        print(f"{path}: cannot be read ({error}); begins anew", file=sys.stderr)
        return {}
    if str(content.pop(_KEY, "")) != key:
        print(f"{path}: is not the checkpoint of {key}; begins anew", file=sys.stderr)
        return {}
    print(f"{key}: goes on from {path}", file=sys.stderr)
    return content
