"""Which numbers of sites to try where the evidence decides none, and how likely each is before.

The numbers are multiples of the repeats in the composition of the host: Ca4S4O24 takes 0, 4, 8 and
so on. 96 % of the held-out crystals with hydrogen have such a number. With a charge balance they
start two below what it asks for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from ase import Atoms

from xtalfill.core.counts import repeats_of
from xtalfill.inputs.scan_valence import charge_balance, site_valences

_BELOW = 2  # repeats below the charge balance where the numbers start
_FAR = 4.0  # repeats; a larger distance from the evidence counts as this
# Of the log odds of a number, fitted to the held-out crystals of the training files
# (tools/measure_counts.py prior): equal to the charge balance; repeats away from it; within its
# limits; repeats away from the free valences. Without a charge balance: sites per host atom.
_WEIGHTS = (1.28, -0.05, 0.21, -0.49)
_WEIGHT_PER_ATOM = -0.05


@dataclass(frozen=True)
class Tries:
    """The numbers of missing sites to compare.

    Attributes:
        numbers: Above 0, ascending.
        log_prior: Natural logarithm of the prior probability of 0 and of each of them.
        repeats: What all numbers are multiples of.
    """

    numbers: tuple[int, ...]
    log_prior: tuple[float, ...]
    repeats: int


def plan_tries(host: Atoms, *, n_tries: int, most: int) -> Tries:
    """Return the numbers of hydrogens to try in a host, with their prior.

    Args:
        host: The host, Angstrom.
        n_tries: How many numbers above 0, at least 1.
        most: The largest number that the cell takes.
    """
    repeats = repeats_of(host.numbers)
    valences = site_valences(host)
    balance = charge_balance(host.numbers, valences)
    first = 1 if balance is None else max(1, round(balance.nearest / repeats) - _BELOW)
    numbers = [repeats * (first + one) for one in range(n_tries)]
    numbers = [number for number in numbers if number <= most]
    scores = prior_features((0, *numbers), host) @ np.array((*_WEIGHTS, _WEIGHT_PER_ATOM))
    scores -= np.logaddexp.reduce(scores)
    return Tries(tuple(numbers), tuple(scores.tolist()), repeats)


def prior_features(numbers: Sequence[int], host: Atoms) -> np.ndarray:
    """Return (n_numbers, 5) what the prior of numbers of hydrogens is made of."""
    repeats, valences = repeats_of(host.numbers), site_valences(host)
    balance = charge_balance(host.numbers, valences)
    if balance is None:
        return np.array([(0.0, 0.0, 0.0, 0.0, number / len(host)) for number in numbers])
    free = float(valences.lacking.sum())
    rows = []
    for number in numbers:
        away, lacking = abs(number - balance.nearest) / repeats, abs(number - free) / repeats
        within = balance.fewest <= number <= balance.most
        rows.append((float(away == 0), min(away, _FAR), float(within), min(lacking, _FAR), 0.0))
    return np.array(rows)
