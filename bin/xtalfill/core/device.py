"""The device to compute on: what was asked for, or an error."""

from __future__ import annotations

import os
import sys

import torch

from xtalfill.core.errors import ConfigError, TryAgainError

MIN_FREE_FRACTION = 0.5  # of a GPU's memory; where less is free another process computes on it
_GB = 1e9


def torch_device(name: str) -> torch.device:
    """Return a device by its name; a GPU that is not there is no reason to use the CPU.

    Of several GPUs that a task sees, whole or slices (MIG), it uses the first.

    Args:
        name: "cpu" or "cuda".

    Raises:
        ConfigError: The name is another one, or there is no GPU.
        TryAgainError: The GPU cannot be used now, or another process has most of its memory.
    """
    if name not in ("cpu", "cuda"):
        raise ConfigError(f"device '{name}' is unknown; choose cpu or cuda")
    if name == "cuda":
        _check_gpu()
    return torch.device(name)


def _check_gpu() -> None:
    """Refuse a GPU that is not there or not free; say on stderr which it is."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    given = "is not set" if visible is None else f"is '{visible}'"
    if not torch.cuda.is_available():
        raise ConfigError(
            "device 'cuda' was asked for but torch sees no GPU "
            f"(CUDA_VISIBLE_DEVICES {given}); ask Slurm for one with --slurm_gpu_options, "
            "or use --device cpu"
        )
    try:
        free, total = torch.cuda.mem_get_info(0)
        model = torch.cuda.get_device_name(0)
    except RuntimeError as error:  # of CUDA, also where the GPU takes one process alone
        reason = str(error).splitlines()[0]
        raise TryAgainError(f"the GPU cannot be used now ({reason}); try another node") from error
    free += torch.cuda.memory_reserved(0)  # by this process
    state = f"{model}, {free / _GB:.1f} of {total / _GB:.1f} GB free"
    if free < MIN_FREE_FRACTION * total:
        raise TryAgainError(
            f"the GPU is not free ({state}, CUDA_VISIBLE_DEVICES {given}): another process "
            "computes on it; let Slurm give each task one of its own (--slurm_gpu_options)"
        )
    count = torch.cuda.device_count()
    several = "" if count == 1 else f" (the first of {count})"
    print(f"device: {state}{several}", file=sys.stderr)
