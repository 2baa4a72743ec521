"""How pw.x is started: where, MPI processes, pools of k-points, and the process itself."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from xtalfill.core.errors import ConfigError
from xtalfill.dft.system import PwSettings

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


@contextmanager
def scratch_folder(root: Path | None, name: str) -> Iterator[Path]:
    """Make a folder on the disk of the node; it is gone at the end, however that comes.

    Args:
        root: Where; $TMPDIR where it is None, else the working folder.
        name: What its name begins with.

    Raises:
        ConfigError: It cannot be made there.
    """
    where = root or Path(os.environ.get("TMPDIR", "."))
    try:
        folder = Path(tempfile.mkdtemp(prefix=f"{name}_", dir=where)).resolve()
    except OSError as error:
        raise ConfigError(
            f"{where}: cannot create a folder for pw.x ({error.strerror}); set --dft_scratch"
        ) from error
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class Stopwatch:
    """Measures the processes started meanwhile.

    On a shared machine the time on a core and the wall time are far apart.
    """

    def __init__(self) -> None:
        self._wall, self._cpu = time.monotonic(), _cpu_of_children()

    @property
    def seconds(self) -> float:
        """Wall time so far."""
        return round(time.monotonic() - self._wall, 3)

    @property
    def cpu_seconds(self) -> float:
        """Time on cores of the processes that ended so far."""
        return round(_cpu_of_children() - self._cpu, 2)


def _cpu_of_children() -> float:
    times = os.times()
    return times.children_user + times.children_system


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


def command(machine: Machine, settings: PwSettings, input_name: str) -> list[str]:
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


def run_pw(machine: Machine, settings: PwSettings, folder: Path, *, name: str) -> int:
    """Run pw.x on an input in a folder and return its exit code.

    SIGTERM (a job that is cancelled or preempted, a time limit) ends pw.x but not this process, so
    that what pw.x has found so far is saved; the exit code is then -SIGTERM.

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
            process = subprocess.Popen(  # noqa: S603 - words of our own, no shell
                words,
                cwd=folder,
                env=environment(os.environ, root=os.geteuid() == 0),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
            )
        except OSError as error:
            raise ConfigError(
                f"{words[0]} cannot be started ({error.strerror}); install Quantum ESPRESSO or "
                "use the image dft (docs/validate.md)"
            ) from error
        return _wait(process)


def _wait(process: subprocess.Popen[bytes]) -> int:
    """Return the exit code of a process; SIGTERM is passed on to it."""
    ended = False

    def end(_signal: int, _frame: object) -> None:
        nonlocal ended
        ended = True
        process.terminate()

    before = signal.signal(signal.SIGTERM, end)
    try:
        with process:
            code = process.wait()
    finally:
        signal.signal(signal.SIGTERM, before)
    return -signal.SIGTERM if ended else code
