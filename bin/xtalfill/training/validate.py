"""Validation on held-out chemical systems: loss and match rate of single candidates."""

from __future__ import annotations

import numpy as np
import torch
from ase import Atoms
from pymatgen.core import Structure

from xtalfill.core.errors import ConfigError
from xtalfill.core.matching import reduced, same_crystal
from xtalfill.models.graphs import Draw, site_graph
from xtalfill.models.hostnet import HostNet
from xtalfill.models.weights import ScoreNetwork
from xtalfill.proposals.diffusion.settings import SamplerSettings
from xtalfill.proposals.diffusion.site_sampler import candidate_generator, encode_hosts
from xtalfill.proposals.methods import Method
from xtalfill.proposals.score_models import ScoreModels, kind_of
from xtalfill.training.data import HYDROGEN, CrystalSet, Task, remove_sublattice
from xtalfill.training.objective import Validation
from xtalfill.training.target import expected_displacement

_BATCH_SIZE = 16  # tasks
LEVELS = (0.05, 0.15, 0.4, 0.8, 1.5, 3.0)


def validation_tasks(crystals: CrystalSet, *, count: int, seed: int) -> list[Task]:
    """Return up to `count` hydrogen tasks of held-out systems, chosen by `seed`.

    Raises:
        ConfigError: No crystal with hydrogen is held out.
    """
    held_out = np.flatnonzero(crystals.is_validation & crystals.has_hydrogen)
    if not len(held_out):
        raise ConfigError(
            "no crystal with hydrogen is held out, so nothing tells the best weights; mark some in "
            "is_validation of the training files, or name chemical systems with --hold_out"
        )
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
    """Return whether sites (n, 3), Angstrom, restore the crystal of the task."""
    host = task.host
    numbers = [*host.numbers, *[host.element] * host.n_sites]

    def crystal(filled: np.ndarray) -> Structure:
        coordinates = np.concatenate([host.positions, filled])
        return reduced(Atoms(numbers, coordinates, cell=host.cell, pbc=True))

    return same_crystal(crystal(task.sites), crystal(sites))


def validation_loss(model: HostNet, tasks: list[Task], *, seed: int) -> dict[float, float]:
    """Return the loss at each noise level of `LEVELS`, with fixed noise."""
    losses: dict[float, list[float]] = {level: [] for level in LEVELS}
    rng = np.random.default_rng(seed)
    for task in tasks:
        encoding = encode_hosts(model, [task.host])
        for level in LEVELS:
            noised = task.sites + level * rng.normal(size=task.sites.shape)
            draw = Draw(0, noised, level)
            graph = site_graph([task.host], [draw], model.config).to(model.device)
            target = expected_displacement(noised, task.sites, task.host.cell, level)
            with torch.inference_mode():
                predicted = model.denoise(encoding, graph).cpu().numpy()
                scale = float(model.output_scale(graph.sigma)[0])
            losses[level].append(float(np.mean(((predicted - target) / scale) ** 2)))
    return {level: float(np.mean(values)) for level, values in losses.items()}


def validate(model: HostNet, tasks: list[Task], *, steps: int, seed: int) -> Validation:
    """Measure the loss and the match rate of one candidate for each task.

    Args:
        model: Network in evaluation mode.
        tasks: Held-out tasks.
        steps: Number of noise levels of the sampler.
        seed: Seed of the noise.
    """
    by_level = validation_loss(model, tasks, seed=seed)
    match = match_rate(model, tasks, method="host", steps=steps, seed=seed)
    return Validation(float(np.mean(list(by_level.values()))), by_level, match)


def match_rate(
    network: ScoreNetwork, tasks: list[Task], *, method: str, steps: int, seed: int
) -> float:
    """Return the match rate of single candidates, proposed as in INPAINT.

    Args:
        network: Network in evaluation mode, suitable for the method.
        tasks: Held-out tasks.
        method: Proposal method.
        steps: Number of noise levels of the sampler.
        seed: Seed of the noise.
    """
    models = ScoreModels({kind_of(network): network})
    settings = SamplerSettings(steps=steps, predictor="x0_renoise", corrector_steps=0)
    proposing = Method(method, models, settings)
    matches = []
    for first in range(0, len(tasks), _BATCH_SIZE):
        numbers = range(first, min(first + _BATCH_SIZE, len(tasks)))
        proposals = proposing.propose(
            [tasks[number].host for number in numbers],
            [
                candidate_generator(seed=seed, structure_id=str(number), sample=0)
                for number in numbers
            ],
        )
        pairs = zip(numbers, proposals, strict=True)
        matches += [is_match(tasks[number], sites) for number, sites in pairs]
    return float(np.mean(matches))
