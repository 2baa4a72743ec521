"""Element substitution as data augmentation."""

from __future__ import annotations

from functools import cache

import numpy as np
from ase.data import covalent_radii
from pymatgen.core import Element

from xtalfill.models.hostnet import MAX_ATOMIC_NUMBER

_UNRELAXED = 0.12  # largest relative difference of radii if positions are not relaxed


def substitute_element(numbers: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return atomic numbers (n,) with one element replaced by a similar one, if there is one.

    Positions do not change, so the covalent radii may differ by at most 12 %.

    Args:
        numbers: (n,) atomic numbers of a host.
        rng: Chooses both elements.
    """
    replaced = int(rng.choice(np.unique(numbers)))
    others = similar_elements(_UNRELAXED)[replaced]
    if not others:
        return numbers
    return np.where(numbers == replaced, rng.choice(others), numbers)


@cache
def similar_elements(largest_difference: float) -> tuple[tuple[int, ...], ...]:
    """Return, for each atomic number, the elements that can replace it.

    Similar elements are in the same group. Lanthanoids belong to the group of yttrium; actinoids
    are excluded because their valences differ.

    Args:
        largest_difference: Largest relative difference of covalent radii.
    """
    elements = [Element.from_Z(z) for z in range(1, MAX_ATOMIC_NUMBER + 1)]
    least = 1.0 - largest_difference

    def alike(one: Element, other: Element) -> bool:
        ratio = covalent_radii[one.Z] / covalent_radii[other.Z]
        related = one.group == other.group and not (one.is_actinoid or other.is_actinoid)
        return related and least <= ratio <= 1.0 / least and one.Z != other.Z

    return ((), *(tuple(b.Z for b in elements if alike(a, b)) for a in elements))
