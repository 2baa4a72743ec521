"""Device selection, with mocked GPUs."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from xtalfill.core.device import torch_device
from xtalfill.core.errors import ConfigError, TryAgainError

GB = 10**9
MIG = "MIG-2c1a7a2e-5b1e-5d0f-9d3c-0e9d5a2f6b11"


@pytest.fixture
def node(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Return a function that mocks GPUs with the given free memory."""

    def see(*, free: float, total: float = 80.0, count: int = 1, own: float = 0.0) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
        memory = (int(free * GB), int(total * GB))
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _index: memory)
        monkeypatch.setattr(torch.cuda, "memory_reserved", lambda _index: int(own * GB))
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda _index: "NVIDIA H100")

    return see


def test_free_gpu_is_used_and_reported(
    node: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    node(free=79.0)
    assert torch_device("cuda").type == "cuda"
    assert capsys.readouterr().err == "device: NVIDIA H100, 79.0 of 80.0 GB free\n"


def test_first_of_several_gpus_is_used(
    node: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    node(free=79.0, count=4)
    assert torch_device("cuda") == torch.device("cuda")
    assert "(the first of 4)" in capsys.readouterr().err


def test_memory_of_a_mig_slice(node: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", MIG)
    node(free=9.5, total=10.0)
    assert torch_device("cuda").type == "cuda"


def test_busy_gpu_is_retried(node: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    node(free=30.0)
    with pytest.raises(TryAgainError, match=r"30.0 of 80.0 GB free, CUDA_VISIBLE_DEVICES is '0'"):
        torch_device("cuda")


def test_memory_of_this_process_counts_as_free(node: Callable[..., None]) -> None:
    node(free=30.0, own=45.0)
    torch_device("cuda")


def test_gpu_in_exclusive_mode_is_retried(
    node: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    node(free=80.0)

    def busy(_index: int) -> tuple[int, int]:
        raise RuntimeError("CUDA error: CUDA-capable device(s) is/are busy or unavailable\nCUDA ke")

    monkeypatch.setattr(torch.cuda, "mem_get_info", busy)
    with pytest.raises(TryAgainError, match="busy or unavailable\\); try another node"):
        torch_device("cuda")


@pytest.mark.parametrize(
    ("visible", "says"), [(None, "is not set"), ("", "is ''"), (MIG, f"is '{MIG}'")]
)
def test_error_names_cuda_visible_devices(
    node: Callable[..., None], monkeypatch: pytest.MonkeyPatch, visible: str | None, says: str
) -> None:
    node(free=0.0, count=0)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    with pytest.raises(ConfigError, match="sees no GPU") as caught:
        torch_device("cuda")
    assert f"(CUDA_VISIBLE_DEVICES {says})" in str(caught.value)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_task_without_a_gpu_fails_with_one_line(repository: Path) -> None:
    code = (
        "from xtalfill.core.errors import run_command; "
        "from xtalfill.core.device import torch_device; "
        "run_command(lambda: torch_device('cuda'))"
    )
    environment = {**os.environ, "PYTHONPATH": str(repository / "bin")}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == os.EX_CONFIG
    assert done.stderr.startswith("ERROR: device 'cuda' was requested but torch sees no GPU")
    assert len(done.stderr.splitlines()) == 1
