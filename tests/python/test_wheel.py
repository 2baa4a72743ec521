"""The wheel: its size, and that it needs no checkout."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tool_runs import python

REPOSITORY = Path(__file__).resolve().parents[2]
SOURCES = ("setup.py", "pyproject.toml", "README.md", "LICENSE", "requirements.txt",
           "nextflow_schema.json")  # fmt: skip
LARGEST = 20_000_000  # bytes
LOADED = """
from xtalfill.core import files
from xtalfill.core.checksums import check_file
from xtalfill.interactive.settings import make_all_settings

given = {"mlip": "nequip-small", "mlip_rank": "oam-small", "method": "host,td"}
settings = make_all_settings(given)
potentials = (settings.relax.mlip, settings.relax.mlip_rank)
for file in (*potentials, *files.WEIGHTS.glob("*.pt")):
    check_file(file)
    print(file)
for file in (files.SSSP, files.GEMNET_SCALES):
    assert file.is_file()
"""
RESTORED = """
import xtalfill
from ase import Atoms

sites = [(0, 0, 0), (1 / 3, 2 / 3, 0.22), (2 / 3, 1 / 3, 0.78)]
host = Atoms("MgO2", scaled_positions=sites, cell=[3.14, 3.14, 4.77, 90, 90, 120], pbc=True)
answer = xtalfill.restore(host, n_missing=2, samples=1, mlip="nequip-small", progress=False)
assert len(answer.best) == 5
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel from a copy; return the folder with its content, as pip unpacks it."""
    source, site = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("site")
    for name in SOURCES:
        shutil.copy2(REPOSITORY / name, source / name)
    for name in ("bin", "assets", "requirements"):
        ignore = shutil.ignore_patterns("__pycache__", "*.egg-info")
        shutil.copytree(REPOSITORY / name, source / name, ignore=ignore)
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-q"]
    command += ["--no-index", "--wheel-dir", source / "dist", source]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (wheel,) = (source / "dist").glob("*.whl")
    assert wheel.stat().st_size <= LARGEST
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    return site


def test_the_wheel_has_its_weights_potential_and_defaults(installed: Path) -> None:
    files = python("-c", LOADED, path=installed, cwd=installed).split()
    assert {Path(file).name for file in files} == {
        "nequip-small.nequip.zip", "oam-small.nqx", "host.pt", "td.pt", "pos.pt"
    }  # fmt: skip
    assert all(Path(file).is_relative_to(installed) for file in files)


@pytest.mark.slow  # numba compiles every kernel again
def test_the_wheel_restores_a_crystal(installed: Path) -> None:
    python("-c", RESTORED, path=installed, cwd=installed)
