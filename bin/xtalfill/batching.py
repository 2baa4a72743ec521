"""Cut the checked structures into batches of equal cost and lay out their systems."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from xtalfill.batch import REFERENCE, Batch
from xtalfill.hosts import Host
from xtalfill.references import Reference


def plan_batches(costs: dict[str, float], *, batch_size: int) -> list[list[str]]:
    """Share structures among as few batches as `batch_size` allows, at about equal cost.

    The dearest is placed first, each into the cheapest batch that has room (LPT: Graham 1969,
    SIAM J. Appl. Math. 17, 416). The order of `costs` does not matter.

    Args:
        costs: id -> cost in any unit.
        batch_size: Most structures a batch.

    Returns:
        The ids of each batch, sorted.
    """
    n_batches = -(-len(costs) // batch_size)
    batches: list[list[str]] = [[] for _ in range(n_batches)]
    loads = [0.0] * n_batches
    for name in sorted(costs, key=lambda item: (-costs[item], item)):
        open_batches = [i for i in range(n_batches) if len(batches[i]) < batch_size]
        target = min(open_batches, key=lambda i: (loads[i], i))
        batches[target].append(name)
        loads[target] += costs[name]
    return [sorted(batch) for batch in batches]


def build_batch(
    hosts: Sequence[Host],
    references: dict[str, Reference],
    *,
    methods: Sequence[str],
    samples: int,
    seed: int,
) -> Batch:
    """Lay out all systems of some structures: for each its candidates, then its reference.

    Args:
        hosts: The structures.
        references: id -> true structure, where there is one.
        methods: Proposal methods; the layout does not depend on their order.
        samples: Candidates a structure and method.
        seed: The run's seed, the same in every batch: with id and sample it fixes a candidate.
    """
    positions, numbers, is_host, n_atoms, cells, systems = [], [], [], [], [], []
    for host in hosts:
        n_host = len(host.atoms)
        keys = [(method, sample) for method in sorted(methods) for sample in range(samples)]
        filled = np.concatenate([host.atoms.positions, np.full((host.n_missing, 3), np.nan)])
        for method, sample in keys:
            systems.append((host.id, method, sample))
            positions.append(filled)
            numbers.append(host.numbers)
            is_host.append(np.arange(len(filled)) < n_host)
            cells.append(np.asarray(host.atoms.cell))
        if (reference := references.get(host.id)) is not None:
            systems.append((host.id, REFERENCE, 0))
            positions.append(reference.atoms.positions)
            numbers.append(reference.atoms.numbers)
            is_host.append(np.arange(len(reference.atoms)) < reference.n_host)
            cells.append(np.asarray(reference.atoms.cell))
    n_atoms = [len(item) for item in numbers]
    ids, names, sample_numbers = zip(*systems, strict=True)
    return Batch(
        positions=np.concatenate(positions),
        atomic_numbers=np.concatenate(numbers),
        system_idx=np.repeat(np.arange(len(systems)), n_atoms),
        is_host=np.concatenate(is_host),
        cell=np.stack(cells),
        id=np.array(ids, dtype=object),
        method=np.array(names, dtype=object),
        sample=np.array(sample_numbers),
        seed=np.full(len(systems), seed),
        status=np.array(["ok"] * len(systems), dtype=object),
        message=np.array([""] * len(systems), dtype=object),
    )
