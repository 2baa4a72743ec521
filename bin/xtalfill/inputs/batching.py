"""Divide the checked structures into stable batches and lay out their systems."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

import numpy as np

from xtalfill.core.batch import REFERENCE, Batch, Stage
from xtalfill.core.counts import PRIOR, structure_of
from xtalfill.inputs.hosts import CheckedHost
from xtalfill.inputs.references import Reference
from xtalfill.registry.mix import MIX, Mix, host_class, read_mix

# A crystal of this many atoms counts as one structure; most in the databases are smaller.
USUAL_ATOMS = 64
# The probability that two of a million batches share these digits is 0.2 %.
NAME_DIGITS = 12


def plan_batches(sizes: Mapping[str, int], *, batch_size: int) -> dict[str, list[str]]:
    """Distribute structures over batches that hardly change when a structure is added or removed.

    The SHA-256 of an id is a number from 0 to 1. An interval of these numbers is one batch if its
    structures fit; otherwise it is halved. An additional structure therefore changes one batch, or
    splits it in two; with -resume the others are not recomputed. The batch of a structure depends
    on the set of structures, not on their order.

    A batch is full with `batch_size` structures of up to `USUAL_ATOMS` atoms. A larger structure
    counts as several, which keeps the costs of the batches similar. The hosts of a structure whose
    numbers of missing sites are compared stay together.

    Args:
        sizes: id -> number of atoms of the filled crystal.
        batch_size: Maximum number of structures per batch.

    Returns:
        Name of each batch, from the lowest of its numbers, such as "batch_a41f09c2d7b3" -> its
        ids, sorted.
    """
    hosts: dict[str, list[str]] = {}
    for name in sorted(sizes):
        hosts.setdefault(structure_of(name), []).append(name)
    digests = {name: hashlib.sha256(name.encode()).hexdigest() for name in hosts}
    counts = {
        name: sum(max(1.0, sizes[host] / USUAL_ATOMS) for host in members)
        for name, members in hosts.items()
    }
    found: dict[str, list[str]] = {}
    pending = [(0, sorted(hosts))]
    while pending:
        depth, names = pending.pop()
        if len(names) > 1 and sum(counts[name] for name in names) > batch_size:
            halves: tuple[list[str], list[str]] = ([], [])
            for name in names:
                halves[_bit(digests[name], depth)].append(name)
            pending += [(depth + 1, half) for half in halves]
        elif names:
            first = min(digests[name] for name in names)
            found[f"batch_{first[:NAME_DIGITS]}"] = [host for name in names for host in hosts[name]]
    return dict(sorted(found.items()))


def _bit(digest: str, number: int) -> int:
    """Return a bit of a hexadecimal digest, most significant bit first."""
    return int(digest[number // 4], 16) >> (3 - number % 4) & 1


def build_batch(
    hosts: Sequence[CheckedHost],
    references: dict[str, Reference],
    *,
    methods: Sequence[str],
    samples: int,
    seed: int,
    oversample: int = 1,
    mix: Mix | None = None,
) -> Batch:
    """Lay out all systems of some structures: for each its proposals, then its reference.

    Args:
        hosts: The structures.
        references: id -> true structure, if known.
        methods: Proposal methods; the layout does not depend on their order.
        samples: Number of candidates per structure and method.
        seed: Seed of the run, the same in every batch; with id and sample it determines a
            proposal.
        oversample: Proposals for each candidate.
        mix: How many more method mix looks at; None reads those that come with xtalfill.
    """
    mix = mix or read_mix()
    positions, numbers, is_host, n_atoms, cells, systems = [], [], [], [], [], []
    for host in hosts:
        n_host = len(host.atoms)
        keys = [
            (method, sample)
            for method in sorted(methods)
            for sample in range(_n_proposals(host, method, samples, oversample, mix))
        ]
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
    prior = {host.id: host.log_prior for host in hosts if host.log_prior is not None}
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
        stages=_prior_stage(prior, ids) if prior else {},
    )


def _n_proposals(host: CheckedHost, method: str, samples: int, oversample: int, mix: Mix) -> int:
    """Return the number of proposals of a method for a host."""
    if method != MIX:
        return samples * oversample
    own_class = host_class(host.atoms.numbers.tolist())
    return mix.n_proposals(own_class, host.n_missing, samples=samples, oversample=oversample)


def _prior_stage(prior: Mapping[str, tuple[float, float]], ids: Sequence[str]) -> dict[str, Stage]:
    """Return what SELECT needs to compare numbers of missing sites; NaN for the other systems."""
    none, own = np.array([prior.get(name, (np.nan, np.nan)) for name in ids]).T
    return {PRIOR: Stage({"log_prior": own, "log_prior_none": none})}
