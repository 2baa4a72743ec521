"""The stage INPAINT for a batch: all proposal methods fill the same arrays."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any, Literal, TextIO

import numpy as np

from xtalfill.core.batch import REFERENCE, Batch, Stage
from xtalfill.core.checkpoint import Checkpoint
from xtalfill.core.crystal import Crystal
from xtalfill.core.device import torch_device
from xtalfill.core.errors import ConfigError
from xtalfill.core.record import package_versions
from xtalfill.core.settings import parameters_of
from xtalfill.models.graphs import Host
from xtalfill.proposals.clearance import record_arrays, write_sites
from xtalfill.proposals.diffusion.sample_batches import CHUNK, SampleBatch, loads, on_cpu, on_gpu
from xtalfill.proposals.diffusion.settings import SamplerSettings
from xtalfill.proposals.diffusion.site_sampler import candidate_generator
from xtalfill.proposals.methods import PROPOSERS, SYMMETRIC, VOIDS, Method
from xtalfill.proposals.orbits import TOLERANCE, symmetric_ways
from xtalfill.proposals.score_models import ScoreModels
from xtalfill.proposals.voids import void_choices
from xtalfill.registry.methods import METHODS

STAGE = "inpaint"
VERSIONS = ("numpy", "torch", "numba")


@dataclass(frozen=True, kw_only=True)
class InpaintSettings:
    """The parameters of the stage INPAINT.

    Attributes:
        sampler: How to sample.
        device: Where the score models run.
        max_atoms_per_batch: On a GPU: atoms of the candidates that are denoised together.
    """

    sampler: SamplerSettings
    device: Literal["cpu", "cuda"]
    max_atoms_per_batch: int

    def recorded(self) -> dict[str, Any]:
        """Return the parameters for the record of the task."""
        sampler = {name: getattr(self.sampler, name) for name in parameters_of(SamplerSettings)}
        return {
            **sampler,
            "device": self.device,
            "max_atoms_per_batch": self.max_atoms_per_batch,
        }


def inpaint_batch(
    batch: Batch,
    models: ScoreModels,
    settings: SamplerSettings,
    *,
    device: str = "cpu",
    max_atoms: int = 2000,
    checkpoint: Checkpoint | None = None,
    progress: TextIO = sys.stderr,
    progress_seconds: float = 30.0,
) -> None:
    """Add the stage inpaint to `batch`; host sites stay bit-identical.

    Args:
        batch: A batch from CHECK.
        models: The score models of the methods in the batch.
        settings: Sampler settings.
        device: "cpu" or "cuda".
        max_atoms: On a GPU: number of atoms that are denoised together.
        checkpoint: Stores finished candidates for another attempt; None stores nothing.
        progress: Stream for a line every `progress_seconds`.
        progress_seconds: Seconds between two such lines.

    Raises:
        ConfigError: A method is unknown, model or settings do not fit it, or there is no GPU.
        TryAgainError: The time limit of the task is reached.
    """
    models.to(torch_device(device))
    names = [name for name in known_methods(batch.method.tolist()) if name in PROPOSERS]
    arrays = {"positions": batch.positions.copy(), **record_arrays(batch.n_systems)}
    drawn = {} if checkpoint is None else {int(i): xyz for i, xyz in checkpoint.found.items()}
    last = time.monotonic()
    for method in [Method(name, models, settings) for name in names]:
        chunks = [one for one in _chunks(batch, method) if not drawn.keys() >= one.systems]
        total, done = sum(len(chunk.wanted) for chunk in chunks), 0
        for found in _draw(method, chunks, device=device, max_atoms=max_atoms):
            drawn.update(found)
            if checkpoint is not None:
                checkpoint.step(lambda: {str(index): sites for index, sites in drawn.items()})
            done += len(found)
            if time.monotonic() - last > progress_seconds:
                last = time.monotonic()
                print(f"{STAGE}: {method.name}, {done}/{total} candidates", file=progress)
    for index in sorted(drawn):
        _fill(batch, index, drawn[index], arrays)
    for enumerated in _ENUMERATED:
        _fill_ways(batch, enumerated, arrays)
    attrs = _provenance(settings, models, device)
    if (batch.method == SYMMETRIC).any():
        attrs["symmetry_tolerance"] = TOLERANCE
    batch.stages[STAGE] = Stage(arrays, attrs)


def _provenance(settings: SamplerSettings, models: ScoreModels, device: str) -> dict[str, Any]:
    """Return what the candidates were sampled with, as plain JSON values."""
    return {
        **asdict(settings),
        "device": device,
        "weights": models.checksums,
        "versions": package_versions(VERSIONS),
    }


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


def known_methods(names: list[str]) -> list[str]:
    """Return the distinct proposal methods among `names`, without references.

    Raises:
        ConfigError: A method is unknown.
    """
    found = sorted(set(names) - {REFERENCE})
    for name in found:
        if name not in METHODS:
            raise ConfigError(f"method {name} is unknown; choose from {', '.join(METHODS)}")
    return found


def _knows(method: Method, batch: Batch, index: int) -> bool:
    """Return whether the score model supports all elements; otherwise the system fails."""
    largest = int(batch.atomic_numbers[batch.atoms_slice(index)].max())
    if largest <= method.largest_element:
        return True
    batch.fail(index, f"{STAGE}: the score model knows elements up to {method.largest_element}")
    return False


def _chunks(batch: Batch, method: Method) -> list[SampleBatch]:
    """Return the candidates that a method has to sample."""
    wanted: dict[tuple[str, int], dict[int, int]] = {}
    for index in np.flatnonzero(batch.method == method.name).tolist():
        if batch.status[index] != "failed" and _knows(method, batch, index):
            sample = int(batch.sample[index])
            first = sample // CHUNK * CHUNK
            wanted.setdefault((batch.id[index], first), {})[sample] = index
    return [
        SampleBatch(
            structure_id=structure_id,
            seed=int(batch.seed[next(iter(members.values()))]),
            host=host_of(batch, next(iter(members.values()))),
            first=first,
            wanted=members,
        )
        for (structure_id, first), members in wanted.items()
    ]


def _draw(
    method: Method, chunks: list[SampleBatch], *, device: str, max_atoms: int
) -> Iterator[dict[int, np.ndarray]]:
    """Sample all candidates of a method in parts: system -> its sites."""
    if device == "cuda":
        for load in loads(chunks, max_atoms=max_atoms):
            yield on_gpu(method.propose, load)
    else:
        for chunk in chunks:
            yield on_cpu(method.propose, chunk)


@dataclass(frozen=True)
class _Enumerated:
    """A method that numbers the distinct ways to fill a host.

    Attributes:
        name: As in --method.
        ways: Returns up to `count` ways, each with its sites (n_sites, 3) in Angstrom, for a host,
            the seed of the run and the id of the structure.
        what: What the ways fill.
        none: Why there is no way at all.
    """

    name: str
    ways: Callable[[Host, int, str, int], list[np.ndarray]]
    what: str
    none: str


def _void_ways(host: Host, _seed: int, _structure_id: str, count: int) -> list[np.ndarray]:
    crystal = Crystal(host.numbers, host.positions, host.cell)
    return void_choices(crystal, host.element, host.n_sites, count=count)


def _orbit_ways(host: Host, seed: int, structure_id: str, count: int) -> list[np.ndarray]:
    crystal = Crystal(host.numbers, host.positions, host.cell)

    def generator(sample: int) -> np.random.Generator:
        return candidate_generator(seed=seed, structure_id=structure_id, sample=sample)

    ways = symmetric_ways(crystal, host.element, host.n_sites, count=count, generator=generator)
    return [way.scaled @ host.cell for way in ways]


_ENUMERATED = (
    _Enumerated(VOIDS, _void_ways, "voids", "the host has no void to fill"),
    _Enumerated(SYMMETRIC, _orbit_ways, "orbits", "the host has no room for the missing sites"),
)


def _fill_ways(batch: Batch, method: _Enumerated, arrays: dict[str, np.ndarray]) -> None:
    """Fill the candidates of a method; those beyond its number of ways are absent."""
    for members in batch.groups_by_method():
        wanted = [
            i for i in members if batch.method[i] == method.name and batch.status[i] != "failed"
        ]
        if not wanted:
            continue
        ways = method.ways(
            host_of(batch, wanted[0]),
            int(batch.seed[wanted[0]]),
            str(batch.id[wanted[0]]),
            int(batch.sample[wanted].max()) + 1,
        )
        for index in wanted:
            if batch.sample[index] < len(ways):
                _fill(batch, index, ways[batch.sample[index]], arrays)
            elif ways:
                reason = f"the host has {len(ways)} distinct way(s) to fill {method.what}"
                batch.mark_absent(index, f"{STAGE}: {reason}")
            else:
                batch.fail(index, f"{STAGE}: {method.none}")


def _fill(batch: Batch, index: int, sites: np.ndarray, arrays: dict[str, np.ndarray]) -> None:
    """Write the sites of one candidate, or its failure as status."""
    if not np.isfinite(sites).all():
        batch.fail(
            index, f"{STAGE}: sampling produced NaN or infinite coordinates; increase --steps"
        )
        return
    write_sites(batch, index, sites, arrays)
