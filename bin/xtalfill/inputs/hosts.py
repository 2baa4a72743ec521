"""Check whether each structure can be filled, and with how many sites.

Each check raises an error of one line; `check_structures` records it and continues.
"""

from __future__ import annotations

import hashlib
import math
import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np
from ase import Atoms
from ase.data import atomic_numbers, chemical_symbols
from ase.geometry import minkowski_reduce

from xtalfill.core.counts import counted_id
from xtalfill.core.errors import InputError
from xtalfill.core.text import one_line, shortened
from xtalfill.inputs.counts import Tries, plan_tries
from xtalfill.inputs.missing import IncompleteStructure, UndecidedError, count_missing
from xtalfill.inputs.structures import Entry
from xtalfill.inputs.structures.entry import (
    ISOTOPES,
    MAX_SECONDS,
    drop_shared_names,
    time_limit,
)
from xtalfill.inputs.structures.evidence import Evidence
from xtalfill.inputs.structures.expand import MAX_ATOMS
from xtalfill.inputs.structures.pairs import closest_pair

# No solid has less than about 2 Å³ per atom (metal superhydrides at megabars), and a single atom in
# a 20 Å box has 8000 Å³. Outside these limits the unit or the count is wrong.
MIN_VOLUME_PER_ATOM = 1.0
MAX_VOLUME_PER_ATOM = 10_000.0
MIN_DISTANCE = 0.5
# Larger coordinates lose float64 digits that a relaxation needs.
MAX_COORDINATE = 1e5
# The richest known or predicted hydrides have about 16 hydrogens per metal atom.
MAX_MISSING_PER_HOST_ATOM = 24
MAX_ID_LENGTH = 100


@dataclass(frozen=True)
class CheckedHost:
    """A structure that passed all checks.

    Attributes:
        id: Unique, matches [A-Za-z0-9._-]{1,100}; with +2H at its end where 2 is one of the numbers
            to compare.
        source: Where it was read.
        atoms: The host alone, Angstrom, in the order and cell of the input.
        element: Atomic number of the element to fill.
        n_missing: Number of missing sites.
        notes: Decisions, and values that were interpreted differently from the input.
        log_prior: Where numbers are compared: of 0 and of `n_missing`, natural logarithm.
    """

    id: str
    source: str
    atoms: Atoms
    element: int
    n_missing: int
    notes: tuple[str, ...] = ()
    log_prior: tuple[float, float] | None = None

    @property
    def numbers(self) -> np.ndarray:
        """(n_atoms,) atomic numbers of the filled crystal, host first."""
        return np.concatenate([self.atoms.numbers, np.full(self.n_missing, self.element)])


@dataclass(frozen=True)
class Refusal:
    """A structure that cannot be used, and the reason in one line."""

    id: str
    source: str
    message: str


def check_structures(
    entries: Iterable[Entry],
    *,
    element: str,
    n_missing: int | str | None,
    remove_existing: bool,
    n_tries: int = 0,
    known: Mapping[str, frozenset[int]] | None = None,
) -> tuple[list[CheckedHost], list[Refusal]]:
    """Check every structure. Each entry becomes a host or a failure.

    Where `AUTO` finds no number, an entry becomes a host for each number to compare.

    Entries are taken one by one; only hosts and messages stay in memory.

    Args:
        entries: The structures as read.
        element: The element to fill if the input of the structure names none.
        n_missing: The number of missing sites if the input of the structure gives none; `AUTO` of
            `inputs.missing` leaves it to the evidence.
        remove_existing: Whether to remove the sites of the element first.
        n_tries: Numbers to compare where `AUTO` finds none; 0 refuses such a structure.
        known: Potential -> atomic numbers that it supports; structures with others are refused.

    Returns:
        Hosts and failures, both sorted by id.
    """
    given = _Given(element, n_missing, remove_existing, n_tries)
    checked = [_try_entry(entry, given, known or {}) for entry in entries]
    drop_shared_names([entry for entry, _, _ in checked])
    hosts, failures = [], []
    assigned = assign_ids(entry for entry, _, _ in checked)
    for (name, entry, problem), (_, host, tries) in zip(assigned, checked, strict=True):
        if problem is not None or host is None:
            failures.append(Refusal(name, entry.source, one_line(problem, limit=400)))
        else:
            named = replace(host, id=name, notes=(*entry.notes, *host.notes))
            hosts += [named] if tries is None else _compared(named, tries)
    hosts.sort(key=lambda host: host.id)
    failures.sort(key=lambda failure: (failure.id, failure.source))
    return hosts, failures


@dataclass(frozen=True)
class _Given:
    """What holds for all structures; see `check_structures`."""

    element: str
    n_missing: int | str | None
    remove_existing: bool
    n_tries: int


