"""Numba kernels of the edge convolution: one pass over the edges.

For every edge e and path p of the tensor product (x, y spherical harmonics, w radial weights)

    out[dst[e], m_out, u] += w[e, p, u] * sum_m A[e, p, m_out, m] * x[src[e], m, u]
    A[e, p, m_out, m] = sum_n C[p, m, n, m_out] * y[e, n]

with C the Wigner 3j symbols times the path weight and u the multiplicity index. `convolve`
computes the sum, `pull_back` the gradients with respect to x, y and w, and `pull_back_twice` the
gradients of these gradients, for a training on forces.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from xtalfill.core.compiled import compiled

MAX_L = 3  # the loops below are unrolled for irreps of up to 7 components


# Sums may be reordered; NaN and infinity must be preserved.
reordered = compiled(fastmath={"contract", "reassoc", "nsz", "arcp"}, error_model="numpy")
_inlined = njit(inline="always")
ONE, TWO, THREE, FOUR, FIVE, SIX = (np.uint64(k) for k in range(1, 7))

# Row of `paths`: first column of x, of w and of out; multiplicity; dimensions of the irreps of x
# and out; first row and last row + 1 of `terms`. Row of `terms`: m_out * dim_x + m_x and the
# column of y; `coefficients` holds the value. Features are ordered (component, multiplicity).
# Three choices let LLVM vectorise the loops: unsigned indices (no test for negative ones), loops
# over the multiplicity unrolled for each dimension, and all matrices computed before use.


@_inlined
def _edge_matrices(
    y: np.ndarray,
    e: int,
    paths: np.ndarray,
    terms: np.ndarray,
    coefficients: np.ndarray,
    matrices: np.ndarray,
) -> None:
    matrices[:] = 0.0
    for p in range(len(paths)):
        for t in range(paths[p, 6], paths[p, 7]):
            matrices[p, terms[t, 0]] += coefficients[t] * y[e, terms[t, 1]]


@_inlined
def _add(
    x: np.ndarray,
    i: int,
    x0: int,
    w: np.ndarray,
    j: int,
    w0: int,
    out: np.ndarray,
    k: int,
    o: int,
    mul: int,
    a: np.ndarray,
    b: int,
    dim: int,
) -> None:
    """out[k, o + u] += w[j, w0 + u] * sum_m a[b + m] * x[i, x0 + m * mul + u]."""
    x1 = x0 + mul
    x2 = x1 + mul
    x3 = x2 + mul
    x4 = x3 + mul
    x5 = x4 + mul
    x6 = x5 + mul
    if dim == 1:
        a0 = a[b]
        for u in range(mul):
            out[k, o + u] += w[j, w0 + u] * (a0 * x[i, x0 + u])
    elif dim == 3:
        a0, a1, a2 = a[b], a[b + ONE], a[b + TWO]
        for u in range(mul):
            total = a0 * x[i, x0 + u] + a1 * x[i, x1 + u] + a2 * x[i, x2 + u]
            out[k, o + u] += w[j, w0 + u] * total
    elif dim == 5:
        a0, a1, a2, a3, a4 = a[b], a[b + ONE], a[b + TWO], a[b + THREE], a[b + FOUR]
        for u in range(mul):
            total = a0 * x[i, x0 + u] + a1 * x[i, x1 + u] + a2 * x[i, x2 + u]
            total += a3 * x[i, x3 + u] + a4 * x[i, x4 + u]
            out[k, o + u] += w[j, w0 + u] * total
    else:
        a0, a1, a2, a3, a4 = a[b], a[b + ONE], a[b + TWO], a[b + THREE], a[b + FOUR]
        a5, a6 = a[b + FIVE], a[b + SIX]
        for u in range(mul):
            total = a0 * x[i, x0 + u] + a1 * x[i, x1 + u] + a2 * x[i, x2 + u]
            total += a3 * x[i, x3 + u] + a4 * x[i, x4 + u]
            total += a5 * x[i, x5 + u] + a6 * x[i, x6 + u]
            out[k, o + u] += w[j, w0 + u] * total


@_inlined
def _dot(
    x: np.ndarray,
    i: int,
    x0: int,
    w: np.ndarray,
    j: int,
    w0: int,
    g: np.ndarray,
    k: int,
    o: int,
    mul: int,
    out: np.ndarray,
    b: int,
    dim: int,
) -> None:
    """out[b + m] = sum_u x[i, x0 + m * mul + u] * w[j, w0 + u] * g[k, o + u]."""
    for m in range(dim):
        first = x0 + m * mul
        total = out.dtype.type(0)
        for u in range(mul):
            total += x[i, first + u] * (w[j, w0 + u] * g[k, o + u])
        out[b + m] = total


@reordered
def convolve(
    x: np.ndarray,
    y: np.ndarray,
    w: np.ndarray,
    src: np.ndarray,
    dst: np.ndarray,
    paths: np.ndarray,
    terms: np.ndarray,
    coefficients: np.ndarray,
    out: np.ndarray,
) -> None:
    """Add the message of every edge from `src` to `dst` to `out`."""
    matrices = np.zeros((len(paths), (paths[:, 4] * paths[:, 5]).max()), x.dtype)
    for e in range(len(src)):
        i, k = src[e], dst[e]
        _edge_matrices(y, e, paths, terms, coefficients, matrices)
        for p in range(len(paths)):
            x0, w0, o, mul, dim = paths[p, 0], paths[p, 1], paths[p, 2], paths[p, 3], paths[p, 4]
            for m in range(paths[p, 5]):
                _add(x, i, x0, w, e, w0, out, k, o + m * mul, mul, matrices[p], m * dim, dim)


@_inlined
def _pull_x(
    w: np.ndarray,
    e: int,
    g_out: np.ndarray,
    k: int,
    g_x: np.ndarray,
    i: int,
    paths: np.ndarray,
    transposed: np.ndarray,
) -> None:
    """Add the gradient of an edge with respect to x."""
    for p in range(len(paths)):
        x0, w0, o, mul, dim = paths[p, 0], paths[p, 1], paths[p, 2], paths[p, 3], paths[p, 4]
        n = paths[p, 5]
        for m in range(dim):
            _add(g_out, k, o, w, e, w0, g_x, i, x0 + m * mul, mul, transposed[p], m * n, n)


@_inlined
def _pull_w(
    x: np.ndarray,
    i: int,
    g_out: np.ndarray,
    k: int,
    g_w: np.ndarray,
    e: int,
    paths: np.ndarray,
    matrices: np.ndarray,
) -> None:
    """Add the gradient of an edge with respect to w."""
    for p in range(len(paths)):
        x0, w0, o, mul, dim = paths[p, 0], paths[p, 1], paths[p, 2], paths[p, 3], paths[p, 4]
        n = paths[p, 5]
        for m in range(n):
            _add(x, i, x0, g_out, k, o + m * mul, g_w, e, w0, mul, matrices[p], m * dim, dim)


@_inlined
def _pull_matrices(
    x: np.ndarray,
    i: int,
    w: np.ndarray,
    e: int,
    g_out: np.ndarray,
    k: int,
    paths: np.ndarray,
    g_matrices: np.ndarray,
) -> None:
    """Compute the gradient of an edge with respect to its matrices."""
    for p in range(len(paths)):
        x0, w0, o, mul, dim = paths[p, 0], paths[p, 1], paths[p, 2], paths[p, 3], paths[p, 4]
        n = paths[p, 5]
        for m in range(n):
            _dot(x, i, x0, w, e, w0, g_out, k, o + m * mul, mul, g_matrices[p], m * dim, dim)


@_inlined
def _transpose(
    matrices: np.ndarray,
    paths: np.ndarray,
    transposed: np.ndarray,
) -> None:
    for p in range(len(paths)):
        dim, n = paths[p, 4], paths[p, 5]
        for m in range(dim):
            for m_out in range(n):
                transposed[p, m * n + m_out] = matrices[p, m_out * dim + m]


@reordered
def pull_back(
    x: np.ndarray,
    y: np.ndarray,
    w: np.ndarray,
    src: np.ndarray,
    dst: np.ndarray,
    paths: np.ndarray,
    terms: np.ndarray,
    coefficients: np.ndarray,
    g_out: np.ndarray,
    g_x: np.ndarray,
    g_y: np.ndarray,
    g_w: np.ndarray,
) -> None:
    """Add the gradients to `g_x`, `g_y` and `g_w`, given the gradient `g_out` of `out`."""
    matrices = np.zeros((len(paths), (paths[:, 4] * paths[:, 5]).max()), x.dtype)
    transposed, g_matrices = np.zeros_like(matrices), np.zeros_like(matrices)
    for e in range(len(src)):
        i, k = src[e], dst[e]
        _edge_matrices(y, e, paths, terms, coefficients, matrices)
        _transpose(matrices, paths, transposed)
        _pull_x(w, e, g_out, k, g_x, i, paths, transposed)
        _pull_w(x, i, g_out, k, g_w, e, paths, matrices)
        _pull_matrices(x, i, w, e, g_out, k, paths, g_matrices)
        for p in range(len(paths)):
            for t in range(paths[p, 6], paths[p, 7]):
                g_y[e, terms[t, 1]] += coefficients[t] * g_matrices[p, terms[t, 0]]


@reordered
def pull_back_twice(
    x: np.ndarray,
    y: np.ndarray,
    w: np.ndarray,
    h_x: np.ndarray,
    h_y: np.ndarray,
    h_w: np.ndarray,
    src: np.ndarray,
    dst: np.ndarray,
    paths: np.ndarray,
    terms: np.ndarray,
    coefficients: np.ndarray,
    g_out: np.ndarray,
    gg_x: np.ndarray,
    gg_y: np.ndarray,
    gg_w: np.ndarray,
    gg_out: np.ndarray,
) -> None:
    """Add the gradients of h_x * g_x + h_y * g_y + h_w * g_w, with g the result of `pull_back`."""
    matrices = np.zeros((len(paths), (paths[:, 4] * paths[:, 5]).max()), x.dtype)
    turned, transposed = np.zeros_like(matrices), np.zeros_like(matrices)
    turned_transposed, of_h_x = np.zeros_like(matrices), np.zeros_like(matrices)
    of_h_w = np.zeros_like(matrices)
    for e in range(len(src)):
        i, k = src[e], dst[e]
        _edge_matrices(y, e, paths, terms, coefficients, matrices)
        _edge_matrices(h_y, e, paths, terms, coefficients, turned)
        _transpose(matrices, paths, transposed)
        _transpose(turned, paths, turned_transposed)
        for p in range(len(paths)):
            x0, w0, o, mul, dim = paths[p, 0], paths[p, 1], paths[p, 2], paths[p, 3], paths[p, 4]
            for m in range(paths[p, 5]):
                place = o + m * mul
                _add(h_x, i, x0, w, e, w0, gg_out, k, place, mul, matrices[p], m * dim, dim)
                _add(x, i, x0, h_w, e, w0, gg_out, k, place, mul, matrices[p], m * dim, dim)
                _add(x, i, x0, w, e, w0, gg_out, k, place, mul, turned[p], m * dim, dim)
        _pull_x(w, e, g_out, k, gg_x, i, paths, turned_transposed)
        _pull_x(h_w, e, g_out, k, gg_x, i, paths, transposed)
        _pull_w(h_x, i, g_out, k, gg_w, e, paths, matrices)
        _pull_w(x, i, g_out, k, gg_w, e, paths, turned)
        _pull_matrices(h_x, i, w, e, g_out, k, paths, of_h_x)
        _pull_matrices(x, i, h_w, e, g_out, k, paths, of_h_w)
        for p in range(len(paths)):
            for t in range(paths[p, 6], paths[p, 7]):
                total = of_h_x[p, terms[t, 0]] + of_h_w[p, terms[t, 0]]
                gg_y[e, terms[t, 1]] += coefficients[t] * total
