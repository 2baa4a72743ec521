"""One structure as read, before any check, and functions shared by all readers."""

from __future__ import annotations

import codecs
import contextlib
import gzip
import signal
import threading
import warnings
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO, cast

import numpy as np
from ase import Atoms
from pymatgen.core import DummySpecies, Structure

from xtalfill.core.errors import InputError
from xtalfill.core.text import one_line
from xtalfill.inputs.structures.evidence import Evidence

# A longer text is not a list of crystals (or a gzip bomb).
MAX_TEXT_BYTES = 1 << 30
# Time limit for one structure of an input, seconds.
MAX_SECONDS = 60.0
_MARKS = {codecs.BOM_UTF16_LE: "UTF-16", codecs.BOM_UTF16_BE: "UTF-16"}
ID_KEYS = ("id", "material_id", "entry_id", "name")
ISOTOPES = {"D": "deuterium", "T": "tritium"}


@dataclass
class Entry:
    """One structure as read: atoms, or the reason why there are none.

    Attributes:
        source: Where it was read, for messages: file, and line, frame, row or block.
        fallback_id: The id used if none is given.
        atoms: The structure in its own cell, Angstrom, with `arrays["occupancy"]` if the file
            gives occupancies below one.
        id: The id as given, or None.
        id_is_name: Whether the id came from a key "name", which is often a formula and not unique.
        element: The element to fill as given, or None.
        n_missing: The number of missing sites as given (not yet checked), or None.
        evidence: Statements of the input about missing sites.
        notes: Values that were interpreted differently from the input.
        error: Why it cannot be used, in one line, or None.
    """

    source: str
    fallback_id: str
    atoms: Atoms | None = None
    id: str | None = None
    id_is_name: bool = False
    element: str | None = None
    n_missing: Any = None
    evidence: Evidence = field(default_factory=Evidence)
    notes: list[str] = field(default_factory=list)
    error: str | None = None


def explain(error: Exception, *, kind: str) -> str:
    """Return in one line why a parser failed, and how to fix it.

    Args:
        error: Error of the parser.
        kind: The expected format, for the message.
    """
    if isinstance(error, InputError):
        return one_line(error, limit=400)
    if isinstance(error, np.linalg.LinAlgError):
        return "the cell has no volume; give three independent lattice vectors"
    reason = one_line(error)
    if "exceeded tolerance" in reason:
        return f"two atoms share one site ({reason}); remove the duplicate or give occupancies"
    if "Can't parse Element" in reason or "is not a valid Element" in reason:
        return f"unknown element ({reason}); use the symbols of the periodic table"
    return (
        f"cannot be read as {kind} ({type(error).__name__}: {reason}); "
        "the file is damaged, truncated or of another format"
    )


def fill_entry(entry: Entry, fill: Callable[..., None], *data: Any, kind: str) -> None:
    """Fill one entry; an error is stored in the entry.

    Args:
        entry: The entry.
        fill: Called with the entry and `data`.
        data: What the entry is read from.
        kind: The expected format, for messages.
    """
    try:
        with warnings.catch_warnings(), time_limit(MAX_SECONDS):
            warnings.simplefilter("ignore")
            fill(entry, *data)
    except Exception as error:  # noqa: BLE001 - a parser may raise any error on malformed text
        entry.error = explain(error, kind=kind)


@contextlib.contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Stop the code in this block after some time; no effect outside the main thread.

    Args:
        seconds: Wall time.

    Raises:
        InputError: The time limit is exceeded.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(_signal: int, _frame: object) -> None:
        raise InputError(f"took more than {seconds:g} s to read; give a smaller structure")

    previous = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)


@contextlib.contextmanager
def open_text(path: Path) -> Iterator[TextIO]:
    """Open a text file, decompressed if its name ends in .gz.

    Raises:
        InputError: The text is not UTF-8.
    """
    opener = gzip.open if path.suffix.lower() == ".gz" else open
    with opener(path, "rb") as file:
        mark = file.read(2)
    if mark in _MARKS:
        raise InputError(f"encoded in {_MARKS[mark]}; save it as UTF-8")
    with opener(path, "rt", encoding="utf-8-sig", errors="replace") as text:
        yield cast(TextIO, text)


def read_text(path: Path) -> str:
    """Return the text of a file, decompressed if its name ends in .gz.

    Raises:
        InputError: The text is larger than `MAX_TEXT_BYTES`, or not UTF-8.
    """
    with open_text(path) as file:
        text = file.read(MAX_TEXT_BYTES + 1)
    if len(text) > MAX_TEXT_BYTES:
        raise InputError(f"larger than {MAX_TEXT_BYTES >> 20} MiB unpacked; split the file")
    return text


def fill_from_pymatgen(entry: Entry, structure: Structure) -> None:
    """Store a pymatgen structure in `entry`, in its own order of sites and cell.

    Args:
        entry: Gets the atoms, with `arrays["occupancy"]` if any is below one, and notes.
        structure: May have partially occupied sites, but only one element per site.

    Raises:
        InputError: Elements share a site, or an element is unknown.
    """
    numbers, occupancies = [], []
    isotopes: set[str] = set()
    for site in structure:
        occupancy_of: dict[int, float] = defaultdict(float)
        for species, occupancy in site.species.items():
            if isinstance(species, DummySpecies):
                raise InputError(
                    f"unknown element {one_line(species.symbol)!r}; "
                    "use the symbols of the periodic table"
                )
            occupancy_of[species.Z] += occupancy
            # Element.D of pymatgen has the symbol H and the name D.
            isotopes |= {getattr(species, "element", species).name} & ISOTOPES.keys()
        if len(occupancy_of) != 1:
            raise InputError(
                f"disordered: a site is shared by {one_line(site.species_string)}; "
                "give an ordered structure"
            )
        numbers.append(next(iter(occupancy_of)))
        occupancies.append(occupancy_of[numbers[-1]])
    entry.atoms = Atoms(
        numbers=numbers,
        positions=structure.cart_coords,
        cell=structure.lattice.matrix,
        pbc=structure.lattice.pbc,
    )
    if any(abs(occupancy - 1.0) > 1e-3 for occupancy in occupancies):
        entry.atoms.set_array("occupancy", np.array(occupancies), dtype=float)
    note_isotopes(entry, isotopes)


def note_isotopes(entry: Entry, symbols: set[str]) -> None:
    """Note in `entry` which isotopes of hydrogen were read as hydrogen."""
    entry.notes += [f"{ISOTOPES[symbol]} read as hydrogen" for symbol in sorted(symbols)]


def fill_keys(entry: Entry, keys: Mapping[str, Any]) -> None:
    """Read id, element and n_missing from the keys of a structure."""
    for key in ID_KEYS:
        value = keys.get(key)
        if isinstance(value, (str, int)) and str(value).strip():
            entry.id, entry.id_is_name = str(value), key == "name"
            break
    element = keys.get("element")
    entry.element = element if isinstance(element, str) else None
    entry.n_missing = keys.get("n_missing")


def drop_shared_names(entries: list[Entry]) -> None:
    """Remove names that several structures share, so that these structures get numbered ids."""
    names = Counter(entry.id for entry in entries if entry.id_is_name)
    for entry in entries:
        if entry.id_is_name and names[entry.id] > 1:
            entry.id, entry.id_is_name = None, False
