"""The proposal methods, which fill the missing sites of hosts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from torch import Tensor

from xtalfill.models.crystals import Crystals, join_crystals
from xtalfill.models.gemnet import MAX_ATOMIC_NUMBER as GEMNET_ELEMENTS
from xtalfill.models.gemnet import GemNetScore
from xtalfill.models.graphs import Host
from xtalfill.models.hostnet import MAX_ATOMIC_NUMBER as HOSTNET_ELEMENTS
from xtalfill.models.hostnet import HostNet
from xtalfill.proposals.diffusion.crystal_sampler import check_method, sample_crystals
from xtalfill.proposals.diffusion.settings import SamplerSettings
from xtalfill.proposals.diffusion.site_sampler import sample_sites
from xtalfill.proposals.random_sites import random_sites
from xtalfill.proposals.score_models import ScoreModels

# Filled by `xtalfill.proposals.ways`: their candidates depend on those before.
VOIDS = "voids"
SYMMETRIC = "symmetric"
_ANY_ELEMENT = 118


@dataclass(frozen=True)
class Method:
    """A method with its model and settings.

    Attributes:
        name: One of `PROPOSERS`.
        models: Contains the model of the method.
        settings: Sampler settings.

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
        """Largest atomic number that the model supports."""
        network = self.models.of_method(self.name)
        if network is None:
            return _ANY_ELEMENT
        return HOSTNET_ELEMENTS if isinstance(network, HostNet) else GEMNET_ELEMENTS

    def propose(
        self, hosts: Sequence[Host], generators: Sequence[np.random.Generator]
    ) -> list[np.ndarray]:
        """Sample candidates, all of them together.

        Args:
            hosts: Host of each candidate; the same object for candidates of one host.
            generators: Random generator of each candidate.

        Returns:
            For each candidate its sites (n_sites, 3), Angstrom; not finite if the model output is
                not.
        """
        return PROPOSERS[self.name](self, hosts, generators)


def with_sites_to_fill(hosts: Sequence[Host]) -> tuple[Crystals, Tensor]:
    """Return crystals with the missing sites at the origin, and which sites (n,) are known."""
    crystals = join_crystals(hosts, [np.zeros((host.n_sites, 3)) for host in hosts])
    known = [[True] * len(host.numbers) + [False] * host.n_sites for host in hosts]
    return crystals, torch.tensor(np.concatenate(known))


def _sample_sites(
    method: Method, hosts: Sequence[Host], generators: Sequence[np.random.Generator]
) -> list[np.ndarray]:
    """Sample by diffusion of the missing sites."""
    network = cast(HostNet, method.models.of_method(method.name))
    return sample_sites(network, hosts, generators, settings=method.settings)


def _sample_crystals(
    method: Method, hosts: Sequence[Host], generators: Sequence[np.random.Generator]
) -> list[np.ndarray]:
    """Sample by diffusion of the complete crystals."""
    network = cast(GemNetScore, method.models.of_method(method.name))
    crystals, known = with_sites_to_fill(hosts)
    fractions = sample_crystals(
        network,
        crystals.to(network.device),
        known,
        method=method.name,
        settings=method.settings,
        generators=generators,
    ).numpy()
    parts = np.split(fractions, np.cumsum([host.n_sites for host in hosts])[:-1])
    return [part @ host.cell for part, host in zip(parts, hosts, strict=True)]


def _random_sites(
    _method: Method, hosts: Sequence[Host], generators: Sequence[np.random.Generator]
) -> list[np.ndarray]:
    """Place the sites at random."""
    pairs = zip(hosts, generators, strict=True)
    return [random_sites(host, generator=generator) for host, generator in pairs]


Proposer = Callable[[Method, Sequence[Host], Sequence[np.random.Generator]], list[np.ndarray]]
# Name of the method (registry/methods.json) -> its function.
PROPOSERS: dict[str, Proposer] = {
    "host": _sample_sites,
    "td": _sample_crystals,
    "pos": _sample_crystals,
    "repaint": _sample_crystals,
    "mattergen": _sample_crystals,
    "random": _random_sites,
}
