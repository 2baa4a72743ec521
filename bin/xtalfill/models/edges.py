"""Exact periodic neighbour lists, fast enough to be rebuilt at every noise level.

Cells may have any shape and may be smaller than the cutoff: every image within the cutoff is a
separate edge. Edges are ordered by receiver, sender and image, so sums are reproducible.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from xtalfill.core.compiled import compiled


class Edges(NamedTuple):
    """Directed edges sender -> receiver.

    Attributes:
        receiver: (n_edges,) index of the receiving site.
        sender: (n_edges,) index of the sending site.
        vector: (n_edges, 3) Angstrom, float32, from the receiver to the image of the sender.
    """

    receiver: np.ndarray
    sender: np.ndarray
    vector: np.ndarray


def periodic_edges(
    receivers: np.ndarray, senders: np.ndarray, cell: np.ndarray, cutoff: float, *, same: bool
) -> Edges:
    """Find all sender images within `cutoff` of each receiver.

    Args:
        receivers: (n, 3) Angstrom.
        senders: (m, 3) Angstrom.
        cell: (3, 3) Angstrom, rows are lattice vectors.
        cutoff: Angstrom.
        same: Receivers and senders are the same sites: omit the zero distance of each site to
            itself, but not its periodic images.
    """
    inverse, per_angstrom, volume = _geometry(np.asarray(cell, dtype=np.float64).tobytes())
    reach = cutoff * per_angstrom
    expected = len(receivers) * (4.19 * cutoff**3 * len(senders) / volume)
    capacity = int(1.5 * expected) + 64
    while True:
        receiver = np.empty(capacity, np.int64)
        sender = np.empty(capacity, np.int64)
        vector = np.empty((capacity, 3), np.float32)
        found = _fill_edges(
            receivers @ inverse, senders @ inverse, cell, reach, cutoff, same,
            receiver, sender, vector,
        )  # fmt: skip
        if found <= capacity:
            return Edges(receiver[:found], sender[:found], vector[:found])
        capacity = found


@lru_cache(maxsize=256)
def _geometry(cell: bytes) -> tuple[np.ndarray, np.ndarray, float]:
    """Return the inverse of a cell, its planes per Angstrom (3,) and its volume.

    A sampler asks for the same cell at every noise level.
    """
    vectors = np.frombuffer(cell).reshape(3, 3)
    inverse = np.linalg.inv(vectors)
    return inverse, np.linalg.norm(inverse, axis=0), float(abs(np.linalg.det(vectors)))


@compiled()
def _fill_edges(
    receivers: np.ndarray,
    senders: np.ndarray,
    cell: np.ndarray,
    reach: np.ndarray,
    cutoff: float,
    same: bool,
    receiver: np.ndarray,
    sender: np.ndarray,
    vector: np.ndarray,
) -> int:
    """Write the edges between sites, fractional, up to capacity; return the total number."""
    capacity = len(receiver)
    found = 0
    for i in range(len(receivers)):
        for j in range(len(senders)):
            fa = senders[j, 0] - receivers[i, 0]
            fb = senders[j, 1] - receivers[i, 1]
            fc = senders[j, 2] - receivers[i, 2]
            for a in range(math.ceil(-reach[0] - fa), math.floor(reach[0] - fa) + 1):
                for b in range(math.ceil(-reach[1] - fb), math.floor(reach[1] - fb) + 1):
                    for c in range(math.ceil(-reach[2] - fc), math.floor(reach[2] - fc) + 1):
                        if same and i == j and a == 0 and b == 0 and c == 0:
                            continue
                        ga, gb, gc = fa + a, fb + b, fc + c
                        x = ga * cell[0, 0] + gb * cell[1, 0] + gc * cell[2, 0]
                        y = ga * cell[0, 1] + gb * cell[1, 1] + gc * cell[2, 1]
                        z = ga * cell[0, 2] + gb * cell[1, 2] + gc * cell[2, 2]
                        if x * x + y * y + z * z >= cutoff * cutoff:
                            continue
                        if found < capacity:
                            receiver[found] = i
                            sender[found] = j
                            vector[found, 0] = x
                            vector[found, 1] = y
                            vector[found, 2] = z
                        found += 1
    return found
