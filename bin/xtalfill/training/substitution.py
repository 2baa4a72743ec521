"""Elements that stand in for each other in a crystal: a host seen with another one is new data."""

from __future__ import annotations

from functools import cache

import numpy as np
from ase.data import covalent_radii
from pymatgen.core import Element

from xtalfill.models.hostnet import MAX_ATOMIC_NUMBER

_SAME_PLACES = 0.12  # how much radii may differ where the places are not relaxed


def substitute_element(numbers: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return atomic numbers (n,) with one species replaced by one much like it, if there is one.

    Places stay as they are, so the radii of the two may differ by at most 12 %.

    Args:
        numbers: (n,) atomic numbers of a host.
        rng: Which species, and by what.
    """
    replaced = int(rng.choice(np.unique(numbers)))
    others = similar_elements(_SAME_PLACES)[replaced]
    if not others:
        return numbers
    return np.where(numbers == replaced, rng.choice(others), numbers)


@cache
def similar_elements(largest_difference: float) -> tuple[tuple[int, ...], ...]:
    """Return for each atomic number those that can stand in for it.

    They stand in the same group (lanthanoids in that of yttrium; actinoids in none, their
    valences differ).

    Args:
        largest_difference: Of the covalent radii, relative.
    """
    elements = [Element.from_Z(z) for z in range(1, MAX_ATOMIC_NUMBER + 1)]
    least = 1.0 - largest_difference

    def alike(one: Element, other: Element) -> bool:
        ratio = covalent_radii[one.Z] / covalent_radii[other.Z]
        related = one.group == other.group and not (one.is_actinoid or other.is_actinoid)
        return related and least <= ratio <= 1.0 / least and one.Z != other.Z

    return ((), *(tuple(b.Z for b in elements if alike(a, b)) for a in elements))
