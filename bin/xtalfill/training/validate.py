"""How good a model is on held-out chemical systems: match rate of single candidates."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from pymatgen.analysis.structure_matcher import StructureMatcher
from pymatgen.core import Lattice, Structure

from xtalfill.inpaint.sampler import candidate_generator, encode_host, sample_sites
from xtalfill.model.graphs import Draw, host_graph, site_graph
from xtalfill.model.hostnet import HostNet
from xtalfill.training.data import HYDROGEN, Crystals, Task, remove_sublattice
from xtalfill.training.target import expected_displacement


@dataclass(frozen=True)
class Validation:
    """Result of one validation.

    Attributes:
        loss: Mean squared error of the displacement in units of its expected size.
        loss_by_level: The same for each fixed noise level.
        match: Share of single candidates that match, before any relaxation.
    """

    loss: float
    loss_by_level: dict[float, float]
    match: float


LEVELS = (0.05, 0.15, 0.4, 0.8, 1.5, 3.0)


def validation_tasks(crystals: Crystals, *, count: int, seed: int) -> list[Task]:
    """Return hydrogen tasks of held-out systems, a seeded choice of at most `count`."""
    held_out = np.flatnonzero(crystals.is_validation & crystals.has_hydrogen)
    rng = np.random.default_rng(seed)
    chosen = np.sort(rng.permutation(held_out)[:count])
    tasks = []
    for index in chosen:
        numbers, positions, cell = crystals.crystal(int(index))
        removed = numbers == HYDROGEN
        if not removed.all():
            tasks.append(remove_sublattice(numbers, positions, cell, removed))
    return tasks


def is_match(task: Task, sites: np.ndarray) -> bool:
    """Tell whether sites (n, 3) restore the task's crystal (StructureMatcher 0.2/0.3/5)."""
    host = task.host
    species = [*host.numbers.tolist(), *[host.element] * host.n_sites]

    def crystal(filled: np.ndarray) -> Structure:
        coordinates = np.concatenate([host.positions, filled])
        return Structure(Lattice(host.cell), species, coordinates, coords_are_cartesian=True)

    matcher = StructureMatcher(ltol=0.2, stol=0.3, angle_tol=5)
    return bool(matcher.fit(crystal(task.sites), crystal(sites)))


def validation_loss(model: HostNet, tasks: list[Task], *, seed: int) -> dict[float, float]:
    """Return the loss at each fixed noise level; the noise is the same at every call."""
    losses: dict[float, list[float]] = {level: [] for level in LEVELS}
    rng = np.random.default_rng(seed)
    for task in tasks:
        with torch.inference_mode():
            encoding = model.encode(host_graph([task.host], model.config))
        for level in LEVELS:
            noised = task.sites + level * rng.normal(size=task.sites.shape)
            graph = site_graph([task.host], [Draw(0, noised, level)], model.config)
            target = expected_displacement(noised, task.sites, task.host.cell, level)
            with torch.inference_mode():
                predicted = model.denoise(encoding, graph).numpy()
                scale = float(model.output_scale(graph.sigma)[0])
            losses[level].append(float(np.mean(((predicted - target) / scale) ** 2)))
    return {level: float(np.mean(values)) for level, values in losses.items()}


def validate(model: HostNet, tasks: list[Task], *, steps: int, seed: int) -> Validation:
    """Measure loss and match rate of one candidate a task.

    Args:
        model: The network, in evaluation mode.
        tasks: Held-out tasks.
        steps: Noise levels of the sampler.
        seed: Of the noise.
    """
    by_level = validation_loss(model, tasks, seed=seed)
    matches = []
    for number, task in enumerate(tasks):
        generator = candidate_generator(seed=seed, structure_id=str(number), sample=0)
        encoding = encode_host(model, task.host)
        sites = sample_sites(model, encoding, task.host, steps=steps, generator=generator)
        matches.append(is_match(task, sites))
    return Validation(float(np.mean(list(by_level.values()))), by_level, float(np.mean(matches)))
