"""Ids of the hosts that CHECK makes to decide how many sites are missing: one for each number.

The id of such a host is that of the structure, "+", number and element: brucite+2H. No other id
holds a "+", so that none can be the same; number and seed determine the candidates as always.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np

from xtalfill.core.batch import Batch

SEPARATOR = "+"
# Stages of a batch that has such hosts: what CHECK and RELAX note for SELECT.
PRIOR, ENERGIES = "count_prior", "count_energies"


def counted_id(name: str, n_missing: int, symbol: str) -> str:
    """Return the id of a structure filled with a number of sites to find the right number."""
    return f"{name}{SEPARATOR}{n_missing}{symbol}"


def counted_of(identifier: str) -> str:
    """Return the id of the structure whose number is to be found; empty for any other host."""
    name, found, _ = identifier.partition(SEPARATOR)
    return name if found else ""


def structure_of(identifier: str) -> str:
    """Return the id of the structure in the input that a host belongs to."""
    return identifier.partition(SEPARATOR)[0]


def counted_groups(ids: Iterable[str]) -> dict[str, list[int]]:
    """Return the places of the hosts of each structure whose number is to be found."""
    found: dict[str, list[int]] = {}
    for place, identifier in enumerate(ids):
        if name := counted_of(str(identifier)):
            found.setdefault(name, []).append(place)
    return found


def repeats_of(numbers: np.ndarray) -> int:
    """Return how often the smallest whole-number formula of atoms (n,) stands in the cell."""
    return math.gcd(*np.unique(numbers, return_counts=True)[1].tolist())


def less_likely(batch: Batch) -> set[str]:
    """Return the ids of the hosts with a number that is not the likeliest of their structure."""
    select = batch.stages["select"].arrays
    found: set[str] = set()
    for members in counted_groups(batch.id).values():
        share = select["count_probability"][members]
        best = batch.id[members[int(np.argmax(share))]]
        found |= {str(batch.id[index]) for index in members} - {str(best)}
    return found