def _try_entry(
    entry: Entry, given: _Given, known: Mapping[str, frozenset[int]]
) -> tuple[Entry, CheckedHost | None, Tries | None]:
    """Return an entry without its atoms, with its problem, and its host if there is none.

    The host has no number of missing sites where numbers are to be compared.
    """
    rest = replace(entry, atoms=None, evidence=Evidence(), notes=list(entry.notes))
    if entry.error is not None:
        return rest, None, None
    try:
        with time_limit(MAX_SECONDS):
            host, tries = _check_entry(entry, given)
        _check_known(host, known)
    except InputError as error:
        rest.error = str(error)
        return rest, None, None
    return rest, host, tries


def _compared(host: CheckedHost, tries: Tries) -> list[CheckedHost]:
    """Return a host for each number of missing sites to compare."""
    numbers = ", ".join(map(str, (0, *tries.numbers)))
    note = f"n_missing is not decided by the evidence; compared are {numbers}"
    return [
        replace(
            host,
            id=counted_id(host.id, number, chemical_symbols[host.element]),
            n_missing=number,
            notes=(*host.notes, note),
            log_prior=(tries.log_prior[0], prior),
        )
        for number, prior in zip(tries.numbers, tries.log_prior[1:], strict=True)
    ]


def safe_id(name: str) -> str:
    """Return `name` with only letters, digits, ".", "_" and "-", not starting with "." or "-".

    A name that is changed or too long gets eight digits of its SHA-256, so that different names
    stay different. The result may be empty.
    """
    stripped = name.strip()
    plain = unicodedata.normalize("NFKD", stripped).encode("ascii", "ignore").decode()
    clean = re.sub(r"[^A-Za-z0-9._-]+", "_", plain if plain else "_" * bool(stripped)).lstrip(".-")
    if clean == stripped and len(clean) <= MAX_ID_LENGTH:
        return clean
    if not stripped:
        return ""
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return f"{clean[: MAX_ID_LENGTH - 9].rstrip('_')}-{digest}".lstrip("-")


def assign_ids(entries: Iterable[Entry]) -> list[tuple[str, Entry, str | None]]:
    """Assign an id to every entry, with the problem that prevents its use, if any.

    All structures that share an id are refused. The result then does not depend on their order.

    Returns:
        (id, entry, problem) in the order of the input; problem is None for a usable entry.
    """
    named = []
    for entry in entries:
        name = safe_id(entry.id or "") or safe_id(entry.fallback_id) or "structure"
        named.append((name, entry))
        if entry.id and name != entry.id:
            entry.notes.append(f"id {one_line(entry.id, limit=60)!r} was changed to {name!r}")
    sources: dict[str, list[str]] = {}
    for name, entry in named:
        sources.setdefault(name, []).append(entry.source)
    assigned: list[tuple[str, Entry, str | None]] = []
    for name, entry in named:
        problem = entry.error
        if problem is None and len(sources[name]) > 1:
            others = ", ".join(sorted(set(sources[name]) - {entry.source})[:3]) or entry.source
            problem = (
                f"{len(sources[name])} structures share this id (also {others}); "
                "give each its own id"
            )
        assigned.append((name, entry, problem))
    return assigned


def parse_element(symbol: str) -> int:
    """Return the atomic number of an element; deuterium and tritium are hydrogen.

    Raises:
        InputError: The element does not exist.
    """
    clean = symbol.strip().capitalize()
    number = 1 if clean in ISOTOPES else atomic_numbers.get(clean, 0)
    if number == 0:
        raise InputError(
            f"unknown element {one_line(symbol, limit=40)!r}; give a symbol such as H or Li"
        )
    return int(number)


def _check_entry(entry: Entry, all_given: _Given) -> tuple[CheckedHost, Tries | None]:
    """Return the host of an entry, without its id and the notes of the entry."""
    target = parse_element(entry.element or all_given.element)
    atoms = entry.atoms
    if atoms is None or len(atoms) == 0:
        raise InputError("holds no atoms; give the host's sites")
    unlocated = entry.evidence.unlocated
    foreign = sorted(chemical_symbols[number] for number in unlocated if number != target)
    if foreign:
        raise InputError(
            f"a site of {', '.join(foreign)} has no coordinates; complete the structure "
            f"(only {chemical_symbols[target]} is filled)"
        )
    removed = (atoms.numbers == target) & all_given.remove_existing
    host = atoms[~removed]
    if len(host) == 0:
        raise InputError(
            f"no host is left without its {chemical_symbols[target]}; omit --remove_existing"
        )
    check_geometry(host)
    notes: list[str] = []
    if removed.any():
        notes.append(f"{removed.sum()} {chemical_symbols[target]} removed")
    own = entry.n_missing
    given = own if own is not None and str(own).strip() else all_given.n_missing
    incomplete = IncompleteStructure(
        target=target, host=host, removed=atoms[removed], evidence=entry.evidence
    )
    bare = Atoms(host.numbers, host.positions, cell=host.cell, pbc=True)
    try:
        count = count_missing(given, structure=incomplete, notes=notes)
    except UndecidedError:
        most = largest_count(host)
        if all_given.n_tries == 0 or most < 1:
            raise
        tries = plan_tries(bare, n_tries=all_given.n_tries, most=most)
        return CheckedHost("", entry.source, bare, target, 0, tuple(notes)), tries
    _check_count(host, count)
    return CheckedHost("", entry.source, bare, target, count, tuple(notes)), None


