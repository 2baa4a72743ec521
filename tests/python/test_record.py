"""Record of a task."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from xtalfill.core.errors import ConfigError
from xtalfill.core.record import count_statuses, file_sha256, package_versions, write_record


def write(path: Path, **changes: Any) -> dict:
    values = {
        "stage": "relax",
        "batch": "batch_0000.h5",
        "seconds": 1.23456,
        "parameters": {"fmax": 0.05},
        "counts": {"ok": 2, "unconverged": 0, "failed": 1},
        "weights": {"7net-0": "ab" * 32},
    }
    write_record(path, **{**values, **changes})
    return json.loads(path.read_text())


def test_content_of_a_record(tmp_path: Path) -> None:
    record = write(tmp_path / "relax.json")
    assert record["stage"] == "relax"
    assert record["batch"] == "batch_0000.h5"
    assert record["seconds"] == 1.235
    assert record["parameters"] == {"fmax": 0.05}
    assert record["weights"] == {"7net-0": "ab" * 32}
    assert record["counts"] == {"ok": 2, "unconverged": 0, "failed": 1}
    assert record["versions"]["numpy"] == np.__version__
    assert set(record["hardware"]) == {"cpu", "cores", "gpu"}
    assert record["hardware"]["cores"] >= 1
    assert record["hardware"]["cpu"]
    assert [path.name for path in tmp_path.iterdir()] == ["relax.json"]


def test_old_record_is_replaced_or_kept_on_failure(tmp_path: Path) -> None:
    path = tmp_path / "relax.json"
    write(path)
    with pytest.raises(TypeError):
        write(path, parameters={"bad": object()})
    assert json.loads(path.read_text())["stage"] == "relax"
    assert write(path, stage="select")["stage"] == "select"
    assert len(list(tmp_path.iterdir())) == 1


def test_missing_packages_are_omitted() -> None:
    assert set(package_versions(["numpy", "no-such-package"])) == {"python", "numpy"}


def test_counts_each_status() -> None:
    assert count_statuses(["ok", "failed", "ok"]) == {
        "ok": 2,
        "unconverged": 0,
        "failed": 1,
        "dropped": 0,
        "absent": 0,
    }
    assert set(count_statuses([]).values()) == {0}


def test_sha256_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "weights.pt"
    path.write_bytes(b"x" * 3_000_000)
    assert file_sha256(path) == hashlib.sha256(path.read_bytes()).hexdigest()
    with pytest.raises(ConfigError, match="cannot be read"):
        file_sha256(tmp_path / "none.pt")


def test_import_is_light(repository: Path) -> None:
    code = "import sys, xtalfill.core.record as r; r.hardware(); print('torch' in sys.modules)"
    shown = subprocess.run(
        [sys.executable, "-c", code], cwd=repository / "bin", capture_output=True, check=True
    )
    assert shown.stdout.split() == [b"False"]
