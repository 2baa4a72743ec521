"""Methods that number the distinct ways to fill a host: voids and symmetric."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice

import numpy as np

from xtalfill.core.batch import Batch
from xtalfill.core.crystal import Crystal
from xtalfill.models.graphs import Host
from xtalfill.proposals.diffusion.site_sampler import candidate_generator
from xtalfill.proposals.methods import SYMMETRIC, VOIDS
from xtalfill.proposals.orbits import symmetric_ways
from xtalfill.proposals.voids import void_choices


@dataclass(frozen=True)
class Enumerated:
    """A method that numbers the distinct ways to fill a host.

    Attributes:
        ways: Yields the ways, each with its sites (n_sites, 3) in Angstrom, for a host, the seed of
            the run and the id of the structure.
        what: What the ways fill.
        none: Why there is no way at all.
    """

    ways: Callable[[Host, int, str], Iterator[np.ndarray]]
    what: str
    none: str


def _void_ways(host: Host, _seed: int, _structure_id: str) -> Iterator[np.ndarray]:
    crystal = Crystal(host.numbers, host.positions, host.cell)
    return void_choices(crystal, host.element, host.n_sites)


def _orbit_ways(host: Host, seed: int, structure_id: str) -> Iterator[np.ndarray]:
    crystal = Crystal(host.numbers, host.positions, host.cell)

    def generator(sample: int) -> np.random.Generator:
        return candidate_generator(seed=seed, structure_id=structure_id, sample=sample)

    ways = symmetric_ways(crystal, host.element, host.n_sites, generator=generator)
    return (way.scaled @ host.cell for way in ways)


# Name of the method (registry/methods.json) -> how it numbers its ways.
ENUMERATED = {
    VOIDS: Enumerated(_void_ways, "voids", "the host has no void to fill"),
    SYMMETRIC: Enumerated(_orbit_ways, "orbits", "the host has no room for the missing sites"),
}


class Ways:
    """The ways to fill the hosts of a batch; each way is searched once.

    Args:
        batch: A batch from CHECK.
    """

    def __init__(self, batch: Batch) -> None:
        self._first = {name: members[0] for name, members in batch.groups().items()}
        self._batch = batch
        self._found: dict[tuple[str, str], tuple[list[np.ndarray], Iterator[np.ndarray]]] = {}

    def of(self, structure_id: str, method: str, count: int) -> list[np.ndarray]:
        """Return up to `count` ways of a method to fill the host of a structure."""
        key = structure_id, method
        if key not in self._found:
            index = self._first[structure_id]
            host, seed = host_of(self._batch, index), int(self._batch.seed[index])
            self._found[key] = [], ENUMERATED[method].ways(host, seed, structure_id)
        ways, others = self._found[key]
        ways += islice(others, max(0, count - len(ways)))
        return ways[:count]


def host_of(batch: Batch, index: int) -> Host:
    """Return the host of system `index` and its missing sites."""
    here = batch.atoms_slice(index)
    is_host, numbers = batch.is_host[here], batch.atomic_numbers[here]
    return Host(
        numbers=numbers[is_host],
        positions=batch.positions[here][is_host],
        cell=batch.cell[index],
        element=int(numbers[~is_host][0]),
        n_sites=int((~is_host).sum()),
    )
