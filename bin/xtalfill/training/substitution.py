"""Elements that stand in for each other in a crystal: a host seen with another one is new data."""

from __future__ import annotations

from functools import cache

import numpy as np
from ase.data import covalent_radii
from pymatgen.core import Element

from xtalfill.model.hostnet import MAX_ATOMIC_NUMBER

_LARGEST_DIFFERENCE = 0.12  # of the covalent radii, relative


def substituted(numbers: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return atomic numbers (n,) with one species replaced by one much like it, if there is one.

    Two elements are alike that stand in one group (lanthanoids in that of yttrium; actinoids in
    none, their valences differ) and whose covalent radii differ by at most 12 %. Places stay as
    they are.

    Args:
        numbers: (n,) atomic numbers of a host.
        rng: Which species, and by what.
    """
    replaced = int(rng.choice(np.unique(numbers)))
    others = _alike()[replaced]
    if not others:
        return numbers
    return np.where(numbers == replaced, rng.choice(others), numbers)


@cache
def _alike() -> list[list[int]]:
    """Return for each atomic number those that can stand in for it."""
    elements = [Element.from_Z(z) for z in range(1, MAX_ATOMIC_NUMBER + 1)]

    def alike(one: Element, other: Element) -> bool:
        ratio = covalent_radii[one.Z] / covalent_radii[other.Z]
        related = one.group == other.group and not (one.is_actinoid or other.is_actinoid)
        near = 1.0 - _LARGEST_DIFFERENCE <= ratio <= 1.0 / (1.0 - _LARGEST_DIFFERENCE)
        return related and near and one.Z != other.Z

    return [[], *[[b.Z for b in elements if alike(a, b)] for a in elements]]
