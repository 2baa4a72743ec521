"""Checkpoints of long tasks: partial results from which the next attempt continues.

    checkpoint = Checkpoint(Path("checkpoint"), key="batch_0007.h5", previous=None, seconds=3600)
    results = dict(checkpoint.found)
    for piece in work:
        results[piece] = ...
        checkpoint.step(lambda: results)

A checkpoint is written every minute, shortly before the time limit, and on SIGTERM, which a
scheduler sends before it kills a job. In the last two cases the task then stops.
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
_NAMES = "names"  # of all arrays: detects a damaged archive index
SECONDS = 60.0  # between two checkpoints
TIME_FRACTION = 0.95  # of the time limit; the rest is reserved for a clean exit


class Checkpoint:
    """Checkpoint of a task in a folder.

    Args:
        folder: Folder to write to.
        key: Identifies the task; a checkpoint with another key is ignored.
        previous: Folder of the previous attempt; may be None or contain no checkpoint.
        seconds: Time limit of the task, counted from `begin`; None for no limit.
        every: Seconds between two checkpoints.
        begin: Start of the task, from `time.monotonic()`; the default is now.

    Attributes:
        found: Arrays of the previous attempt; empty if there are none.
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
        """Make SIGTERM stop the task at its next step; call this in the main thread."""

        def note(_number: int, _frame: object) -> None:
            self._terminated = True

        signal.signal(signal.SIGTERM, note)

    def step(self, content: Callable[[], Mapping[str, np.ndarray]]) -> None:
        """Write a checkpoint if one is due; call this after each piece of work.

        Args:
            content: Returns the arrays that the next attempt needs.

        Raises:
            TryAgainError: The next piece of work may exceed the time limit, or the task received
                SIGTERM.
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
            why = "time limit nearly reached" if late else "stopped by SIGTERM"
            raise TryAgainError(f"{self._key}: {why}; the next attempt resumes from the checkpoint")

    def write(self, content: Mapping[str, np.ndarray]) -> None:
        """Write a checkpoint atomically."""
        self._folder.mkdir(parents=True, exist_ok=True)
        own = {_KEY: np.array(self._key), _NAMES: np.array(sorted(content), dtype=np.str_)}
        with replacing(self._folder / FILE) as temporary, temporary.open("wb") as file:
            np.savez(file, allow_pickle=False, **own, **content)

    def remove(self) -> None:
        """Remove the checkpoint; call this when the task is complete."""
        (self._folder / FILE).unlink(missing_ok=True)


def _read(path: Path, key: str) -> dict[str, np.ndarray]:
    """Return the arrays of a checkpoint; empty, with a line on stderr, if it is not usable."""
    try:
        with np.load(path, allow_pickle=False) as file:
            content = {name: file[name] for name in file.files}
        names = content.pop(_NAMES).tolist()
        if sorted(content.keys() - {_KEY}) != names:
            raise ValueError("arrays are missing")
    except (OSError, ValueError, EOFError, LookupError, NotImplementedError, RuntimeError,
            zipfile.BadZipFile, zlib.error) as error:  # fmt: skip
        print(f"{path}: cannot be read ({error}); starting from the beginning", file=sys.stderr)
        return {}
    if str(content.pop(_KEY, "")) != key:
        print(f"{path}: not the checkpoint of {key}; starting from the beginning", file=sys.stderr)
        return {}
    print(f"{key}: resuming from {path}", file=sys.stderr)
    return content
