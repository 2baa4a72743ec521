"""Find hosts that are the same crystal: a fast key first, StructureMatcher where keys agree."""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from ase import Atoms
from ase.geometry import minkowski_reduce
from pymatgen.analysis.structure_matcher import StructureMatcher
from pymatgen.core import Structure

from xtalfill.core.matching import to_pymatgen
from xtalfill.inputs.hosts import CheckedHost

# Two measurements of a crystal, and two functionals, differ by less; other phases by more.
VOLUME = 0.06
LENGTH = 0.04
# Fraction, fraction of (volume / atom)^(1/3), degrees: a tenth of an Å in an oxide.
TOLERANCES = {"ltol": 0.04, "stol": 0.05, "angle_tol": 1.5}


@dataclass(frozen=True)
class _Candidate:
    """A host that is filled, with what the comparison needs.

    Attributes:
        host: The host.
        lengths: (3,) lengths of its reduced cell, ascending, Angstrom.
        structure: As pymatgen has it.
    """

    host: CheckedHost
    lengths: np.ndarray
    structure: Structure


@dataclass
class _Bucket:
    """Hosts of equal content, ordered by volume."""

    volumes: list[float] = field(default_factory=list)
    members: list[_Candidate] = field(default_factory=list)

    def near(self, volume: float) -> Iterator[_Candidate]:
        """Yield the members whose volume differs by less than `VOLUME`."""
        start = bisect_left(self.volumes, volume * (1 - VOLUME))
        end = bisect_left(self.volumes, volume / (1 - VOLUME))
        yield from self.members[start:end]

    def add(self, volume: float, candidate: _Candidate) -> None:
        """Add a member."""
        place = bisect_left(self.volumes, volume)
        self.volumes.insert(place, volume)
        self.members.insert(place, candidate)


def find_duplicates(hosts: Sequence[CheckedHost]) -> dict[str, str]:
    """Find the hosts that are the same crystal as another one.

    Two hosts are the same if element and number of the missing sites and the content of the cell
    are equal, volume and reduced cell agree within `VOLUME` and `LENGTH`, and StructureMatcher maps
    one on the other within `TOLERANCES`, without scaling and without a smaller cell. A host for one
    of the numbers to compare is the same only as another such host. The first id in alphabetical
    order is the one to fill, so that the order of the input does not matter. A
    crystal and its mirror image are the same.

    Args:
        hosts: What CHECK accepted.

    Returns:
        Id of a host -> id of the one to fill in its place.
    """
    matcher = StructureMatcher(
        **TOLERANCES, primitive_cell=False, scale=False, attempt_supercell=False
    )
    buckets: dict[tuple[int, ...], _Bucket] = defaultdict(_Bucket)
    found: dict[str, str] = {}
    for host in sorted(hosts, key=lambda one: one.id):
        content = np.bincount(host.atoms.numbers)
        compared = host.log_prior is not None
        bucket = buckets[(compared, host.element, host.n_missing, *content.tolist())]
        volume = abs(float(host.atoms.cell.volume))
        candidate = _Candidate(host, _reduced_lengths(host.atoms), to_pymatgen(host.atoms))
        for other in bucket.near(volume):
            alike = np.allclose(candidate.lengths, other.lengths, rtol=LENGTH, atol=0.0)
            if alike and matcher.fit(candidate.structure, other.structure):
                found[host.id] = other.host.id
                break
        else:
            bucket.add(volume, candidate)
    return found


def _reduced_lengths(atoms: Atoms) -> np.ndarray:
    """Return (3,) the lengths of the reduced cell, ascending, Angstrom."""
    cell, _ = minkowski_reduce(np.asarray(atoms.cell))
    return np.sort(np.linalg.norm(cell, axis=1))
