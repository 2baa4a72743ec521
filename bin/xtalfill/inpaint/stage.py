"""The stage INPAINT on a batch: every proposal method fills the same arrays."""

from __future__ import annotations

import sys
import time
from dataclasses import asdict
from typing import Any, TextIO

import numpy as np

from xtalfill.batch import REFERENCE, Batch, Stage
from xtalfill.errors import ConfigError
from xtalfill.inpaint.methods import METHODS, Method, Proposal
from xtalfill.inpaint.models import ScoreModels
from xtalfill.inpaint.sampler import candidate_generator
from xtalfill.inpaint.settings import SamplerSettings
from xtalfill.model.graphs import Host
from xtalfill.record import package_versions

STAGE = "inpaint"
VERSIONS = ("numpy", "torch", "numba")


def inpaint_batch(
    batch: Batch,
    models: ScoreModels,
    settings: SamplerSettings,
    *,
    progress: TextIO = sys.stderr,
    progress_seconds: float = 30.0,
) -> None:
    """Add the stage inpaint to `batch`; host sites keep their bits.

    Args:
        batch: As CHECK wrote it.
        models: The score models of the batch's methods.
        settings: How to sample.
        progress: Where a line goes every `progress_seconds`.
        progress_seconds: Seconds between two such lines.

    Raises:
        ConfigError: A method is unknown, or model or settings do not fit it.
    """
    methods = {
        name: Method(name, models, settings) for name in known_methods(batch.method.tolist())
    }
    positions = batch.positions.copy()
    last = time.monotonic()
    groups = batch.groups()
    for number, (structure_id, members) in enumerate(groups.items()):
        proposals: dict[str, Proposal] = {}
        for index in members:
            method = methods[batch.method[index]]
            if batch.status[index] == "failed" or not _knows(method, batch, index):
                continue
            if method.name not in proposals:
                proposals[method.name] = method.proposal(host_of(batch, index))
            _fill(batch, index, proposals[method.name], positions)
        if time.monotonic() - last > progress_seconds:
            last = time.monotonic()
            print(f"{STAGE}: {number + 1}/{len(groups)} structures, {structure_id}", file=progress)
    attrs: dict[str, Any] = {
        **asdict(settings),
        "weights": models.checksums,
        "versions": package_versions(VERSIONS),
    }
    batch.stages[STAGE] = Stage({"positions": positions}, attrs)


def host_of(batch: Batch, index: int) -> Host:
    """Return the host of system `index` and what is missing in it."""
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
    """Return the distinct proposal methods among `names`, references aside.

    Raises:
        ConfigError: One is unknown.
    """
    found = sorted(set(names) - {REFERENCE})
    for name in found:
        if name not in METHODS:
            raise ConfigError(f"method {name} is unknown; choose from {', '.join(METHODS)}")
    return found


def _knows(method: Method, batch: Batch, index: int) -> bool:
    """Tell whether the score model has all elements of a system; a system it lacks fails."""
    largest = int(batch.atomic_numbers[batch.atoms_slice(index)].max())
    if largest <= method.largest_element:
        return True
    batch.fail(index, f"{STAGE}: the score model knows elements up to {method.largest_element}")
    return False


def _fill(batch: Batch, index: int, proposal: Proposal, positions: np.ndarray) -> None:
    """Propose one candidate; a failure becomes its status."""
    here = batch.atoms_slice(index)
    generator = candidate_generator(
        seed=int(batch.seed[index]),
        structure_id=batch.id[index],
        sample=int(batch.sample[index]),
    )
    sites = proposal(generator)
    if not np.isfinite(sites).all():
        batch.fail(index, f"{STAGE}: the sampler left finite numbers; try more --steps")
        return
    rows = np.arange(here.start, here.stop)[~batch.is_host[here]]
    positions[rows] = sites
