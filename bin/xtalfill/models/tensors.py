"""Dataclasses of tensors, which move from machine memory to a device as one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Self

import torch
from torch import Tensor


class TensorGroup:
    """Base of dataclasses whose fields are all tensors, or such dataclasses again."""

    def to(self, device: torch.device) -> Self:
        """Return the group on a device.

        A copy to a GPU is only asked for: from pinned memory it goes on beside the computing.
        """
        # towards the CPU it has to be waited for: nothing there keeps the order
        return self._each(lambda tensor: tensor.to(device, non_blocking=device.type != "cpu"))

    def pin_memory(self) -> Self:
        """Return the group in memory that a GPU can copy from by itself."""
        return self._each(torch.Tensor.pin_memory)

    def _each(self, change: Callable[[Tensor], Tensor]) -> Self:
        fields = {
            name: value._each(change) if isinstance(value, TensorGroup) else change(value)
            for name, value in vars(self).items()
        }
        return type(self)(**fields)
