"""What a user gives to `restore`: crystals as ASE or pymatgen objects, and paths."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from ase import Atoms
from pymatgen.core import Structure

from xtalfill.core.errors import InputError
from xtalfill.core.matching import to_pymatgen
from xtalfill.core.text import one_line
from xtalfill.inputs.structures import Entry, read_structures
from xtalfill.inputs.structures.entry import fill_entry, fill_from_pymatgen, fill_keys

Given: TypeAlias = Atoms | Structure | str | Path
Crystal: TypeAlias = Atoms | Structure


@dataclass(frozen=True)
class GivenStructure:
    """One structure of the user.

    Attributes:
        entry: The structure for CHECK.
        form: Converts a restored crystal to the type that was given.
    """

    entry: Entry
    form: Callable[[Atoms], Crystal]


def read_given(given: Given | Sequence[Given]) -> list[GivenStructure]:
    """Return the structures that a user gave, in order.

    A path may hold several structures. A crystal without an id gets one from its content, so that
    its candidates do not depend on its place in a list.

    Raises:
        InputError: The only path given cannot be read, or the type is not supported.
    """
    if not isinstance(given, (list, tuple)):
        return _numbered(_read_one(given, "the structure"))
    found: list[GivenStructure] = []
    for number, item in enumerate(given):
        try:
            found += _read_one(item, f"structure {number}")
        except InputError as error:
            source = str(item) if isinstance(item, (str, Path)) else f"structure {number}"
            problem = Entry(source, f"structure_{number}", error=str(error))
            found.append(GivenStructure(problem, _as_ase))
    return _numbered(found)


def _read_one(item: Any, source: str) -> list[GivenStructure]:
    if isinstance(item, (str, Path)):
        return [GivenStructure(entry, _as_ase) for entry in read_structures(item)]
    entry = Entry(source, "")
    if isinstance(item, Atoms):
        fill_entry(entry, _fill_from_atoms, item, kind="ASE Atoms")
        form: Callable[[Atoms], Crystal] = _as_ase
    elif isinstance(item, Structure):
        fill_entry(entry, _fill_from_structure, item, kind="pymatgen Structure")
        form = to_pymatgen
    else:
        raise InputError(
            f"{source}: {one_line(type(item).__name__)} is not supported; give ASE Atoms, a "
            "pymatgen Structure, a path, or a list of them"
        )
    entry.fallback_id = "structure" if entry.atoms is None else content_id(entry.atoms)
    return [GivenStructure(entry, form)]


def content_id(atoms: Atoms) -> str:
    """Return an id that depends on elements, positions and cell alone."""
    digest = hashlib.sha256()
    for array in (atoms.numbers.astype(np.int64), atoms.positions, np.asarray(atoms.cell)):
        digest.update(np.ascontiguousarray(array).tobytes())
    return f"{atoms.get_chemical_formula(mode='metal')[:60]}-{digest.hexdigest()[:8]}"


def _numbered(found: list[GivenStructure]) -> list[GivenStructure]:
    """Add a number to the ids from the content that repeat; CHECK refuses equal ids."""
    seen: Counter[str] = Counter()
    for one in found:
        if one.entry.id is None and one.entry.error is None:
            name = one.entry.fallback_id
            seen[name] += 1
            if seen[name] > 1:
                one.entry.fallback_id = f"{name}_{seen[name]}"
    return found


def _fill_from_atoms(entry: Entry, atoms: Atoms) -> None:
    fill_keys(entry, atoms.info)
    entry.atoms = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=atoms.pbc)


def _fill_from_structure(entry: Entry, structure: Structure) -> None:
    fill_keys(entry, structure.properties)
    fill_from_pymatgen(entry, structure)


def _as_ase(atoms: Atoms) -> Atoms:
    return atoms
