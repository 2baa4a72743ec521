"""The stage INPAINT on a batch: every proposal method fills the same arrays."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any, TextIO

import numpy as np
import torch

from xtalfill.batch import REFERENCE, Batch, Stage
from xtalfill.errors import ConfigError
from xtalfill.inpaint.random_sites import random_sites
from xtalfill.inpaint.sampler import candidate_generator, encode_host, sample_sites
from xtalfill.model.graphs import Host
from xtalfill.model.hostnet import MAX_ATOMIC_NUMBER, HostNet
from xtalfill.record import package_versions

STAGE = "inpaint"
VERSIONS = ("numpy", "torch", "numba")

# Proposes the sites (n_sites, 3) of one candidate of one host, in Angstrom.
Proposal = Callable[[np.random.Generator], np.ndarray]


def inpaint_batch(
    batch: Batch,
    model: HostNet,
    *,
    steps: int,
    weights: dict[str, str],
    progress: TextIO = sys.stderr,
    progress_seconds: float = 30.0,
) -> None:
    """Add the stage inpaint to `batch`; host sites keep their bits.

    Args:
        batch: As CHECK wrote it.
        model: The score model of the method "host".
        steps: Noise levels.
        weights: Name -> sha256 of the weights in use, for the record of the batch.
        progress: Where a line goes every `progress_seconds`.
        progress_seconds: Seconds between two such lines.

    Raises:
        ConfigError: A method of the batch is unknown.
    """
    check_methods(batch, model, steps)
    positions = batch.positions.copy()
    last = time.monotonic()
    groups = batch.groups()
    for number, (structure_id, members) in enumerate(groups.items()):
        proposals: dict[str, Proposal] = {}
        for index in members:
            if batch.status[index] == "failed" or not _is_known(batch, index):
                continue
            method = batch.method[index]
            if method not in proposals:
                proposals[method] = METHODS[method](host_of(batch, index), model, steps)
            _fill(batch, index, proposals[method], positions)
        if time.monotonic() - last > progress_seconds:
            last = time.monotonic()
            print(f"{STAGE}: {number + 1}/{len(groups)} structures, {structure_id}", file=progress)
    attrs: dict[str, Any] = {
        "steps": steps,
        "weights": weights,
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


def check_methods(batch: Batch, model: HostNet, steps: int) -> None:
    """Refuse, before any work, what cannot be run.

    Raises:
        ConfigError: An unknown method or no noise level at all.
    """
    unknown = sorted(set(batch.method) - set(METHODS) - {REFERENCE})
    if unknown:
        raise ConfigError(f"method {unknown[0]} is unknown; choose from {', '.join(METHODS)}")
    if steps < 1:
        raise ConfigError(f"steps is {steps}; it must be at least 1")
    if not all(bool(torch.isfinite(value).all()) for value in model.parameters()):
        raise ConfigError("the weights of the score model are not finite; train or restore them")


def _is_known(batch: Batch, index: int) -> bool:
    """Tell whether the score model has all elements of a system; a system it lacks fails."""
    largest = int(batch.atomic_numbers[batch.atoms_slice(index)].max())
    if largest <= MAX_ATOMIC_NUMBER:
        return True
    batch.fail(index, f"{STAGE}: the score model knows elements up to {MAX_ATOMIC_NUMBER}")
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


def _host_method(host: Host, model: HostNet, steps: int) -> Proposal:
    """Diffusion in the exact host, encoded once for all candidates."""
    encoding = encode_host(model, host)
    return lambda generator: sample_sites(model, encoding, host, steps=steps, generator=generator)


def _random_method(host: Host, _model: HostNet, _steps: int) -> Proposal:
    """Uniform placement with a distance filter."""
    return lambda generator: random_sites(host, generator=generator)


METHODS: dict[str, Callable[[Host, HostNet, int], Proposal]] = {
    "host": _host_method,
    "random": _random_method,
}
