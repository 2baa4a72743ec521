"""The stage INPAINT for a batch: all proposal methods fill the same arrays."""

from __future__ import annotations

import sys
import time
from collections.abc import Container, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, TextIO

import numpy as np

from xtalfill.core.batch import REFERENCE, Batch, Stage
from xtalfill.core.checkpoint import Checkpoint
from xtalfill.core.device import torch_device
from xtalfill.core.errors import ConfigError
from xtalfill.core.record import package_versions
from xtalfill.core.settings import parameters_of
from xtalfill.proposals.clearance import record_arrays, write_sites
from xtalfill.proposals.diffusion.sample_batches import CHUNK, SampleBatch, loads, on_cpu, on_gpu
from xtalfill.proposals.diffusion.settings import SamplerSettings
from xtalfill.proposals.methods import PROPOSERS, SYMMETRIC, Method
from xtalfill.proposals.molecules import instead_of_molecules
from xtalfill.proposals.orbits import TOLERANCE
from xtalfill.proposals.orders import Numbers, Order, order_candidates, settings_of
from xtalfill.proposals.score_models import ScoreModels
from xtalfill.proposals.ways import ENUMERATED, Ways, host_of
from xtalfill.registry.methods import METHODS
from xtalfill.registry.mix import MIX, Mix, Source, read_mix

STAGE = "inpaint"
SOURCE = "source"  # array: where each candidate comes from
VERSIONS = ("numpy", "torch", "numba")


@dataclass(frozen=True, kw_only=True)
class InpaintSettings:
    """The parameters of the stage INPAINT.

    Attributes:
        samples: Candidates for each structure and method; method mix may have more proposals.
        oversample: Proposals for each candidate.
        sampler: How to sample.
        device: Where the score models run.
        max_atoms_per_batch: On a GPU: atoms of the candidates that are denoised together.
    """

    samples: int
    oversample: int
    sampler: SamplerSettings
    device: Literal["cpu", "cuda"]
    max_atoms_per_batch: int

    @property
    def numbers(self) -> Numbers:
        """How many proposals the candidates are chosen from."""
        return Numbers(self.samples, self.oversample)

    def recorded(self) -> dict[str, Any]:
        """Return the parameters for the record of the task."""
        sampler = {name: getattr(self.sampler, name) for name in parameters_of(SamplerSettings)}
        return {
            "samples": self.samples,
            "oversample": self.oversample,
            **sampler,
            "device": self.device,
            "max_atoms_per_batch": self.max_atoms_per_batch,
        }


