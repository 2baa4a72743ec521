"""Selection of the torch device."""

from __future__ import annotations

import os
import sys

import torch

from xtalfill.core.errors import ConfigError, TryAgainError

MIN_FREE_FRACTION = 0.5  # of the GPU memory; with less, another process uses the GPU
_GB = 1e9


def torch_device(name: str) -> torch.device:
    """Return a device by name. There is no fallback to the CPU.

    If several GPUs or MIG slices are visible, the first one is used.

    Args:
        name: "cpu" or "cuda".

    Raises:
        ConfigError: The name is unknown, or there is no GPU.
        TryAgainError: The GPU is not usable now, or another process uses most of its memory.
    """
    if name not in ("cpu", "cuda"):
        raise ConfigError(f"device '{name}' is unknown; choose cpu or cuda")
    if name == "cuda":
        _check_gpu()
    return torch.device(name)


def _check_gpu() -> None:
    """Check that a GPU is available and free; print its name to stderr."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    given = "is not set" if visible is None else f"is '{visible}'"
    if not torch.cuda.is_available():
        raise ConfigError(
            "device 'cuda' was requested but torch sees no GPU "
            f"(CUDA_VISIBLE_DEVICES {given}); request one from Slurm with --slurm_gpu_options, "
            "or use --device cpu"
        )
    try:
        free, total = torch.cuda.mem_get_info(0)
        model = torch.cuda.get_device_name(0)
    except RuntimeError as error:  # CUDA error, e.g. a GPU in exclusive mode that is in use
        reason = str(error).splitlines()[0]
        raise TryAgainError(f"the GPU is not usable now ({reason}); try another node") from error
    free += torch.cuda.memory_reserved(0)  # by this process
    state = f"{model}, {free / _GB:.1f} of {total / _GB:.1f} GB free"
    if free < MIN_FREE_FRACTION * total:
        raise TryAgainError(
            f"the GPU is used by another process ({state}, CUDA_VISIBLE_DEVICES {given}); "
            "request one GPU for each task with --slurm_gpu_options"
        )
    count = torch.cuda.device_count()
    several = "" if count == 1 else f" (the first of {count})"
    print(f"device: {state}{several}", file=sys.stderr)
