"""Reverse diffusion of the missing sites in a fixed host.

The process is the variance-exploding one of arXiv:2601.01959, Eqs. 1-4, in Cartesian Angstrom and
on the missing sites alone. Each candidate runs by itself, so no other candidate of the batch can
change a bit of it.
"""

from __future__ import annotations

import hashlib
import itertools

import numpy as np
import torch

from xtalfill.model.graphs import Draw, Host, host_graph, site_graph
from xtalfill.model.hostnet import HostEncoding, HostNet

SIGMA_MIN = 0.05
SIGMA_MAX = 3.0


def candidate_generator(*, seed: int, structure_id: str, sample: int) -> np.random.Generator:
    """Return the source of all noise of one candidate: (seed, id, sample) alone decide."""
    digest = hashlib.sha256(f"{seed}|{structure_id}|{sample}".encode()).digest()
    return np.random.Generator(np.random.Philox(key=int.from_bytes(digest[:16], "little")))


def noise_levels(steps: int) -> np.ndarray:
    """Return `steps` noise levels in Angstrom, falling geometrically, and a final zero."""
    return np.append(np.geomspace(SIGMA_MAX, SIGMA_MIN, steps), 0.0)


def encode_host(model: HostNet, host: Host) -> HostEncoding:
    """Encode one host, once for all of its candidates."""
    with torch.inference_mode():
        return model.encode(host_graph([host], model.config))


def sample_sites(
    model: HostNet,
    encoding: HostEncoding,
    host: Host,
    *,
    steps: int,
    generator: np.random.Generator,
) -> np.ndarray:
    """Denoise one candidate from uniform noise by ancestral sampling (Eq. 4).

    Args:
        model: The score model.
        encoding: `host` encoded by `encode_host`.
        host: The crystal to fill.
        steps: Number of noise levels.
        generator: The candidate's own source of noise.

    Returns:
        (n_sites, 3) Angstrom, inside the cell.
    """
    levels = noise_levels(steps)
    positions = generator.random((host.n_sites, 3)) @ host.cell
    with torch.inference_mode():
        for sigma, sigma_next in itertools.pairwise(levels):
            graph = site_graph([host], [Draw(0, positions, float(sigma))], model.config)
            displacement = model.denoise(encoding, graph).double().numpy()
            shrink = 1.0 - (sigma_next / sigma) ** 2
            spread = sigma_next * np.sqrt(shrink)
            noise = generator.standard_normal(positions.shape)
            positions = positions + shrink * displacement + spread * noise
    return wrap(positions, host.cell)


def wrap(positions: np.ndarray, cell: np.ndarray) -> np.ndarray:
    """Return positions (n, 3) brought into the cell, Angstrom."""
    fractions = positions @ np.linalg.inv(cell)
    return (fractions - np.floor(fractions)) @ cell
