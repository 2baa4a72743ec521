"""The space group of a host and its subgroups, as lists of operations on fractional positions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from xtalfill.core.crystal import Crystal
from xtalfill.proposals.sites import operations

# Fractions of a lattice vector: a product of two operations is again one to this accuracy.
_SAME_TRANSLATION = 0.02
_TRIES = 12  # operations that a subgroup is offered


@dataclass(frozen=True, eq=False)
class Group:
    """A space group in the cell of a host.

    Attributes:
        rotations: (n, 3, 3) integers; the identity first.
        translations: (n, 3), fractions of the lattice vectors.
    """

    rotations: np.ndarray
    translations: np.ndarray

    def __len__(self) -> int:
        return len(self.rotations)

    @cached_property
    def matrices(self) -> np.ndarray:
        """The rotations (n, 3, 3) as numbers with a fraction, for compiled code."""
        return np.ascontiguousarray(self.rotations, dtype=float)

    def subset(self, members: Sequence[int]) -> Group:
        """Return the group of some operations, which have to be one."""
        return Group(self.rotations[list(members)], self.translations[list(members)])

    @cached_property
    def products(self) -> np.ndarray:
        """Number of the product of every two operations, (n, n); -1 where it is none of them."""
        table = np.full((len(self), len(self)), -1)
        # A rotation of a lattice has the entries -1, 0 and 1 in any usual cell.
        names = self.rotations.reshape(len(self), 9) @ 5 ** np.arange(9)
        for first in range(len(self)):
            rotation = self.rotations[first]
            made = (rotation @ self.rotations).reshape(len(self), 9) @ 5 ** np.arange(9)
            moved = self.translations @ rotation.T + self.translations[first]
            away = moved[:, None] - self.translations
            away = np.abs(away - np.round(away)).max(axis=2)
            away[made[:, None] != names] = np.inf
            nearest = away.argmin(axis=1)
            near = away.min(axis=1) < _SAME_TRANSLATION
            table[first] = np.where(near, nearest, -1)
        return table


def space_group(host: Crystal, *, tolerance: float) -> Group:
    """Return the space group of a host.

    Args:
        host: The crystal.
        tolerance: Angstrom.

    Returns:
        The identity alone where the operations are not a group to the tolerance.
    """
    group = Group(*operations(host, tolerance=tolerance))
    return group if (group.products >= 0).all() else group.subset([0])


def generated(products: np.ndarray, generators: Sequence[int]) -> list[int]:
    """Return the operations of the subgroup that some operations generate, the identity first.

    Args:
        products: Of the group, see `Group.products`.
        generators: Numbers of operations.
    """
    members = {0, *generators}
    while True:
        chosen = sorted(members)
        found = set(products[np.ix_(chosen, chosen)].ravel().tolist())
        if found <= members:
            return chosen
        members |= found


def large_subgroup(
    products: np.ndarray, members: Sequence[int], random: np.random.Generator
) -> list[int]:
    """Return a random proper subgroup of a group, as large as a few more operations make it.

    Args:
        products: Of the full group, see `Group.products`.
        members: Operations of the group, the identity first; at least two.
        random: Draws the operations.

    Returns:
        The identity alone if the operations that were drawn all generate the group.
    """
    found = [0]
    drawn = random.permutation(np.asarray(members)[1:])[:_TRIES]
    for operation in drawn.tolist():
        more = generated(products, [*found, operation])
        if len(more) < len(members):
            found = more
    return found
