"""Screen proposals by energy before the relaxation.

A proposal costs about 1 % of its relaxation, and a single-point energy identifies most bad
proposals. With several proposals for each candidate, only those of lowest energy are relaxed.
"""

from __future__ import annotations

import numpy as np

from xtalfill.core.batch import Batch, Stage
from xtalfill.core.crystal import crystal_of, is_collapsed
from xtalfill.relax.batched import BatchedRelaxer
from xtalfill.relax.deduplicate import active_systems
from xtalfill.relax.interface import Potential
from xtalfill.relax.stage import SITES, fail_unsupported, relaxation_of

STAGE = "screen"


def screen_batch(batch: Batch, potential: Potential, driver: BatchedRelaxer, *, keep: int) -> Batch:
    """Return the batch with at most `keep` proposals of each structure and method.

    Each source of method mix keeps as many as it has among the first `keep` samples: the lowest of
    one source must not displace those of another. The proposals of lowest energy are kept
    unchanged. The energy of a collapsed crystal may be far too low, so collapsed proposals rank
    after all others; failed and absent ones come last. A batch with at most `keep` proposals
    everywhere is returned unchanged.

    Args:
        batch: Batch with the stage "inpaint".
        potential: Interatomic potential.
        driver: Batched evaluation with `potential`.
        keep: Number of proposals to keep, at least 1.

    Returns:
        A batch with the stage "screen": `energy` (n_systems,) of the proposal in eV, NaN where it
        was not computed, and `n_proposals` (n_systems,), the number of proposals compared.

    Raises:
        InputError: The batch has no stage "inpaint".
    """
    fail_unsupported(batch, potential)
    groups = batch.groups_by_method()
    crowded = [index for members in groups if len(members) > keep for index in members]
    if not crowded:
        return batch
    energy = _energies(batch, driver, crowded)
    n_proposals = np.ones(batch.n_systems, dtype=np.int32)
    dropped: set[int] = set()

    def key(index: int) -> tuple[bool, bool, float, int]:
        unknown = bool(np.isnan(energy[index]))
        collapsed = not unknown and is_collapsed(crystal_of(batch, index, "inpaint"))
        return unknown, collapsed, energy[index], batch.sample[index]

    for members in groups:
        n_proposals[members] = int((batch.status[members] != "absent").sum())
        for same in _by_source(batch, members):
            ranked = sorted(same, key=key)
            dropped.update(ranked[sum(batch.sample[index] < keep for index in same) :])
    batch.stages[STAGE] = Stage(
        {"energy": energy, "n_proposals": n_proposals}, {"keep": keep, "mlip": potential.name}
    )
    return batch.subset([index for index in range(batch.n_systems) if index not in dropped])


def _by_source(batch: Batch, members: list[int]) -> list[list[int]]:
    """Return the candidates of a structure and method by what proposed them."""
    source = batch.stages["inpaint"].arrays.get("source", batch.method)
    names = dict.fromkeys(source[index] for index in members)
    return [[index for index in members if source[index] == name] for name in names]


def _energies(batch: Batch, driver: BatchedRelaxer, systems: list[int]) -> np.ndarray:
    """Return the energies (n_systems,) of proposals, eV; NaN where not computed."""
    energy = np.full(batch.n_systems, np.nan)
    usable = active_systems(batch, systems)
    jobs = [relaxation_of(batch, index, SITES, "inpaint") for index in usable]
    results = driver.relax(jobs, fmax=np.inf, max_steps=0)
    for index, result in zip(usable, results, strict=True):
        if result.evaluation is not None:
            energy[index] = result.evaluation.energy
    return energy
