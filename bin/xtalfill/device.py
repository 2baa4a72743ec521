"""The device to compute on: what was asked for, or an error."""

from __future__ import annotations

import torch

from xtalfill.errors import ConfigError


def torch_device(name: str) -> torch.device:
    """Return a device by its name; a GPU that is not there is no reason to use the CPU.

    Args:
        name: "cpu" or "cuda".

    Raises:
        ConfigError: The name is another one, or there is no GPU.
    """
    if name not in ("cpu", "cuda"):
        raise ConfigError(f"device '{name}' is unknown; choose cpu or cuda")
    if name == "cuda" and not torch.cuda.is_available():
        raise ConfigError("device 'cuda' was asked for but torch sees no GPU; use --device cpu")
    return torch.device(name)
