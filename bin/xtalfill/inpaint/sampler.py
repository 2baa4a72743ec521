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

from xtalfill.inpaint.corrector import MAX_STEP_SIZE
from xtalfill.inpaint.settings import SamplerSettings
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
    settings: SamplerSettings,
    generator: np.random.Generator,
) -> np.ndarray:
    """Denoise one candidate from uniform noise, by ancestral sampling (Eq. 4) by default.

    Args:
        model: The score model.
        encoding: `host` encoded by `encode_host`.
        host: The crystal to fill.
        settings: Steps, predictor and corrector; those of `repaint` and `td` have no meaning here.
        generator: The candidate's own source of noise.

    Returns:
        (n_sites, 3) Angstrom, inside the cell.
    """

    def displacement(positions: np.ndarray, sigma: float) -> np.ndarray:
        graph = site_graph([host], [Draw(0, positions, sigma)], model.config)
        return np.asarray(model.denoise(encoding, graph).double().numpy())

    positions = generator.random((host.n_sites, 3)) @ host.cell
    with torch.inference_mode():
        for sigma, sigma_next in itertools.pairwise(noise_levels(settings.steps).tolist()):
            for _ in range(settings.corrector_steps):
                score = displacement(positions, sigma) / sigma**2
                noise = generator.standard_normal(positions.shape)
                positions = positions + _langevin(score, noise, sigma, settings)
            share, spread = _predictor(settings, sigma, sigma_next)
            mean = positions + share * displacement(positions, sigma)
            positions = mean + spread * generator.standard_normal(positions.shape)
    return wrap(positions, host.cell)


def _predictor(settings: SamplerSettings, sigma: float, sigma_next: float) -> tuple[float, float]:
    """Return the share of the displacement to go, and the noise to add (Angstrom).

    `xtalfill.inpaint.wrapped_sde.predictor_coefficients` has the reasons.
    """
    if settings.predictor == "ancestral":
        share = 1.0 - (sigma_next / sigma) ** 2
        return share, sigma_next * np.sqrt(share)
    return 1.0, sigma_next if settings.predictor == "x0_renoise" else 0.0


def _langevin(
    score: np.ndarray, noise: np.ndarray, sigma: float, settings: SamplerSettings
) -> np.ndarray:
    """Return the move (n_sites, 3) of one corrector step; see `xtalfill.inpaint.corrector`."""
    ratio = settings.snr * sigma
    if settings.corrector_rule == "score":
        ratio = settings.snr * float(np.linalg.norm(noise) / np.linalg.norm(score))
    size = min(2.0 * ratio**2, MAX_STEP_SIZE)
    return np.asarray(size * score + np.sqrt(2.0 * size) * noise)


def wrap(positions: np.ndarray, cell: np.ndarray) -> np.ndarray:
    """Return positions (n, 3) brought into the cell, Angstrom."""
    fractions = positions @ np.linalg.inv(cell)
    return (fractions - np.floor(fractions)) @ cell
