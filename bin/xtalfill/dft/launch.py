"""Start pw.x: machine, MPI processes, k-point pools and the process itself."""

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

# No binding: two tasks on one node would both be bound to its first cores.
LAUNCHER = "mpirun --bind-to none -np {ranks}"
PW = "pw.x"


@dataclass(frozen=True)
class Machine:
    """Where pw.x runs.

    Attributes:
        ranks: Number of MPI processes that a job may use.
        launcher: Command before pw.x, with {ranks} for the number of processes.
        pw: The executable.
    """

    ranks: int = 1
    launcher: str = LAUNCHER
    pw: str = PW

    def __post_init__(self) -> None:
        """Check the launcher.

        Raises:
            ConfigError: The launcher cannot be split into words or does not contain {ranks}.
        """
        try:
            words = shlex.split(self.launcher)
        except ValueError as error:
            raise ConfigError(f"launcher {self.launcher!r}: {error}") from error
        if not any("{ranks}" in word for word in words):
            raise ConfigError(f"launcher {self.launcher!r}: needs {{ranks}}, e.g. {LAUNCHER!r}")


@dataclass(frozen=True, kw_only=True)
class LaunchSettings:
    """The parameters of a stage that starts pw.x; those of PW_RELAX.

    Attributes:
        dft_launcher: Command in front of pw.x, with {ranks} for the number of processes.
        dft_scratch: Disk of the node; $TMPDIR where it is None, else the working folder.
    """

    dft_launcher: str
    dft_scratch: str | None

    def machine(self, cores: int) -> Machine:
        """Return where pw.x runs with so many MPI processes.

        Raises:
            ConfigError: The launcher cannot be used.
        """
        return Machine(ranks=cores, launcher=self.dft_launcher)


@contextmanager
def scratch_folder(root: str | Path | None, name: str) -> Iterator[Path]:
    """Create a folder on the disk of the node and remove it at the end in all cases.

    Args:
        root: Parent folder; None for $TMPDIR, or the working folder if that is not set.
        name: Prefix of the folder name.

    Raises:
        ConfigError: The folder cannot be created.
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
    """Measure wall time and CPU time of the processes started since its creation.

    On a shared machine the two differ widely.
    """

    def __init__(self) -> None:
        self._wall, self._cpu = time.monotonic(), _cpu_of_children()

    @property
    def seconds(self) -> float:
        """Wall time so far."""
        return round(time.monotonic() - self._wall, 3)

    @property
    def cpu_seconds(self) -> float:
        """CPU time of the processes that have ended so far."""
        return round(_cpu_of_children() - self._cpu, 2)


def _cpu_of_children() -> float:
    times = os.times()
    return times.children_user + times.children_system


def layout(cores: int, n_kpoints: int) -> tuple[int, int]:
    """Return the number of processes and of k-point pools.

    Pools communicate little. Their number is the largest divisor of the number of cores that does
    not exceed the number of k-points.

    Args:
        cores: Number of cores of the task.
        n_kpoints: Number of irreducible k-points.
    """
    pools = max(n for n in range(1, cores + 1) if cores % n == 0 and n <= max(1, n_kpoints))
    return cores, pools


def command(machine: Machine, settings: PwSettings, input_name: str) -> list[str]:
    """Return the words of the command; a single process needs no launcher."""
    words = [machine.pw, "-nk", str(settings.pools), "-in", input_name]
    if settings.ranks == 1:
        return words
    launcher = [
        word.replace("{ranks}", str(settings.ranks)) for word in shlex.split(machine.launcher)
    ]
    return [*launcher, *words]


def environment(base: Mapping[str, str], *, root: bool) -> dict[str, str]:
    """Return the environment of pw.x: one thread per process.

    Args:
        base: The environment to extend.
        root: Whether the user is root; Open MPI then needs two variables.
    """
    found = {**base, "OMP_NUM_THREADS": "1"}
    if root:
        found |= {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
    return found


def run_pw(machine: Machine, settings: PwSettings, folder: Path, *, name: str) -> int:
    """Run pw.x on an input in a folder and return its exit code.

    SIGTERM (cancellation, preemption, time limit) ends pw.x but not this process. The results so
    far can then be saved; the exit code is -SIGTERM.

    Args:
        machine: Where pw.x runs.
        settings: Settings of this attempt.
        folder: Contains <name>.in; gets <name>.out and <name>.err.
        name: Name of the attempt.

    Raises:
        ConfigError: The executable or the launcher is missing.
    """
    words = command(machine, settings, f"{name}.in")
    with (folder / f"{name}.out").open("wb") as out, (folder / f"{name}.err").open("wb") as err:
        try:
            process = subprocess.Popen(  # noqa: S603 - fixed words, no shell
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
    """Return the exit code of a process; SIGTERM is forwarded to it."""
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
