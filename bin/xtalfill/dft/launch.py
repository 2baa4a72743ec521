"""How pw.x is started: MPI processes, pools of k-points, and the process itself."""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from xtalfill.dft.job import Settings
from xtalfill.errors import ConfigError

# Not bound: two tasks on one node would both be put on its first cores.
LAUNCHER = "mpirun --bind-to none -np {ranks}"
PW = "pw.x"


@dataclass(frozen=True)
class Machine:
    """Where pw.x runs.

    Attributes:
        ranks: MPI processes that a job may use.
        launcher: Command in front of pw.x, with {ranks} for the number of processes.
        pw: The program.
    """

    ranks: int = 1
    launcher: str = LAUNCHER
    pw: str = PW

    def __post_init__(self) -> None:
        """Refuse a launcher that cannot be one.

        Raises:
            ConfigError: It cannot be split, or does not say where the number of processes goes.
        """
        try:
            words = shlex.split(self.launcher)
        except ValueError as error:
            raise ConfigError(f"launcher {self.launcher!r}: {error}") from error
        if not any("{ranks}" in word for word in words):
            raise ConfigError(f"launcher {self.launcher!r}: needs {{ranks}}, e.g. {LAUNCHER!r}")


def layout(cores: int, n_kpoints: int) -> tuple[int, int]:
    """Return how many processes to use and in how many pools.

    Pools hardly talk to each other, so there are as many as the k-points keep busy: the largest
    divisor of the cores that is not above the number of k-points.

    Args:
        cores: Of the task.
        n_kpoints: That symmetry leaves.
    """
    pools = max(n for n in range(1, cores + 1) if cores % n == 0 and n <= max(1, n_kpoints))
    return cores, pools


def command(machine: Machine, settings: Settings, input_name: str) -> list[str]:
    """Return the words of the command; one process needs no launcher."""
    words = [machine.pw, "-nk", str(settings.pools), "-in", input_name]
    if settings.ranks == 1:
        return words
    launcher = [
        word.replace("{ranks}", str(settings.ranks)) for word in shlex.split(machine.launcher)
    ]
    return [*launcher, *words]


def environment(base: Mapping[str, str], *, root: bool) -> dict[str, str]:
    """Return the environment of pw.x: one thread a process.

    Args:
        base: The environment to start from.
        root: Whether this user is root, which Open MPI refuses unless it is told twice.
    """
    found = {**base, "OMP_NUM_THREADS": "1"}
    if root:
        found |= {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
    return found


def run_pw(machine: Machine, settings: Settings, folder: Path, *, name: str) -> int:
    """Run pw.x on an input in a folder and return its exit code.

    Args:
        machine: Where it runs.
        settings: Of this attempt.
        folder: Holds <name>.in; gets <name>.out and <name>.err.
        name: Of the attempt.

    Raises:
        ConfigError: The program or the launcher is not there.
    """
    words = command(machine, settings, f"{name}.in")
    with (folder / f"{name}.out").open("wb") as out, (folder / f"{name}.err").open("wb") as err:
        try:
            process = subprocess.run(  # noqa: S603 - words of our own, no shell
                words,
                cwd=folder,
                env=environment(os.environ, root=os.geteuid() == 0),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                check=False,
            )
        except OSError as error:
            raise ConfigError(
                f"{words[0]} cannot be started ({error.strerror}); install Quantum ESPRESSO or "
                "use the image dft (docs/validate.md)"
            ) from error
    return process.returncode
