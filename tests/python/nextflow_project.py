"""Runs Nextflow on a copy of the project that a test may edit."""

from __future__ import annotations

import csv
import hashlib
import os
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
_JARS = REPOSITORY / ".tools" / "nextflow" / "lib"
_FILES = ("main.nf", "nextflow.config", "nextflow_schema.json")
_FOLDERS = ("assets", "bin", "conf", "lib", "modules", "subworkflows")
# Pages of Nextflow that one module of tests reads; each run would render them for a second.
_NO_PAGES = "".join(f"{page}.enabled = false\n" for page in ("report", "timeline", "dag"))
# Longer than any run here takes on two busy cores, s.
TIMEOUT = 480
# Waited for in parts, s: a virtual machine that was suspended loses one part, not all.
_PART = 60
# Java prints its threads within this time, s.
_PRINTING = 5
_LOG_END = 6000


def find_nextflow() -> str:
    """Return the Nextflow on PATH, else the one that `make setup` resolved; skip without any."""
    own = REPOSITORY / "tools" / "nextflow" / "nextflow"
    found = shutil.which("nextflow") or (str(own) if any(_JARS.glob("nextflow-*.jar")) else None)
    if found is None:
        pytest.skip("no Nextflow on PATH and none in .tools: run 'make setup'")
    if shutil.which("java") is None and not os.environ.get("JAVA_HOME"):
        pytest.skip("Nextflow needs Java, and there is none")
    return found


@cache
def _compiled_lib() -> Path | None:
    """Return lib/ compiled by the Groovy of `make setup`, kept in build/; None without it.

    Each start of Nextflow would compile the classes again, for a fifth of its CPU time.
    """
    sources = sorted((REPOSITORY / "lib").glob("*.groovy"))
    contents = [path.read_bytes() for path in sources]
    contents += [path.name.encode() for path in sorted(_JARS.glob("*.jar"))]
    if shutil.which("java") is None or not any(_JARS.glob("groovy-*.jar")):
        return None
    archive = REPOSITORY / "build" / f"lib-{hashlib.sha256(b'|'.join(contents)).hexdigest()}.jar"
    if not archive.is_file():
        archive.parent.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(dir=archive.parent) as folder:
            compiler = ["java", "-XX:TieredStopAtLevel=1", "-cp", f"{_JARS}/*"]
            compiler += ["org.codehaus.groovy.tools.FileSystemCompiler", "-d", f"{folder}/classes"]
            subprocess.run([*compiler, *sources], check=True)
            made = shutil.make_archive(f"{folder}/lib", "zip", f"{folder}/classes")
            Path(made).replace(archive)
    return archive


@dataclass
class Project:
    """A copy of the project and a folder to run it in.

    Attributes:
        root: The copy: main.nf and what it needs, no git history.
        launch: Where runs start: holds .nextflow, work and the results.
        path: Folders put in front of PATH.
        variables: More of the environment.
    """

    root: Path
    launch: Path
    path: list[Path] = field(default_factory=list)
    variables: dict[str, str] = field(default_factory=dict)

    @classmethod
    def make(cls, folder: Path, *, pages: bool = False) -> Project:
        """Copy the project into a new folder; without Nextflow's own pages unless asked for."""
        root, launch = folder / "project", folder / "launch"
        root.mkdir(parents=True)
        launch.mkdir()
        for name in _FILES:
            shutil.copy2(REPOSITORY / name, root / name)
        if not pages:
            with (root / "nextflow.config").open("a", encoding="utf-8") as config:
                config.write(_NO_PAGES)
        for name in _FOLDERS:
            # The kernels that numba compiled are copied: each copy would compile them again.
            ignore = shutil.ignore_patterns("*.pyc*", "*.tmp.*", "tests", "*.egg-info")
            shutil.copytree(REPOSITORY / name, root / name, ignore=ignore)
        compiled = _compiled_lib()
        if compiled is not None:
            shutil.copy2(compiled, root / "lib" / "compiled.jar")
        # conf/base.config puts it on PATH: the commands are to run with this very Python.
        (root / ".venv").symlink_to(sys.prefix)
        return cls(root, launch)

    def nextflow(self, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        """Run Nextflow in the launch folder and return what it said, whatever its exit code."""
        run = self._start(arguments, errors=subprocess.PIPE)
        for _ in range(TIMEOUT // _PART):
            with suppress(subprocess.TimeoutExpired):
                out, errors = run.communicate(timeout=_PART)
                return subprocess.CompletedProcess(run.args, run.returncode, out, errors)
        pytest.fail(f"no end after {TIMEOUT} s: {run.args}\n{self._stop(run)}", pytrace=False)

    def _start(self, arguments: Iterable[str | Path], *, errors: int) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [find_nextflow(), *map(str, arguments)],
            cwd=self.launch,
            env=self.environment(),
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )

    def _stop(self, run: subprocess.Popen[str]) -> str:
        """End a run that hangs; return what it said, the states of its threads, and its log."""
        run.send_signal(signal.SIGQUIT)  # Java prints its threads
        time.sleep(_PRINTING)
        run.kill()
        out, errors = run.communicate(timeout=60)
        log = (self.launch / ".nextflow.log").read_text(encoding="utf-8", errors="replace")
        return f"{out}\n{errors}\n{log[-_LOG_END:]}"

    @contextmanager
    def started(self, *arguments: str | Path) -> Iterator[subprocess.Popen[str]]:
        """Start Nextflow as `nextflow` does; errors go to its output. Ends with the block."""
        run = self._start(arguments, errors=subprocess.STDOUT)
        try:
            yield run
        finally:
            run.terminate()
            run.communicate(timeout=60)

    def environment(self) -> dict[str, str]:
        """Return what the runs see as their environment."""
        path = os.pathsep.join([*map(str, self.path), os.environ["PATH"]])
        fixed = {"PATH": path, "NXF_ANSI_LOG": "false", "NXF_OFFLINE": "true"}
        return os.environ | fixed | self.variables

    def run(self, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        """Run the pipeline."""
        return self.nextflow("run", self.root / "main.nf", *arguments)


def make_image(path: Path) -> str:
    """Write a file with the header of an image; return its line of SHA256SUMS."""
    data = path.name.encode()
    header = b"#!/usr/bin/env run-singularity\n".ljust(32, b"\0") + b"SIF_MAGIC\x0001\x0002\0"
    content = header.ljust(112, b"\0") + struct.pack("<qq", 128, len(data)) + data
    path.write_bytes(content)
    return f"{hashlib.sha256(content).hexdigest()}  {path.name}\n"


def read_csv(path: Path, *, delimiter: str = ",") -> list[dict[str, str]]:
    """Return the rows of a table."""
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file, delimiter=delimiter))


def read_trace(outdir: Path) -> dict[str, str]:
    """Return the status of every task of the last run by its name."""
    rows = read_csv(outdir / "pipeline_info" / "trace.txt", delimiter="\t")
    return {row["name"]: row["status"] for row in rows}


def not_cached(trace: dict[str, str]) -> set[str]:
    """Return the processes of which a task was run."""
    return {name.split(" ")[0] for name, status in trace.items() if status != "CACHED"}


def said(result: subprocess.CompletedProcess[str]) -> str:
    """Return all that a run printed, for the message of an assertion."""
    return result.stdout + result.stderr


def lines_with(text: str, words: Iterable[str]) -> list[str]:
    """Return the lines that hold all of the words."""
    return [line for line in text.splitlines() if all(word in line for word in words)]
