"""Cut the checked structures into batches that stay as they are, and lay out their systems."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

import numpy as np

from xtalfill.core.batch import REFERENCE, Batch
from xtalfill.inputs.hosts import CheckedHost
from xtalfill.inputs.references import Reference

# Atoms of a crystal that counts as one structure of a batch; most in the databases are smaller.
USUAL_ATOMS = 64
# Two of a million batches share so many digits of their name with a chance of 0.2 %.
NAME_DIGITS = 12


def plan_batches(sizes: Mapping[str, int], *, batch_size: int) -> dict[str, list[str]]:
    """Share structures among batches that hardly change when a structure comes or goes.

    The SHA-256 of an id is a number from 0 to 1. An interval of these numbers is a batch if its
    structures fit into one, else it is halved. So a structure more changes one batch, or cuts
    it in two: with -resume the others are not computed again. Which batch a structure is in
    depends on the set of structures alone, not on their order.

    A batch is full with `batch_size` structures of up to `USUAL_ATOMS` atoms; a larger one counts
    as several, which keeps the costs near to each other.

    Args:
        sizes: id -> atoms of the filled crystal.
        batch_size: Most structures a batch.

    Returns:
        Name of each batch, from the lowest of its numbers, such as "batch_a41f09c2d7b3" -> its
        ids, sorted.
    """
    digests = {name: hashlib.sha256(name.encode()).hexdigest() for name in sizes}
    counts = {name: max(1.0, atoms / USUAL_ATOMS) for name, atoms in sizes.items()}
    found: dict[str, list[str]] = {}
    pending = [(0, sorted(sizes))]
    while pending:
        depth, names = pending.pop()
        if len(names) > 1 and sum(counts[name] for name in names) > batch_size:
            halves: tuple[list[str], list[str]] = ([], [])
            for name in names:
                halves[_bit(digests[name], depth)].append(name)
            pending += [(depth + 1, half) for half in halves]
        elif names:
            found[f"batch_{min(digests[name] for name in names)[:NAME_DIGITS]}"] = names
    return dict(sorted(found.items()))


def _bit(digest: str, number: int) -> int:
    """Return a bit of a hexadecimal digest, the highest first."""
    return int(digest[number // 4], 16) >> (3 - number % 4) & 1


def build_batch(
    hosts: Sequence[CheckedHost],
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
