"""More rounds of RELAX: moves from the two lowest minima, of which lower ones are kept.

In each round the two lowest minima of a structure and method are each moved in every way of
`moves.py`, put into the exact host and relaxed in the same steps. A result that is lower than all
others by more than `ENERGY_WINDOW` becomes a further candidate; the rest is forgotten. A structure
is done after two rounds in a row without a new candidate.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

import numpy as np

from xtalfill.core.batch import Batch
from xtalfill.core.crystal import Crystal, crystal_of
from xtalfill.core.relaxations import ENERGY_WINDOW, POSITIONS, SITES
from xtalfill.relax.moves import MOVES, moved

_PARENTS = 2
_PATIENCE = 2  # rounds without a new candidate
_INPAINT = "inpaint"

# Relaxes a batch, given the number of the round.
Relax = Callable[[Batch, int], None]


def add_rounds(batch: Batch, relax: Relax, *, rounds: int) -> None:
    """Add the candidates of further rounds to a batch.

    Args:
        batch: After relax_positions.
        relax: Adds relax_sites and relax_positions to the candidates of a round.
        rounds: Largest number of rounds.
    """
    keys = [(str(batch.id[m[0]]), str(batch.method[m[0]])) for m in batch.groups_by_method()]
    fruitless = dict.fromkeys(keys, 0)
    for number in range(1, rounds + 1):
        todo = [
            members
            for members, key in zip(batch.groups_by_method(), keys, strict=True)
            if fruitless[key] < _PATIENCE
        ]
        children = [child for members in todo for child in _children(batch, members, number)]
        if not children:
            return
        new = children[0]
        for child in children[1:]:
            new.extend(child)
        relax(new, number)
        found = _keep_lower(batch, new)
        for key in fruitless:
            fruitless[key] = 0 if key in found else fruitless[key] + 1


def _children(batch: Batch, members: Sequence[int], number: int) -> list[Batch]:
    """Return the candidates of a round of one structure and method, each a batch of its own."""
    next_sample = 1 + int(batch.sample[members].max())
    found: list[Batch] = []
    for parent in _lowest_minima(batch, members):
        for name in MOVES:
            child = _child(batch, parent, name, number, sample=next_sample + len(found))
            if child is not None:
                found.append(child)
    return found


def _usable(batch: Batch, members: Sequence[int]) -> list[int]:
    """Return the converged candidates, lowest first; by sample where energies are equal."""
    arrays = batch.stages[POSITIONS].arrays
    usable = [i for i in members if batch.status[i] == "ok" and arrays["converged"][i]]
    return sorted(usable, key=lambda i: (arrays["energy"][i], batch.sample[i]))


def _lowest_minima(batch: Batch, members: Sequence[int]) -> list[int]:
    """Return candidates of different energy, the lowest ones."""
    energy = batch.stages[POSITIONS].arrays["energy"]
    found: list[int] = []
    for index in _usable(batch, members):
        if not found or energy[index] - energy[found[-1]] > _window(batch, index):
            found.append(index)
    return found[:_PARENTS]


def _window(batch: Batch, index: int) -> float:
    here = batch.atoms_slice(index)
    return ENERGY_WINDOW * (here.stop - here.start)


def _child(batch: Batch, parent: int, name: str, number: int, *, sample: int) -> Batch | None:
    """Return the candidate of a move before its relaxation; None where the move is not possible."""
    here = batch.atoms_slice(parent)
    is_host, crystal = batch.is_host[here], crystal_of(batch, parent, POSITIONS)
    proposed = batch.stages[_INPAINT].arrays["positions"][here]
    # The relaxation may have moved the crystal as a whole; the host is exact again.
    drift = (crystal.positions - proposed)[is_host].mean(axis=0)
    start = np.where(is_host[:, None], proposed, crystal.positions - drift)
    key = f"{batch.seed[parent]}|{batch.id[parent]}|{batch.sample[parent]}|{number}|{name}"
    digest = hashlib.sha256(key.encode()).digest()
    random = np.random.Generator(np.random.Philox(key=int.from_bytes(digest[:16], "little")))
    positions = moved(Crystal(crystal.numbers, start, crystal.cell), ~is_host, name, random)
    if positions is None:
        return None
    child = batch.subset([parent])
    child.sample[0] = sample
    child.stages = {one: child.stages[one] for one in child.stages if one not in (SITES, POSITIONS)}
    arrays = child.stages[_INPAINT].arrays
    arrays["positions"] = positions
    for key in arrays.keys() & {"sites_moved", "largest_shift", "sites_inside"}:
        arrays[key] = np.zeros_like(arrays[key])
    if "source" in arrays:
        arrays["source"] = np.array([f"{name} (from {batch.sample[parent]})"], dtype=object)
    return child


def _keep_lower(batch: Batch, new: Batch) -> set[tuple[str, str]]:
    """Add the candidates to a batch that are lower than all in it; return structure and method."""
    energy = batch.stages[POSITIONS].arrays["energy"]
    best: dict[tuple[str, str], float] = {}
    for members in batch.groups_by_method():
        if usable := _usable(batch, members):
            best[str(batch.id[members[0]]), str(batch.method[members[0]])] = energy[usable[0]]
    kept = []
    for members in new.groups_by_method():
        key = str(new.id[members[0]]), str(new.method[members[0]])
        for index in _usable(new, members):
            found = new.stages[POSITIONS].arrays["energy"][index]
            if found < best[key] - _window(new, index):
                kept.append((key, index))
    if kept:
        chosen = new.subset(sorted(index for _, index in kept))
        for stage in (SITES, POSITIONS):
            for name in batch.stages[stage].arrays.keys() - chosen.stages[stage].arrays.keys():
                # Nothing was merged with these.
                chosen.stages[stage].arrays[name] = np.full(chosen.n_systems, -1, dtype=np.int32)
        batch.extend(chosen)
    return {key for key, _ in kept}
