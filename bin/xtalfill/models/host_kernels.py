"""Kernels of HostNet for sampling on a CPU: the blocks of the network as compiled functions.

All numbers are float32, all arrays contiguous; weights of linear layers are (n_in, n_out).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from xtalfill.core.compiled import compiled

# Gaussians of a distance that are evaluated, those nearest to it. The others are six spacings away
# or more: below exp(-18), less than the rounding of float32.
WINDOW = 12
_EPSILON = np.float32(1e-5)  # of torch's LayerNorm


class MlpWeights(NamedTuple):
    """Layer norm (F,) and two linear layers with SiLU between them."""

    scale: np.ndarray
    offset: np.ndarray
    first: np.ndarray
    first_bias: np.ndarray
    second: np.ndarray
    second_bias: np.ndarray


class Expansion(NamedTuple):
    """Distances in the Gaussians nearest to them.

    Attributes:
        values: (n_edges, WINDOW + 1) Gaussians times the envelope, and the envelope.
        first: (n_edges,) number of the first Gaussian.
    """

    values: np.ndarray
    first: np.ndarray


@compiled(fastmath=True, error_model="numpy")
def expand(distance: np.ndarray, cutoff: float, n_radial: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the arrays of `Expansion` of distances (n_edges,), Angstrom; see `RadialFilter`."""
    values = np.empty((len(distance), WINDOW + 1), np.float32)
    first = np.empty(len(distance), np.int64)
    inverse_spacing = np.float32((n_radial - 1) / cutoff)
    turn = np.float32(np.pi / cutoff)
    half, one = np.float32(0.5), np.float32(1.0)
    for e in range(len(distance)):
        place = distance[e] * inverse_spacing
        first[e] = max(min(int(place) - WINDOW // 2 + 1, n_radial - WINDOW), 0)
        envelope = half * (np.cos(turn * distance[e]) + one)
        for k in range(WINDOW):
            away = place - np.float32(first[e] + k)
            values[e, k] = envelope * np.exp(-half * away * away)
        values[e, WINDOW] = envelope
    return values, first


@compiled(fastmath=True, error_model="numpy")
def _normalised(x: np.ndarray, scale: np.ndarray, offset: np.ndarray, out: np.ndarray) -> None:
    """Write the layer norm of rows (n, F) into the first F columns of `out`."""
    width = x.shape[1]
    for i in range(len(x)):
        mean = np.float32(0.0)
        for f in range(width):
            mean += x[i, f]
        mean /= np.float32(width)
        variance = np.float32(0.0)
        for f in range(width):
            variance += (x[i, f] - mean) * (x[i, f] - mean)
        factor = np.float32(1.0) / np.sqrt(variance / np.float32(width) + _EPSILON)
        for f in range(width):
            out[i, f] = (x[i, f] - mean) * factor * scale[f] + offset[f]


@compiled(fastmath=True, error_model="numpy")
def product(x: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Return x (n, n_in) @ weight (n_in, n_out).

    Not np.dot: a BLAS may use more threads than the task has, which is slow for small matrices.
    """
    n, n_in = x.shape
    out = np.zeros((n + 1, weight.shape[1]), np.float32)  # one more row if n is odd
    for i in range(0, n, 2):
        one, other, sums, others = x[i], x[min(i + 1, n - 1)], out[i], out[i + 1]
        for k in range(0, n_in - 3, 4):
            a, b, c, d = one[k], one[k + 1], one[k + 2], one[k + 3]
            e, f, g, h = other[k], other[k + 1], other[k + 2], other[k + 3]
            for m in range(len(sums)):
                p, q, r, s = weight[k, m], weight[k + 1, m], weight[k + 2, m], weight[k + 3, m]
                sums[m] += a * p + b * q + c * r + d * s
                others[m] += e * p + f * q + g * r + h * s
        for k in range(n_in - n_in % 4, n_in):
            for m in range(len(sums)):
                sums[m] += one[k] * weight[k, m]
                others[m] += other[k] * weight[k, m]
    return out[:n]


@compiled(fastmath=True, error_model="numpy")
def _layers(x: np.ndarray, weights: MlpWeights) -> np.ndarray:
    """Return both linear layers of x (n, n_in), with SiLU between them."""
    hidden = product(x, weights.first)
    for i in range(hidden.shape[0]):
        for f in range(hidden.shape[1]):
            value = hidden[i, f] + weights.first_bias[f]
            hidden[i, f] = value / (np.float32(1.0) + np.exp(-value))
    out = product(hidden, weights.second)
    for i in range(out.shape[0]):
        for f in range(out.shape[1]):
            out[i, f] += weights.second_bias[f]
    return out


@compiled(fastmath=True, error_model="numpy")
def mlp(x: np.ndarray, weights: MlpWeights) -> np.ndarray:
    """Return the layers of the normalised rows (n, F) of x."""
    normalised = np.empty_like(x)
    _normalised(x, weights.scale, weights.offset, normalised)
    return _layers(normalised, weights)


@compiled(fastmath=True, error_model="numpy")
def update(scalars: np.ndarray, vectors: np.ndarray, mix: np.ndarray, weights: MlpWeights) -> None:
    """Change scalars (n, F) and vectors (n, 3, F) in place, as `UpdateBlock`."""
    n, width = scalars.shape
    both = product(vectors.reshape(3 * n, width), mix).reshape(n, 3, 2 * width)
    features = np.empty((n, 2 * width), np.float32)
    _normalised(scalars, weights.scale, weights.offset, features)
    for i in range(n):
        for f in range(width):
            x, y, z = both[i, 0, width + f], both[i, 1, width + f], both[i, 2, width + f]
            features[i, width + f] = np.sqrt(x * x + y * y + z * z + np.float32(1e-6))
    gates = _layers(features, weights)
    for i in range(n):
        for f in range(width):
            dot = np.float32(0.0)
            for axis in range(3):
                left = both[i, axis, f]
                dot += left * both[i, axis, width + f]
                vectors[i, axis, f] += left * gates[i, f]
            scalars[i, f] += gates[i, 2 * width + f] + gates[i, width + f] * dot


@compiled(fastmath=True, error_model="numpy")
def _filter(values: np.ndarray, weight: np.ndarray, bias: np.ndarray, out: np.ndarray) -> None:
    """Write the filter (3F,) of one edge: WINDOW Gaussians times their rows of the weights."""
    a, b, c, d, e, f = values[0], values[1], values[2], values[3], values[4], values[5]
    g, h, i, j, k, m = values[6], values[7], values[8], values[9], values[10], values[11]
    for n in range(len(out)):  # one sum, so that it stays in a register
        out[n] = (
            a * weight[0, n] + b * weight[1, n] + c * weight[2, n] + d * weight[3, n]
            + e * weight[4, n] + f * weight[5, n] + g * weight[6, n] + h * weight[7, n]
            + i * weight[8, n] + j * weight[9, n] + k * weight[10, n] + m * weight[11, n]
            + values[12] * bias[n]
        )  # fmt: skip


@compiled(fastmath=True, error_model="numpy")
def add_messages(
    phi: np.ndarray,
    vectors: np.ndarray,
    expansion: Expansion,
    weight: np.ndarray,
    receivers: np.ndarray,
    senders: np.ndarray,
    unit: np.ndarray,
    factor: np.float32,
    scalars_out: np.ndarray,
    vectors_out: np.ndarray,
) -> None:
    """Add the messages of edges, times a factor, to their receivers; see `sum_messages`.

    `weight` has at least WINDOW rows of Gaussians, and the bias in its last row.
    """
    width = phi.shape[1] // 3
    x = np.empty(3 * width, np.float32)
    for e in range(len(receivers)):
        i, j, start = receivers[e], senders[e], expansion.first[e]
        _filter(expansion.values[e], weight[start : start + WINDOW], weight[-1], x)
        ux, uy, uz = unit[e, 0], unit[e, 1], unit[e, 2]
        for f in range(width):
            scalars_out[i, f] += factor * phi[j, f] * x[f]
        for f in range(width):
            x2 = factor * phi[j, width + f] * x[width + f]
            x3 = factor * phi[j, 2 * width + f] * x[2 * width + f]
            vectors_out[i, 0, f] += x2 * vectors[j, 0, f] + x3 * ux
            vectors_out[i, 1, f] += x2 * vectors[j, 1, f] + x3 * uy
            vectors_out[i, 2, f] += x2 * vectors[j, 2, f] + x3 * uz
