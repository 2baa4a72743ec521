"""Group candidates for sampling: a few of one host on a CPU, as many as fit on a GPU.

Values computed together may round differently from values computed alone. On a CPU the candidates
of a host are therefore sampled in fixed chunks, and each chunk is computed completely even if only
part of it is needed. No candidate then depends on the batch or on the number of candidates. A GPU
has no fixed order of summation, so there the chunks of many hosts are joined, without the unneeded
candidates.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from xtalfill.models.graphs import Host
from xtalfill.proposals.diffusion.site_sampler import candidate_generator

CHUNK = 5

# Samples the sites of candidates from their hosts and generators.
Propose = Callable[[Sequence[Host], Sequence[np.random.Generator]], list[np.ndarray]]


@dataclass(frozen=True)
class SampleBatch:
    """Candidates of one host with consecutive sample numbers.

    Attributes:
        structure_id: Id of the structure.
        seed: Seed of the run.
        host: The host.
        first: First sample of the chunk, a multiple of `CHUNK`.
        wanted: Sample -> system of the batch, for the needed samples.
    """

    structure_id: str
    seed: int
    host: Host
    first: int
    wanted: dict[int, int]

    def generator(self, sample: int) -> np.random.Generator:
        """Return the random generator of one candidate."""
        return candidate_generator(seed=self.seed, structure_id=self.structure_id, sample=sample)

    @property
    def systems(self) -> set[int]:
        """The needed systems of the batch."""
        return set(self.wanted.values())

    @property
    def n_atoms(self) -> int:
        """Total number of sites of the needed candidates, host and missing ones."""
        return len(self.wanted) * (len(self.host.numbers) + self.host.n_sites)


def on_cpu(propose: Propose, chunk: SampleBatch) -> dict[int, np.ndarray]:
    """Sample a chunk; the result depends on seed, id and sample alone.

    Returns:
        System -> its sites (n_sites, 3), Angstrom.
    """
    samples = range(chunk.first, chunk.first + CHUNK)
    sites = propose([chunk.host] * CHUNK, [chunk.generator(sample) for sample in samples])
    found = dict(zip(samples, sites, strict=True))
    return {system: found[sample] for sample, system in chunk.wanted.items()}


def on_gpu(propose: Propose, chunks: Sequence[SampleBatch]) -> dict[int, np.ndarray]:
    """Sample the needed candidates of several chunks together; split them if memory is exhausted.

    Returns:
        System -> its sites (n_sites, 3), Angstrom.
    """
    rows = [
        (system, chunk.host, chunk.generator(sample))
        for chunk in chunks
        for sample, system in chunk.wanted.items()
    ]
    try:
        sites = propose([host for _, host, _ in rows], [generator for _, _, generator in rows])
    except torch.cuda.OutOfMemoryError:
        if len(chunks) == 1:
            raise
        middle = len(chunks) // 2
    else:
        return {system: found for (system, _, _), found in zip(rows, sites, strict=True)}
    torch.cuda.empty_cache()
    return on_gpu(propose, chunks[:middle]) | on_gpu(propose, chunks[middle:])


def loads(chunks: Sequence[SampleBatch], *, max_atoms: int) -> Iterator[list[SampleBatch]]:
    """Group chunks into loads of at most `max_atoms` atoms; a larger chunk is a load of its own."""
    load: list[SampleBatch] = []
    for chunk in chunks:
        if load and sum(other.n_atoms for other in load) + chunk.n_atoms > max_atoms:
            yield load
            load = []
        load.append(chunk)
    if load:
        yield load
