"""Run the tools of the repository."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

REPOSITORY = Path(__file__).parents[2]
DATA = REPOSITORY / "tests" / "fixtures" / "crystals.h5"


def tool(name: str, *arguments: object) -> str:
    """Run a tool in a new process; return its output."""
    return python(REPOSITORY / "tools" / name, *arguments, path=REPOSITORY / "bin")


def python(*arguments: object, path: Path, cwd: Path | None = None) -> str:
    """Run Python with the package in the folder `path`; return its output."""
    result = subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def tool_module(name: str) -> ModuleType:
    """Import a tool as a module."""
    spec = importlib.util.spec_from_file_location(name, REPOSITORY / "tools" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
