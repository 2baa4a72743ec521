"""Which candidates are denoised together: a few of one host on a CPU, as many as fit on a GPU.

Numbers computed together may round differently from numbers computed alone. On a CPU candidates
of a host are therefore drawn in fixed chunks, complete even where not all of a chunk is asked
for: what is in the batch, and how many candidates there are, cannot change a bit of any. A GPU
sums in no fixed order anyway; there the chunks of many hosts are joined, without fillers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from xtalfill.models.graphs import Host
from xtalfill.proposals.diffusion.site_sampler import candidate_generator

CHUNK = 5

# Draws the sites of candidates, given their hosts and generators.
Propose = Callable[[Sequence[Host], Sequence[np.random.Generator]], list[np.ndarray]]


@dataclass(frozen=True)
class SampleBatch:
    """Candidates of one host whose samples follow each other.

    Attributes:
        structure_id: Of the structure.
        seed: Of the run.
        host: Of the structure.
        first: The first sample of the chunk, a multiple of `CHUNK`.
        wanted: Sample -> system of the batch; only these are asked for.
    """

    structure_id: str
    seed: int
    host: Host
    first: int
    wanted: dict[int, int]

    def generator(self, sample: int) -> np.random.Generator:
        """Return the source of all randomness of one candidate."""
        return candidate_generator(seed=self.seed, structure_id=self.structure_id, sample=sample)

    @property
    def systems(self) -> set[int]:
        """The systems of the batch that are asked for."""
        return set(self.wanted.values())

    @property
    def n_atoms(self) -> int:
        """Sites of all its wanted candidates, host and missing ones."""
        return len(self.wanted) * (len(self.host.numbers) + self.host.n_sites)


def on_cpu(propose: Propose, chunk: SampleBatch) -> dict[int, np.ndarray]:
    """Draw a chunk; every bit depends on seed, id and sample alone.

    Returns:
        System -> its sites (n_sites, 3), Angstrom.
    """
    samples = range(chunk.first, chunk.first + CHUNK)
    sites = propose([chunk.host] * CHUNK, [chunk.generator(sample) for sample in samples])
    found = dict(zip(samples, sites, strict=True))
    return {system: found[sample] for sample, system in chunk.wanted.items()}


def on_gpu(propose: Propose, chunks: Sequence[SampleBatch]) -> dict[int, np.ndarray]:
    """Draw the wanted candidates of chunks together, in halves where memory runs out.

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
    """Share chunks out over loads of at most `max_atoms` atoms; a larger chunk is a load alone."""
    load: list[SampleBatch] = []
    for chunk in chunks:
        if load and sum(other.n_atoms for other in load) + chunk.n_atoms > max_atoms:
            yield load
            load = []
        load.append(chunk)
    if load:
        yield load
