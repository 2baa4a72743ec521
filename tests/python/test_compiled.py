"""Compiled functions work where no folder for machine code can be written, as in a container."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from tool_runs import REPOSITORY

PACKAGE = REPOSITORY / "bin" / "xtalfill"
USING = sorted(
    path
    for path in PACKAGE.rglob("*.py")
    if re.search(r"^@(compiled|reordered)", path.read_text(), re.M)
)
RUN = """
import importlib, sys
import numpy as np
for name in sys.argv[1:]:
    importlib.import_module(name)
from xtalfill.core.crystal import Crystal
from xtalfill.proposals.pair_energy import PairEnergy
host = Crystal(np.array([26]), np.zeros((1, 3)), np.eye(3) * 6)
print(PairEnergy(host, 1).is_apart(np.array([[0.5, 0.5, 0.5], [0.5, 0.5, 0.6]])))
"""


def test_nothing_else_calls_numba() -> None:
    direct = [path.stem for path in PACKAGE.rglob("*.py") if "njit(" in path.read_text()]
    assert sorted(direct) == ["compiled", "kernels"]
    assert len(USING) > 7


def test_without_a_writable_folder_each_process_compiles(tmp_path: Path) -> None:
    package = tmp_path / "xtalfill"
    shutil.copytree(PACKAGE, package, ignore=shutil.ignore_patterns("__pycache__"))
    # Not even root can make a folder where a file is.
    for path in USING:
        (package / path.relative_to(PACKAGE).parent / "__pycache__").touch()
    (tmp_path / "home").touch()
    home = dict.fromkeys(("HOME", "XDG_CACHE_HOME"), str(tmp_path / "home"))
    without = {name: text for name, text in os.environ.items() if name != "NUMBA_CACHE_DIR"}
    names = [".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts) for path in USING]
    result = subprocess.run(
        [sys.executable, "-c", RUN, *names],
        env=without | home | {"PYTHONPATH": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert result.stdout == "False\n"
