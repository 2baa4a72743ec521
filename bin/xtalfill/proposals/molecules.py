"""Method mix replaces every second candidate with a hydrogen molecule.

In a host unlike those of its training, a network may pair all missing hydrogens to molecules, in
every candidate: Ni(OH)2 with a wide gap between its layers became NiO2 with H2 in the gap. Crystals
with H2 exist, so the even candidates of a source stay. An odd one gives its place to a way of
another source (mix.json, `instead_of_molecules`). The choice depends on the candidate alone, which
remains a function of (seed, id, sample).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from ase.geometry import get_distances

from xtalfill.core.batch import Batch
from xtalfill.proposals.orders import Order
from xtalfill.proposals.ways import Ways, host_of
from xtalfill.registry.mix import MIX, Mix, host_class

HYDROGEN = 1
MOLECULE = 1.0  # Angstrom; H2: 0.74


def instead_of_molecules(
    batch: Batch,
    orders: Mapping[int, Order],
    drawn: Mapping[int, np.ndarray],
    mix: Mix,
    ways: Ways,
) -> dict[int, Order]:
    """Return the new orders of the candidates that are replaced: system -> order.

    Args:
        batch: A batch from CHECK.
        orders: Where each candidate comes from.
        drawn: System -> its sites (n_sites, 3), Angstrom, of the sources that sample.
        mix: Names the source to take instead.
        ways: The ways to fill the hosts.
    """
    found: dict[int, Order] = {}
    if mix.instead_of_molecules is None:
        return found
    source = mix.sources[mix.instead_of_molecules]
    for index, sites in drawn.items():
        number = orders[index].number
        if batch.method[index] != MIX or number % 2 == 0:
            continue
        host = host_of(batch, index)
        taken = mix.shares(host_class(host.numbers.tolist()), host.n_sites)
        if source.name in taken or host.element != HYDROGEN:
            continue
        way = number // 2
        if has_molecule(sites, host.cell) and way < len(
            ways.of(str(batch.id[index]), source.method, way + 1)
        ):
            found[index] = Order(source, way)
    return found


def has_molecule(sites: np.ndarray, cell: np.ndarray) -> bool:
    """Return whether two of some hydrogens are as near as in H2.

    Args:
        sites: (n_sites, 3), Angstrom.
        cell: (3, 3), rows are lattice vectors in Angstrom.
    """
    if len(sites) < 2 or not np.isfinite(sites).all():
        return False
    apart = get_distances(sites, cell=cell, pbc=True)[1]
    return bool(apart[~np.eye(len(sites), dtype=bool)].min() < MOLECULE)
