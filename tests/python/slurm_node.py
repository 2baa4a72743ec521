"""A single-node Slurm for tests, started by tools/slurm_node.sh."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

TOOL = Path(__file__).resolve().parents[2] / "tools" / "slurm_node.sh"


def _tool(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [str(TOOL), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)


@contextmanager
def slurm_node(folder: Path) -> Iterator[Path]:
    """Run a Slurm in a folder during the block; yields its slurm.conf.

    Skips the test if Slurm is not installed and cannot be installed, or cannot be started;
    in continuous integration it fails instead.
    """
    installed = _tool("install")
    if installed.returncode != 0:
        pytest.skip(f"no Slurm: {installed.stderr.strip()}")
    try:
        started = _tool("start", folder)
        if started.returncode != 0 and "CI" not in os.environ:
            pytest.skip(f"Slurm does not start here: {started.stderr.strip()}")
        assert started.returncode == 0, started.stderr
        yield folder / "slurm.conf"
    finally:
        _tool("stop", folder)


def slurm(conf: Path, *command: str) -> str:
    """Run a Slurm command and return its output."""
    environment = os.environ | {"SLURM_CONF": str(conf)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return done.stdout


def wait_for(what: Callable[[], bool], *, seconds: float = 600.0) -> None:
    """Wait until a condition holds.

    Raises:
        TimeoutError: The condition does not hold in time.
    """
    end = time.monotonic() + seconds
    while not what():
        if time.monotonic() > end:
            raise TimeoutError(f"not within {seconds:g} s: {what}")
        time.sleep(0.2)
