"""Record of one task: parameters, versions, hardware and time.

Data that differs between identical runs (time, machine) is stored here and not in the batch, so
identical runs give identical batches. REPORT collects the records in ``provenance.json``.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import platform
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from xtalfill.core.batch import STATUSES
from xtalfill.core.errors import ConfigError
from xtalfill.core.io import write_json

PACKAGES = (
    "numpy",
    "scipy",
    "numba",
    "torch",
    "torch-geometric",
    "torch-sim-atomistic",
    "e3nn",
    "sevenn",
    "nequip",
    "mattergen",
    "ase",
    "pymatgen",
    "matscipy",
    "spglib",
    "h5py",
)

_BLOCK = 1 << 20


def file_sha256(path: str | Path) -> str:
    """Return the sha256 of a file as hexadecimal digits.

    Raises:
        ConfigError: The file cannot be read.
    """
    digest = hashlib.sha256()
    try:
        with Path(path).open("rb") as file:
            while block := file.read(_BLOCK):
                digest.update(block)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}); give a readable file") from (
            error
        )
    return digest.hexdigest()


def package_versions(names: Iterable[str] = PACKAGES) -> dict[str, str]:
    """Return the versions of Python and of packages, without importing them.

    Args:
        names: Distribution names; missing distributions are omitted.
    """
    versions = {"python": platform.python_version()}
    for name in names:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def hardware() -> dict[str, Any]:
    """Return the CPU model, the number of cores available to the process, and the GPU or None."""
    return {"cpu": _cpu_name(), "cores": len(os.sched_getaffinity(0)), "gpu": _gpu_name()}


def count_statuses(statuses: Iterable[str]) -> dict[str, int]:
    """Return the number of systems for each status."""
    counts = dict.fromkeys(STATUSES, 0)
    for status in statuses:
        counts[status] += 1
    return counts


def write_record(
    path: str | Path,
    *,
    stage: str,
    batch: str,
    seconds: float,
    parameters: Mapping[str, Any],
    counts: Mapping[str, int],
    weights: Mapping[str, str],
) -> None:
    """Write the record of a task as JSON, atomically.

    Args:
        path: JSON file.
        stage: Name of the stage, e.g. "relax".
        batch: File name of the batch, without folder.
        seconds: Wall time of the stage, including model loading.
        parameters: Parameters of the stage; plain JSON values.
        counts: Systems by status after the stage, from `count_statuses`.
        weights: Model name -> sha256 of its weights file; empty if the stage has no model.
    """
    record = {
        "stage": stage,
        "batch": batch,
        "seconds": round(float(seconds), 3),
        "versions": package_versions(),
        "hardware": hardware(),
        "parameters": dict(parameters),
        "weights": dict(weights),
        "counts": dict(counts),
    }
    write_json(Path(path), record, sort_keys=True)


def _cpu_name() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass  # no procfs: use the platform's name below
    return platform.processor() or platform.machine()


def _gpu_name() -> str | None:
    # A stage that has not imported torch used no GPU; importing torch here takes seconds.
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available():
        return None
    return str(torch.cuda.get_device_name())