def inpaint_batch(
    batch: Batch,
    models: ScoreModels,
    settings: SamplerSettings,
    *,
    numbers: Numbers | None = None,
    mix: Mix | None = None,
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
        numbers: How many proposals of method mix are candidates; None for all of them.
        mix: Sources and shares of method mix; None reads those that come with xtalfill.
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
    known_methods(batch.method.tolist())
    ways, mix = Ways(batch), mix or read_mix()
    numbers = numbers or Numbers()
    orders = order_candidates(batch, mix, models, settings, ways, numbers=numbers)
    drawn = {} if checkpoint is None else {int(i): xyz for i, xyz in checkpoint.found.items()}
    last = time.monotonic()
    for source, wanted in _by_source(orders, PROPOSERS):
        method = Method(source.method, models, settings_of(source, settings))
        chunks = [one for one in _chunks(batch, wanted, method) if not drawn.keys() >= one.systems]
        total, done = sum(len(chunk.wanted) for chunk in chunks), 0
        for found in _draw(method, chunks, device=device, max_atoms=max_atoms):
            drawn.update(found)
            if checkpoint is not None:
                checkpoint.step(lambda: {str(index): sites for index, sites in drawn.items()})
            done += len(found)
            if time.monotonic() - last > progress_seconds:
                last = time.monotonic()
                print(f"{STAGE}: {source.name}, {done}/{total} candidates", file=progress)
    orders |= instead_of_molecules(batch, orders, drawn, mix, ways)
    arrays = {
        "positions": batch.positions.copy(),
        **record_arrays(batch.n_systems),
        SOURCE: _source_names(batch, orders),
    }
    for index in sorted(drawn):
        if orders[index].source.method in PROPOSERS:
            _fill(batch, index, drawn[index], arrays)
    for _, wanted in _by_source(orders, ENUMERATED):
        _fill_ways(batch, wanted, ways, arrays)
    attrs = _provenance(settings, models, device) | {"oversample": numbers.oversample}
    if any(order.source.method == SYMMETRIC for order in orders.values()):
        attrs["symmetry_tolerance"] = TOLERANCE
    if (batch.method == MIX).any():
        attrs["mix"] = asdict(mix)
    batch.stages[STAGE] = Stage(arrays, attrs)


def _by_source(
    orders: Mapping[int, Order], methods: Container[str]
) -> list[tuple[Source, dict[int, Order]]]:
    """Return the sources of some methods, each with its candidates."""
    found: dict[Source, dict[int, Order]] = {}
    for index, order in orders.items():
        if order.source.method in methods:
            found.setdefault(order.source, {})[index] = order
    return sorted(found.items(), key=lambda item: item[0].name)


def _source_names(batch: Batch, orders: Mapping[int, Order]) -> np.ndarray:
    """Return the source (n_systems,) of each candidate; empty for a reference."""
    names = np.where(batch.method == REFERENCE, "", batch.method).astype(object)
    for index, order in orders.items():
        names[index] = order.source.name
    return names


def _provenance(settings: SamplerSettings, models: ScoreModels, device: str) -> dict[str, Any]:
    """Return what the candidates were sampled with, as plain JSON values."""
    return {
        **asdict(settings),
        "device": device,
        "weights": models.checksums,
        "versions": package_versions(VERSIONS),
    }


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


def _chunks(batch: Batch, wanted: Mapping[int, Order], method: Method) -> list[SampleBatch]:
    """Return the candidates that a source has to sample."""
    chunks: list[SampleBatch] = []
    for (structure_id, _, source), members in _grouped(batch, wanted).items():
        usable = [index for index in members if _knows(method, batch, index)]
        parts: dict[int, dict[int, int]] = {}
        for index in usable:
            number = wanted[index].number
            parts.setdefault(number // CHUNK * CHUNK, {})[number] = index
        for first, numbers in parts.items():
            chunk = SampleBatch(
                structure_id=source.stream(structure_id),
                seed=int(batch.seed[usable[0]]),
                host=host_of(batch, usable[0]),
                first=first,
                wanted=numbers,
            )
            chunks.append(chunk)
    return chunks


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


def _fill_ways(
    batch: Batch, wanted: Mapping[int, Order], ways: Ways, arrays: dict[str, np.ndarray]
) -> None:
    """Fill the candidates of numbered ways; those beyond the number of ways are absent."""
    for (_, _, source), members in _grouped(batch, wanted).items():
        method = ENUMERATED[source.method]
        count = 1 + max(wanted[index].number for index in members)
        found = ways.of(batch.id[members[0]], source.method, count)
        for index in members:
            number = wanted[index].number
            if number < len(found):
                _fill(batch, index, found[number], arrays)
            elif found:
                reason = f"the host has {len(found)} distinct way(s) to fill {method.what}"
                batch.mark_absent(index, f"{STAGE}: {reason}")
            else:
                batch.fail(index, f"{STAGE}: {method.none}")


def _grouped(batch: Batch, wanted: Mapping[int, Order]) -> dict[tuple[str, str, Source], list[int]]:
    """Return the candidates of each structure, method and source."""
    found: dict[tuple[str, str, Source], list[int]] = {}
    for index, order in wanted.items():
        key = (str(batch.id[index]), str(batch.method[index]), order.source)
        found.setdefault(key, []).append(index)
    return found


def _fill(batch: Batch, index: int, sites: np.ndarray, arrays: dict[str, np.ndarray]) -> None:
    """Write the sites of one candidate, or its failure as status."""
    if not np.isfinite(sites).all():
        batch.fail(
            index, f"{STAGE}: sampling produced NaN or infinite coordinates; increase --steps"
        )
        return
    write_sites(batch, index, sites, arrays)
