"""Dataclasses of tensors that can be moved to a device."""

from __future__ import annotations

from collections.abc import Callable
from typing import Self

import torch
from torch import Tensor


class TensorGroup:
    """Base class of dataclasses whose fields are tensors or other TensorGroups."""

    def to(self, device: torch.device) -> Self:
        """Return the group on a device.

        Copies to a GPU are asynchronous if the source is in pinned memory.
        """
        # copies to the CPU must be synchronous: the CPU does not wait for them
        return self._each(lambda tensor: tensor.to(device, non_blocking=device.type != "cpu"))

    def pin_memory(self) -> Self:
        """Return a copy in pinned memory."""
        return self._each(torch.Tensor.pin_memory)

    def _each(self, change: Callable[[Tensor], Tensor]) -> Self:
        fields = {
            name: value._each(change) if isinstance(value, TensorGroup) else change(value)
            for name, value in vars(self).items()
        }
        return type(self)(**fields)
