"""Message passing: equivariant messages along edges, summed at the receivers.

On the CPU a fused kernel processes every edge once without intermediate tensors; other devices
use the torch version. Both follow PaiNN (arXiv:2102.03150, Eqs. 7 and 8).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from xtalfill.core.compiled import compiled

MESSAGE_SHARE = 0.15  # of the sums that a moving site or a copy of a host site receives


def sum_messages(
    phi: Tensor, vectors: Tensor, filters: Tensor, unit: Tensor, edges: Tensor, n_receivers: int
) -> tuple[Tensor, Tensor]:
    """Sum the messages that arrive at each receiver.

    With x = phi[sender] * filters split in three parts of width F, a message is the scalar part
    x1 and the vector part x2 * vectors[sender] + x3 * unit.

    Args:
        phi: (n_senders, 3F) features of the senders.
        vectors: (n_senders, 3, F) vector features of the senders.
        filters: (n_edges, 3F) distance filters.
        unit: (n_edges, 3) directions from receiver to sender.
        edges: (2, n_edges) int64: receivers, senders.
        n_receivers: Number of receiving sites.

    Returns:
        (n_receivers, F) scalar sums and (n_receivers, 3, F) vector sums.
    """
    if phi.device.type == "cpu" and phi.dtype == filters.dtype == torch.float32:
        return _FusedMessages.apply(phi, vectors, filters, unit, edges, n_receivers)
    return torch_messages(phi, vectors, filters, unit, edges, n_receivers)


def torch_messages(
    phi: Tensor, vectors: Tensor, filters: Tensor, unit: Tensor, edges: Tensor, n_receivers: int
) -> tuple[Tensor, Tensor]:
    """Sum messages with torch alone; arguments and result as in `sum_messages`."""
    receivers, senders = edges
    # sums of many small messages need more than the half precision of autocast
    phi, filters = phi.to(vectors.dtype), filters.to(vectors.dtype)
    x1, x2, x3 = (phi[senders] * filters).chunk(3, dim=-1)
    vector = vectors[senders] * x2[:, None] + unit[:, :, None] * x3[:, None]
    width = x1.shape[1]
    scalars_out = x1.new_zeros(n_receivers, width).index_add(0, receivers, x1)
    vectors_out = x1.new_zeros(n_receivers, 3, width).index_add(0, receivers, vector)
    return scalars_out, vectors_out


class _FusedMessages(torch.autograd.Function):
    """Autograd wrapper of the CPU kernels."""

    @staticmethod
    def forward(
        ctx: Any,
        phi: Tensor,
        vectors: Tensor,
        filters: Tensor,
        unit: Tensor,
        edges: Tensor,
        n_receivers: int,
    ) -> tuple[Tensor, Tensor]:
        """Sum the messages (see `sum_messages`)."""
        arrays = [t.detach().contiguous() for t in (phi, vectors, filters, unit, edges)]
        ctx.save_for_backward(*arrays)
        width = phi.shape[1] // 3
        scalars_out = torch.zeros(n_receivers, width, dtype=phi.dtype)
        vectors_out = torch.zeros(n_receivers, 3, width, dtype=phi.dtype)
        out = (scalars_out, vectors_out)
        _forward(*[t.numpy() for t in (*arrays, *out)])
        return out

    @staticmethod
    def backward(
        ctx: Any,
        *gradients: Tensor,
    ) -> tuple[Tensor | None, ...]:
        """Return the gradients of phi, vectors and filters."""
        arrays = ctx.saved_tensors
        g_phi, g_vectors, g_filters = (torch.zeros_like(t) for t in arrays[:3])
        _backward(
            *(t.numpy() for t in arrays),
            *(g.contiguous().numpy() for g in gradients),
            *(g.numpy() for g in (g_phi, g_vectors, g_filters)),
        )
        return g_phi, g_vectors, g_filters, None, None, None


@compiled()
def _forward(
    phi: np.ndarray,
    vectors: np.ndarray,
    filters: np.ndarray,
    unit: np.ndarray,
    edges: np.ndarray,
    scalars_out: np.ndarray,
    vectors_out: np.ndarray,
) -> None:
    width = phi.shape[1] // 3
    for e in range(edges.shape[1]):
        i = edges[0, e]
        j = edges[1, e]
        ux, uy, uz = unit[e, 0], unit[e, 1], unit[e, 2]
        for f in range(width):
            scalars_out[i, f] += phi[j, f] * filters[e, f]
        for f in range(width):
            x2 = phi[j, width + f] * filters[e, width + f]
            x3 = phi[j, 2 * width + f] * filters[e, 2 * width + f]
            vectors_out[i, 0, f] += x2 * vectors[j, 0, f] + x3 * ux
            vectors_out[i, 1, f] += x2 * vectors[j, 1, f] + x3 * uy
            vectors_out[i, 2, f] += x2 * vectors[j, 2, f] + x3 * uz


@compiled()
def _backward(
    phi: np.ndarray,
    vectors: np.ndarray,
    filters: np.ndarray,
    unit: np.ndarray,
    edges: np.ndarray,
    g_scalars: np.ndarray,
    g_sums: np.ndarray,
    g_phi: np.ndarray,
    g_vectors: np.ndarray,
    g_filters: np.ndarray,
) -> None:
    width = phi.shape[1] // 3
    for e in range(edges.shape[1]):
        i = edges[0, e]
        j = edges[1, e]
        ux, uy, uz = unit[e, 0], unit[e, 1], unit[e, 2]
        for f in range(width):
            g1 = g_scalars[i, f]
            g_filters[e, f] = g1 * phi[j, f]
            g_phi[j, f] += g1 * filters[e, f]
        for f in range(width):
            gx, gy, gz = g_sums[i, 0, f], g_sums[i, 1, f], g_sums[i, 2, f]
            p2 = phi[j, width + f]
            w2 = filters[e, width + f]
            g2 = gx * vectors[j, 0, f] + gy * vectors[j, 1, f] + gz * vectors[j, 2, f]
            g_filters[e, width + f] = g2 * p2
            g_phi[j, width + f] += g2 * w2
            x2 = p2 * w2
            g_vectors[j, 0, f] += gx * x2
            g_vectors[j, 1, f] += gy * x2
            g_vectors[j, 2, f] += gz * x2
        for f in range(width):
            g3 = g_sums[i, 0, f] * ux + g_sums[i, 1, f] * uy + g_sums[i, 2, f] * uz
            g_filters[e, 2 * width + f] = g3 * phi[j, 2 * width + f]
            g_phi[j, 2 * width + f] += g3 * filters[e, 2 * width + f]