def _check_known(host: CheckedHost, known: Mapping[str, frozenset[int]]) -> None:
    for potential, elements in known.items():
        if foreign := sorted({*host.numbers.tolist(), host.element} - elements):
            symbols = ", ".join(chemical_symbols[number] for number in foreign)
            raise InputError(
                f"the potential {one_line(potential, limit=80)} does not support {symbols}; choose "
                "another with --mlip or --mlip_rank, or remove the structure"
            )


def check_geometry(atoms: Atoms) -> None:
    """Check that atoms form an ordered crystal that can be computed.

    Args:
        atoms: Angstrom; with `arrays["occupancy"]` if some are below one.

    Raises:
        InputError: The structure is not periodic, is disordered, has an unknown element, a value
            that is not finite, a volume out of range, or two sites within `MIN_DISTANCE`.
    """
    if not all(atoms.pbc):
        axes = "".join(axis for axis, periodic in zip("abc", atoms.pbc, strict=True) if periodic)
        why = "pbc is F, the lattice is not used" if atoms.cell.rank else "no lattice"
        periodic = f"periodic along {', '.join(axes)} only" if axes else f"not periodic ({why})"
        raise InputError(f"{periodic}; give a crystal periodic in three dimensions")
    if len(atoms) > MAX_ATOMS:
        raise InputError(f"holds {len(atoms)} atoms, more than the limit of {MAX_ATOMS}")
    occupancy = atoms.arrays.get("occupancy", np.ones(len(atoms)))
    if (partial := np.flatnonzero(np.abs(occupancy - 1.0) > 1e-3)).size:
        names = atoms.arrays.get("label", np.array(list(atoms.symbols)))
        shares = dict(zip(names[partial].tolist(), occupancy[partial].tolist(), strict=True))
        few = shortened([f"{name} ({share:g})" for name, share in shares.items()])
        raise InputError(
            f"{partial.size} partially occupied sites: {few}; give an ordered structure"
        )
    if (atoms.numbers < 1).any() or (atoms.numbers >= len(chemical_symbols)).any():
        raise InputError("unknown element (X, or an atomic number above 118); name the element")
    positions, cell = atoms.positions, np.asarray(atoms.cell)
    if not (np.isfinite(positions).all() and np.isfinite(cell).all()):
        raise InputError("a coordinate or the cell is not a finite number; correct it")
    if np.abs(positions).max() > MAX_COORDINATE:
        raise InputError(f"a coordinate is beyond {MAX_COORDINATE:g} Å; wrap it into the cell")
    _check_volume(atoms)
    _check_distances(atoms)


def _check_volume(atoms: Atoms) -> None:
    with np.errstate(all="ignore"):
        volume = abs(float(np.linalg.det(np.asarray(atoms.cell)))) / len(atoms)
    if not volume >= 1e-6:
        raise InputError("the cell has no volume; give three independent lattice vectors in Å")
    if not MIN_VOLUME_PER_ATOM <= volume <= MAX_VOLUME_PER_ATOM:
        raise InputError(
            f"the cell has {volume:.3g} Å³ per atom, outside the range {MIN_VOLUME_PER_ATOM:g} to "
            f"{MAX_VOLUME_PER_ATOM:g}; check its unit (Å)"
        )


def _check_distances(atoms: Atoms) -> None:
    """Refuse two sites, or a site and its own image, within `MIN_DISTANCE`."""
    try:
        # A skewed cell would need thousands of images; its reduced form needs few.
        cell, _ = minkowski_reduce(np.asarray(atoms.cell))
    except (RuntimeError, ValueError, ArithmeticError) as error:
        raise InputError("the cell is too skewed to be reduced; give its reduced form") from error
    shortest = float(np.linalg.norm(cell, axis=1).min())
    if shortest < MIN_DISTANCE:
        raise InputError(
            f"a lattice vector of {shortest:.3g} Å makes an atom overlap its own image; "
            "check the cell's unit (Å)"
        )
    pair = closest_pair(atoms.positions @ np.linalg.inv(cell), cell, MIN_DISTANCE)
    if pair is not None:
        i, j, distance = pair
        raise InputError(
            f"overlapping sites: {atoms.symbols[i]} (site {i + 1}) and {atoms.symbols[j]} "
            f"(site {j + 1}) are {distance:.3f} Å apart; remove one"
        )


def _check_count(host: Atoms, count: int) -> None:
    if count < 1:
        raise InputError(f"n_missing is {count}; it must be at least 1")
    limit = largest_count(host)
    if count > limit:
        raise InputError(
            f"n_missing is {count}, but a cell of {len(host)} host atoms takes at most {limit}; "
            "give the number per cell"
        )


def largest_count(host: Atoms) -> int:
    """Return how many sites at most a host takes."""
    room = abs(float(np.linalg.det(np.asarray(host.cell)))) / MIN_VOLUME_PER_ATOM - len(host)
    return min(MAX_MISSING_PER_HOST_ATOM * len(host), math.floor(room))
