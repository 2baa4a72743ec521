"""Reverse diffusion of the missing sites in a fixed host.

The process is the variance-exploding one of arXiv:2601.01959, Eqs. 1-4, in Cartesian Angstrom and
for the missing sites only. Candidates that are denoised together share only the time.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from xtalfill.models.compiled_host import CompiledHostNet
from xtalfill.models.graphs import Draw, Host, host_graph, site_graph
from xtalfill.models.hostnet import HostEncoding, HostNet, SiteGraph
from xtalfill.proposals.diffusion.corrector import MAX_STEP_SIZE
from xtalfill.proposals.diffusion.settings import SamplerSettings

SIGMA_MIN = 0.05
SIGMA_MAX = 3.0
# Noise levels of the sampler in Angstrom, and the share of steps at which they are reached.
_SIGMAS = (SIGMA_MAX, 1.2, 0.3, SIGMA_MIN)
_PASSED = (0.0, 0.1, 0.8, 1.0)


def candidate_generator(*, seed: int, structure_id: str, sample: int) -> np.random.Generator:
    """Return the random generator of one candidate, determined by (seed, id, sample) alone."""
    digest = hashlib.sha256(f"{seed}|{structure_id}|{sample}".encode()).digest()
    return np.random.Generator(np.random.Philox(key=int.from_bytes(digest[:16], "little")))


def noise_levels(steps: int) -> np.ndarray:
    """Return `steps` noise levels in Angstrom, decreasing, and a final zero.

    Sites settle on their neighbours between 1.2 and 0.3 Angstrom, so seven of ten steps are there.
    The levels decrease geometrically within each section.
    """
    passed = np.linspace(0.0, 1.0, steps)
    return np.append(np.exp(np.interp(passed, _PASSED, np.log(_SIGMAS))), 0.0)


def encode_hosts(model: HostNet, hosts: Sequence[Host]) -> HostEncoding:
    """Encode hosts once for all of their candidates, on the device of the model."""
    with torch.inference_mode():
        return model.encode(host_graph(list(hosts), model.config).to(model.device))


def sample_sites(
    model: HostNet,
    hosts: Sequence[Host],
    generators: Sequence[np.random.Generator],
    *,
    settings: SamplerSettings,
) -> list[np.ndarray]:
    """Denoise candidates from uniform noise, all of them together.

    Args:
        model: The score model, on the device to use.
        hosts: Host of each candidate; a repeated object is encoded once.
        generators: Random generator of each candidate.
        settings: Steps, predictor and corrector; settings of `repaint` and `td` are not used.

    Returns:
        For each candidate its sites (n_sites, 3), Angstrom, inside the cell.
    """
    return _Sampling.of(model, hosts, generators, settings).run()


@dataclass(frozen=True, kw_only=True)
class _Sampling:
    """Candidates that are denoised together; one array contains the sites of all."""

    model: HostNet
    denoise: Callable[[HostEncoding, SiteGraph], Tensor]
    hosts: list[Host]  # distinct hosts
    encoding: HostEncoding
    owner: list[int]  # index of each candidate's host
    ends: np.ndarray  # end of each candidate but the last, among the sites
    generators: Sequence[np.random.Generator]
    settings: SamplerSettings

    @classmethod
    def of(
        cls,
        model: HostNet,
        hosts: Sequence[Host],
        generators: Sequence[np.random.Generator],
        settings: SamplerSettings,
    ) -> _Sampling:
        distinct = list({id(host): host for host in hosts}.values())
        place = {id(host): number for number, host in enumerate(distinct)}
        return cls(
            model=model,
            denoise=(CompiledHostNet(model) if model.device.type == "cpu" else model).denoise,
            hosts=distinct,
            encoding=encode_hosts(model, distinct),
            owner=[place[id(host)] for host in hosts],
            ends=np.cumsum([host.n_sites for host in hosts])[:-1],
            generators=generators,
            settings=settings,
        )

    def run(self) -> list[np.ndarray]:
        """Denoise from the highest to the lowest noise level."""
        settings = self.settings
        positions = self._drawn(
            lambda generator, host: generator.random((host.n_sites, 3)) @ host.cell
        )
        with torch.inference_mode():
            for sigma, sigma_next in itertools.pairwise(noise_levels(settings.steps).tolist()):
                for _ in range(settings.corrector_steps):
                    score = self._displacement(positions, sigma) / sigma**2
                    positions = positions + self._langevin(score, self._noise(), sigma)
                share, spread = _predictor(settings, sigma, sigma_next)
                mean = positions + share * self._displacement(positions, sigma)
                positions = mean + spread * self._noise()
        pairs = zip(np.split(positions, self.ends), self.owner, strict=True)
        return [wrap(sites, self.hosts[owner].cell) for sites, owner in pairs]

    def _displacement(self, positions: np.ndarray, sigma: float) -> np.ndarray:
        """Return the displacement (n, 3) of each site to its expected position."""
        parts = np.split(positions, self.ends)
        draws = [Draw(owner, part, sigma) for owner, part in zip(self.owner, parts, strict=True)]
        graph = site_graph(self.hosts, draws, self.model.config).to(self.model.device)
        return np.asarray(self.denoise(self.encoding, graph).double().cpu().numpy())

    def _drawn(self, draw: Callable[[np.random.Generator, Host], np.ndarray]) -> np.ndarray:
        """Join the random numbers of all candidates, each from its own generator."""
        pairs = zip(self.generators, self.owner, strict=True)
        return np.concatenate([draw(generator, self.hosts[owner]) for generator, owner in pairs])

    def _noise(self) -> np.ndarray:
        return self._drawn(lambda generator, host: generator.standard_normal((host.n_sites, 3)))

    def _langevin(self, score: np.ndarray, noise: np.ndarray, sigma: float) -> np.ndarray:
        """Return the displacements (n, 3) of one corrector step; see `corrector.py`."""
        moves = []
        for s, z in zip(np.split(score, self.ends), np.split(noise, self.ends), strict=True):
            ratio = self.settings.snr * sigma
            if self.settings.corrector_rule == "score":
                ratio = self.settings.snr * float(np.linalg.norm(z) / np.linalg.norm(s))
            size = min(2.0 * ratio**2, MAX_STEP_SIZE)
            moves.append(size * s + np.sqrt(2.0 * size) * z)
        return np.concatenate(moves)


def _predictor(settings: SamplerSettings, sigma: float, sigma_next: float) -> tuple[float, float]:
    """Return the share of the displacement to apply, and the noise to add in Angstrom.

    See `xtalfill.proposals.diffusion.wrapped_sde.predictor_coefficients`.
    """
    if settings.predictor == "ancestral":
        share = 1.0 - (sigma_next / sigma) ** 2
        return share, sigma_next * np.sqrt(share)
    return 1.0, settings.renoise * sigma_next if settings.predictor == "x0_renoise" else 0.0


def wrap(positions: np.ndarray, cell: np.ndarray) -> np.ndarray:
    """Return positions (n, 3) wrapped into the cell, Angstrom."""
    fractions = positions @ np.linalg.inv(cell)
    return (fractions - np.floor(fractions)) @ cell
