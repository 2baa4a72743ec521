"""Match references (true structures) to hosts by id, and identify their missing sites."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols
from ase.geometry import get_distances
from scipy.optimize import linear_sum_assignment

from xtalfill.core.counts import counted_of
from xtalfill.core.errors import InputError
from xtalfill.core.text import one_line
from xtalfill.inputs.hosts import CheckedHost, Refusal, assign_ids, check_geometry
from xtalfill.inputs.structures import Entry

# A host site farther from every site of the reference is a different site.
MAX_KEPT_DISTANCE = 1.0


@dataclass(frozen=True)
class Reference:
    """A true structure.

    Attributes:
        source: Where it was read.
        atoms: Angstrom, in its own cell: host sites first, then those missing in the host.
        n_host: Number of host sites.
    """

    source: str
    atoms: Atoms
    n_host: int


def match_references(
    entries: Iterable[Entry], hosts: Iterable[CheckedHost]
) -> tuple[dict[str, Reference], list[Refusal]]:
    """Assign each host its reference.

    Args:
        entries: The references as read.
        hosts: The structures that passed CHECK.

    Returns:
        Host id -> reference, and the unusable references, sorted by id. Of the hosts for the
        numbers to compare, the one with the number of the reference gets it.
    """
    host_of: dict[str, CheckedHost] = {}
    compared: dict[str, list[CheckedHost]] = {}
    for host in hosts:
        host_of[host.id] = host
        compared.setdefault(counted_of(host.id), []).append(host)
    references: dict[str, Reference] = {}
    failures = []
    for name, entry, problem in assign_ids(entries):
        try:
            if problem is not None:
                raise InputError(problem)
            own = host_of.get(name) or _of_its_size(entry, compared.get(name, []))
            if own is None:
                raise InputError("no structure with this id is being filled; check both ids")
            references[own.id] = _check_reference(entry, own)
        except InputError as error:
            failures.append(Refusal(name, entry.source, one_line(error, limit=400)))
    return references, sorted(failures, key=lambda failure: (failure.id, failure.source))


def _of_its_size(entry: Entry, hosts: list[CheckedHost]) -> CheckedHost | None:
    """Return the host with as many atoms as a reference, or the first; None without hosts."""
    n_atoms = 0 if entry.atoms is None else len(entry.atoms)
    return next((host for host in hosts if len(host.numbers) == n_atoms), next(iter(hosts), None))


def _check_reference(entry: Entry, host: CheckedHost) -> Reference:
    atoms = entry.atoms
    if atoms is None or len(atoms) == 0 or entry.evidence.unlocated:
        raise InputError("has no atoms, or sites without coordinates; give the complete structure")
    check_geometry(atoms)
    expected = Counter(host.numbers.tolist())
    found = Counter(atoms.numbers.tolist())
    if found != expected:
        raise InputError(
            f"has the formula {atoms.get_chemical_formula()}, the filled structure "
            f"{Atoms(host.numbers).get_chemical_formula()}; give both in the same cell "
            "and check n_missing"
        )
    missing = _missing_sites(atoms, host)
    order = np.concatenate([np.flatnonzero(~missing), np.flatnonzero(missing)])
    bare = Atoms(atoms.numbers[order], atoms.positions[order], cell=atoms.cell, pbc=True)
    return Reference(entry.source, bare, int((~missing).sum()))


def _missing_sites(atoms: Atoms, host: CheckedHost) -> np.ndarray:
    """Return (n_atoms,) True at the sites of the reference that the host lacks.

    Sites of the element that are present in the host are assigned to those of the reference by the
    smallest sum of squared distances at equal fractional coordinates.
    """
    missing = atoms.numbers == host.element
    kept = host.atoms.get_scaled_positions(wrap=False)[host.atoms.numbers == host.element]
    if len(kept) == 0:
        return missing
    candidates = np.flatnonzero(missing)
    _, distances = get_distances(
        kept @ np.asarray(atoms.cell), atoms.positions[candidates], cell=atoms.cell, pbc=True
    )
    rows, columns = linear_sum_assignment(distances**2)
    farthest = float(distances[rows, columns].max())
    if farthest > MAX_KEPT_DISTANCE:
        raise InputError(
            f"a {chemical_symbols[host.element]} site of the host is {farthest:.2f} Å from "
            "the nearest one of the reference; give both with the same cell and origin"
        )
    missing[candidates[columns]] = False
    return missing
