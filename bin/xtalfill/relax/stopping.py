"""Stop when done: relax the candidates in waves until a lower minimum is unlikely.

After each wave the candidates found so far say how likely the next one is lower than all of them:

    P(lower) = P(new) P(lowest | new) = (f1 + 1) / (n + 1) / (m + 1)

for n relaxed candidates in m minima, f1 of which were found once. f1 / n is the share of minima
not seen yet (Good, Biometrika 40, 237 (1953)); one is added to f1 and n, because a share of 0
after a few candidates is too good to be true. A new minimum is as likely as any other to be the
lowest one. Both hold for independent candidates; the ways of one network are alike, and what it
never proposes stays unseen.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from xtalfill.core.batch import REFERENCE, STAGE_ATOM_ARRAYS, Batch, Stage
from xtalfill.core.relaxations import ENERGY_WINDOW, POSITIONS, SITES
from xtalfill.relax.deduplicate import active_systems

WAVE = 5  # candidates of a structure and method that are relaxed together

# Adds relax_sites and relax_positions to a batch, given the number of the wave.
Relax = Callable[[Batch, int], None]


def chance_of_lower(counts: Iterable[int]) -> float:
    """Return the probability that the next candidate is lower than all others.

    Args:
        counts: How many candidates ended in each minimum.
    """
    found = list(counts)
    once = sum(count == 1 for count in found)
    return (once + 1) / (sum(found) + 1) / (len(found) + 1)


def count_minima(energies: Iterable[float]) -> list[int]:
    """Return how many candidates are in each minimum; equal energy counts as the same minimum.

    Args:
        energies: eV per atom, of converged candidates of one structure.
    """
    lowest = -np.inf
    counts: Counter[float] = Counter()
    for energy in sorted(energies):
        if energy - lowest > ENERGY_WINDOW:
            lowest = energy
        counts[lowest] += 1
    return list(counts.values())


def relax_in_waves(batch: Batch, relax: Relax, *, below: float) -> None:
    """Relax the candidates of each structure and method until a lower minimum is unlikely.

    The others become absent. What a structure gets depends on no other structure.

    Args:
        batch: After INPAINT; gets the stages that `relax` adds.
        relax: Adds relax_sites and relax_positions to the candidates of a wave.
        below: Probability of a lower minimum at which a structure is done.
    """
    groups = batch.groups_by_method()
    left = {number: list(members) for number, members in enumerate(groups)}
    wave, number = np.flatnonzero(batch.method == REFERENCE).tolist(), 0
    while left or wave:
        for one in left:
            wave += left[one][:WAVE]
            left[one] = left[one][WAVE:]
        _relax_wave(batch, sorted(wave), relax, number)
        done = {one for one in left if _is_done(batch, groups[one], left[one], below=below)}
        # Nothing of the absent ones is relaxed; they get the rows of the stages.
        wave = [index for one in done for index in left[one]]
        left = {one: rest for one, rest in left.items() if one not in done}
        number += 1


def _is_done(batch: Batch, members: Sequence[int], left: Sequence[int], *, below: float) -> bool:
    """Return whether a structure and method needs no more candidates; the rest is absent then."""
    if not left:
        return True
    relaxed = batch.stages[POSITIONS].arrays
    first = set(members) - set(left)
    usable = [i for i in first if batch.status[i] == "ok" and relaxed["converged"][i]]
    n_atoms = np.bincount(batch.system_idx, minlength=batch.n_systems)
    chance = chance_of_lower(count_minima((relaxed["energy"] / n_atoms)[usable]))
    if chance >= below:
        return False
    for index in active_systems(batch, left):
        batch.mark_absent(
            index, f"not needed: {len(usable)} others leave a chance of {chance:.2g} of a lower one"
        )
    return True


def _relax_wave(batch: Batch, systems: Sequence[int], relax: Relax, number: int) -> None:
    """Relax some systems of a batch; the new stages have undefined rows for all others."""
    part = batch.subset(systems)
    relax(part, number)
    batch.status[systems], batch.message[systems] = part.status, part.message
    atoms = np.isin(batch.system_idx, systems)
    for name in (SITES, POSITIONS):
        stage = part.stages[name]
        own = batch.stages.setdefault(name, Stage({}, stage.attrs)).arrays
        for key, array in stage.arrays.items():
            of_atoms = key in STAGE_ATOM_ARRAYS
            shape = (batch.n_atoms if of_atoms else batch.n_systems, *array.shape[1:])
            own.setdefault(key, np.empty(shape, array.dtype))[atoms if of_atoms else systems] = (
                array
            )
