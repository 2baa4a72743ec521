"""Graph of crystals for GemNet: cells, and edges to the nearest neighbours of each site.

mattergen builds the edges from tensors of all pairs and images, which on a CPU takes as long as
the network; rounding decides which of several equidistant neighbours are kept. Here the same
edges are found pair by pair in double precision, and ties are resolved by the order of the sites.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from xtalfill.core.compiled import compiled
from xtalfill.models.tensors import TensorGroup

_OVERLAP = 1e-4  # square Angstrom; mattergen treats closer sites as identical
_TIE = 1e-6  # square Angstrom; smaller differences are ties


@dataclass(frozen=True)
class CrystalGraph(TensorGroup):
    """Cells and directed edges of B crystals in the format of GemNetT.

    Attributes:
        edges: (2, n_edges) int64 senders and receivers, ordered by receiver, sender and image.
        images: (n_edges, 3) cell of the sender relative to that of the receiver.
        counts: (B,) int64 number of edges of each crystal.
        n_sites: (B,) int64 number of sites of each crystal.
        cell: (B, 3, 3) float64, Angstrom; see `symmetric_cell`.
        inverse: (B, 3, 3) float64, 1/Angstrom; inverse cells.
    """

    edges: Tensor
    images: Tensor
    counts: Tensor
    n_sites: Tensor
    cell: Tensor
    inverse: Tensor


def crystal_graph(
    fractions: Tensor,
    cell: Tensor,
    structure: Tensor,
    *,
    cutoff: float,
    max_neighbors: int,
    max_images: int,
) -> CrystalGraph:
    """Find the edges of crystals and rotate their cells.

    Args:
        fractions: (n, 3) in [0, 1); all tensors on the CPU.
        cell: (B, 3, 3) Angstrom; rows are lattice vectors.
        structure: (n,) index of the crystal, ascending.
        cutoff: Longest edge, Angstrom.
        max_neighbors: Maximum number of edges that end on a site; the shortest are kept.
        max_images: Number of periodic images searched along each lattice vector and direction.
    """
    n_sites = torch.bincount(structure, minlength=len(cell))
    bounds = np.cumsum(n_sites.numpy())[:-1]
    parts = np.split(fractions.double().numpy(), bounds)
    found = [
        _edges_of(sites, own, cutoff, max_neighbors, max_images)
        for sites, own in zip(parts, cell.double().numpy(), strict=True)
    ]
    counts = np.array([len(edges) for edges, _ in found])
    first = np.repeat(np.concatenate([[0], bounds]), counts)
    edges = np.concatenate([edges for edges, _ in found]) + first[:, None]
    turned = symmetric_cell(cell)
    return CrystalGraph(
        edges=torch.from_numpy(np.ascontiguousarray(edges.T)),
        images=torch.from_numpy(np.concatenate([images for _, images in found])),
        counts=torch.from_numpy(counts),
        n_sites=n_sites,
        cell=turned,
        inverse=torch.linalg.inv(turned),
    )


def symmetric_cell(cell: Tensor) -> Tensor:
    """Rotate cells so that their matrices are symmetric and positive definite.

    This is the left factor of the polar decomposition; it depends only on lengths and angles of
    the lattice vectors. A left-handed cell becomes its mirror image, to which GemNet is invariant
    because it uses only distances and angles.

    Args:
        cell: (B, 3, 3) Angstrom; rows are lattice vectors.

    Returns:
        (B, 3, 3) float64, Angstrom.
    """
    left, lengths, _ = torch.linalg.svd(cell.double())
    return (left * lengths[:, None, :]) @ left.mT


def _edges_of(
    fractions: np.ndarray, cell: np.ndarray, cutoff: float, max_neighbors: int, max_images: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return senders and receivers (n_edges, 2) and images (n_edges, 3) of one crystal."""
    reach = cutoff * np.linalg.norm(np.linalg.inv(cell), axis=0)
    density = len(fractions) / abs(np.linalg.det(cell))
    capacity = int(1.5 * len(fractions) * 4.19 * cutoff**3 * density) + 64
    while True:
        pairs = np.empty((capacity, 2), np.int64)
        images = np.empty((capacity, 3), np.float32)
        square = np.empty(capacity)
        found = _fill(fractions, cell, reach, cutoff, max_images, pairs, images, square)
        if found <= capacity:
            break
        capacity = found
    kept = _nearest(pairs[:found, 1], square[:found], max_neighbors)
    return pairs[kept], images[kept]


def _nearest(receiver: np.ndarray, square: np.ndarray, most: int) -> np.ndarray:
    """Return the indices, ascending, of the `most` shortest edges of each receiver."""
    by_length = np.lexsort((np.rint(square / _TIE), receiver))
    first = np.searchsorted(receiver, receiver)  # receivers are sorted
    return np.sort(by_length[np.arange(len(receiver)) - first < most])


@compiled()
def _fill(
    fractions: np.ndarray,
    cell: np.ndarray,
    reach: np.ndarray,
    cutoff: float,
    max_images: int,
    pairs: np.ndarray,
    images: np.ndarray,
    square: np.ndarray,
) -> int:
    """Write the edges and their squared lengths up to capacity; return the total number."""
    found = 0
    for i, j in np.ndindex(len(fractions), len(fractions)):
        f = fractions[j] - fractions[i]
        low = np.maximum(np.ceil(-reach - f), -max_images)
        high = np.minimum(np.floor(reach - f), max_images)
        for a in range(low[0], high[0] + 1):
            for b in range(low[1], high[1] + 1):
                for c in range(low[2], high[2] + 1):
                    length = _square(f[0] + a, f[1] + b, f[2] + c, cell)
                    if length > cutoff * cutoff or length <= _OVERLAP:
                        continue
                    if found < len(pairs):
                        pairs[found, 0], pairs[found, 1] = j, i
                        images[found, 0], images[found, 1], images[found, 2] = a, b, c
                        square[found] = length
                    found += 1
    return found


@compiled()
def _square(a: float, b: float, c: float, cell: np.ndarray) -> float:
    """Return the squared length of a fractional vector."""
    x = a * cell[0, 0] + b * cell[1, 0] + c * cell[2, 0]
    y = a * cell[0, 1] + b * cell[1, 1] + c * cell[2, 1]
    z = a * cell[0, 2] + b * cell[1, 2] + c * cell[2, 2]
    return x * x + y * y + z * z
