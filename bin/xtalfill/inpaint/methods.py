"""The proposal methods: each fills the missing sites of one host in its own way."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from xtalfill.inpaint.crystal_sampler import check_method, sample_crystals
from xtalfill.inpaint.models import KIND_OF_METHOD, ScoreModels
from xtalfill.inpaint.random_sites import random_sites
from xtalfill.inpaint.sampler import encode_host, sample_sites
from xtalfill.inpaint.settings import SamplerSettings
from xtalfill.model.crystals import Crystals
from xtalfill.model.gemnet import MAX_ATOMIC_NUMBER as GEMNET_ELEMENTS
from xtalfill.model.gemnet import GemNetScore
from xtalfill.model.graphs import Host
from xtalfill.model.hostnet import MAX_ATOMIC_NUMBER as HOSTNET_ELEMENTS
from xtalfill.model.hostnet import HostNet

# Proposes the sites (n_sites, 3) of one candidate of one host, in Angstrom.
Proposal = Callable[[np.random.Generator], np.ndarray]
METHODS = (*KIND_OF_METHOD, "random")
_ANY_ELEMENT = 118


@dataclass(frozen=True)
class Method:
    """A method with all it needs but the host.

    Attributes:
        name: One of `METHODS`.
        models: Holds the model of the method.
        settings: How to sample.

    Raises:
        ConfigError: Model or settings do not fit the method.
    """

    name: str
    models: ScoreModels
    settings: SamplerSettings

    def __post_init__(self) -> None:
        network = self.models.of_method(self.name)
        if isinstance(network, GemNetScore):
            check_method(self.name, self.settings, per_site_times=network.per_site_times)

    @property
    def largest_element(self) -> int:
        """Largest atomic number that the model knows."""
        network = self.models.of_method(self.name)
        if network is None:
            return _ANY_ELEMENT
        return HOSTNET_ELEMENTS if isinstance(network, HostNet) else GEMNET_ELEMENTS

    def proposal(self, host: Host) -> Proposal:
        """Prepare a host; what comes back draws one candidate after the other."""
        network = self.models.of_method(self.name)
        if isinstance(network, HostNet):
            return self._in_host(network, host)
        if isinstance(network, GemNetScore):
            return self._in_crystal(network, host)
        return lambda generator: random_sites(host, generator=generator)

    def _in_host(self, network: HostNet, host: Host) -> Proposal:
        """Diffusion in the exact host, encoded once for all candidates."""
        encoding = encode_host(network, host)
        return lambda generator: sample_sites(
            network, encoding, host, settings=self.settings, generator=generator
        )

    def _in_crystal(self, network: GemNetScore, host: Host) -> Proposal:
        """Diffusion of the whole crystal; one candidate at a time, so its bits are its own."""
        n_host, n_atoms = len(host.numbers), len(host.numbers) + host.n_sites
        fractions = np.zeros((n_atoms, 3))
        fractions[:n_host] = host.positions @ np.linalg.inv(host.cell)
        crystal = Crystals(
            fractions=torch.from_numpy(fractions),
            cell=torch.from_numpy(host.cell[None]),
            numbers=torch.tensor([*host.numbers, *[host.element] * host.n_sites]),
            structure=torch.zeros(n_atoms, dtype=torch.int64),
        )

        def propose(generator: np.random.Generator) -> np.ndarray:
            found = sample_crystals(
                network,
                crystal,
                torch.arange(n_atoms) < n_host,
                method=self.name,
                settings=self.settings,
                generators=[generator],
            )
            return np.asarray(found.numpy() @ host.cell)

        return propose
