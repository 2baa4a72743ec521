"""Read JSON of pymatgen, OPTIMADE, Materials Project, JARVIS and ASE, also as JSON lines.

No class named in the JSON is built; only numbers and symbols are read.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from ase import Atoms
from pymatgen.core import Structure

from xtalfill.core.errors import InputError
from xtalfill.core.text import one_line
from xtalfill.inputs.structures.entry import (
    Entry,
    fill_entry,
    fill_from_pymatgen,
    fill_keys,
)
from xtalfill.inputs.structures.evidence import HydrogenCount

_RECORD_KEYS = {"lattice", "sites", "structure", "attributes", "atoms", "lattice_mat"}
_VACANCY = "vacancy"


class _Pairs(dict):
    """A JSON object; `doubled` contains the pairs with a repeated key."""

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        super().__init__()
        self.doubled = []
        for key, value in pairs:
            if key in self:
                self.doubled.append((key, value))
            else:
                self[key] = value


def parse_json(text: str) -> Any:
    """Parse JSON, or JSON lines as a list of records.

    Raises:
        ValueError: The text is neither.
    """
    try:
        return json.loads(text, object_pairs_hook=_Pairs)
    except json.JSONDecodeError:
        lines = [line for line in text.splitlines() if line.strip()]
        if len(lines) < 2:
            raise
        return _parse_lines(lines)


def read_json(data: Any, source: str, stem: str) -> list[Entry]:
    """Read every structure from the result of `parse_json`.

    Raises:
        InputError: The data are neither a structure nor a list or dict of structures.
    """
    entries = []
    for number, (key, record) in enumerate(_records(data)):
        entry = Entry(source=source, fallback_id=stem)
        if key is not None:
            entry.source = f"{source} entry {one_line(key, limit=80)}"
            entry.fallback_id = f"{stem}_{number}"
        fill_entry(entry, _fill_from_record, record, kind="a structure in JSON")
        if isinstance(key, str):
            entry.id, entry.id_is_name = key, False
        entries.append(entry)
    return entries


def is_ase_database(data: Any) -> bool:
    """Return whether the result of `parse_json` is an ASE database."""
    return isinstance(data, dict) and {"ids", "nextid"} <= data.keys()


def _records(data: Any) -> Iterator[tuple[str | int | None, Any]]:
    """Yield (key, record): the key of a dict, the index in a list, None for a single record."""
    if isinstance(data, dict) and isinstance(data.get("data"), (list, dict)):
        # Response of a server: OPTIMADE, Materials Project.
        data = data["data"]
    if isinstance(data, dict) and data.keys() & _RECORD_KEYS:
        yield None, data
    elif isinstance(data, _Pairs):
        yield from [*data.items(), *data.doubled]
    elif isinstance(data, list):
        # The first line of an OPTIMADE JSON-lines file describes the file.
        yield from (
            (number, record)
            for number, record in enumerate(data)
            if not (isinstance(record, dict) and "x-optimade" in record)
        )
    else:
        raise InputError("is neither a structure nor a list or dict of structures")


def _parse_lines(lines: list[str]) -> list[Any]:
    """Return the records of JSON lines; an invalid line becomes its error."""
    records: list[Any] = []
    for line in lines:
        try:
            records.append(json.loads(line, object_pairs_hook=_Pairs))
        except json.JSONDecodeError as error:
            if not records:
                raise
            records.append(error)
    return records


def _fill_from_record(entry: Entry, record: Any) -> None:
    """Build the structure of a record of any supported kind.

    Raises:
        InputError: The record is of no supported kind, or not periodic.
    """
    if isinstance(record, json.JSONDecodeError):
        raise InputError(f"the line is not valid JSON ({one_line(record, limit=80)}); correct it")
    if not isinstance(record, dict):
        raise InputError("is not a structure; give the output of pymatgen's Structure.as_dict()")
    if isinstance(attributes := record.get("attributes", record), dict) and (
        "cartesian_site_positions" in attributes or "lattice_vectors" in attributes
    ):
        fill_keys(entry, {**attributes, **record})
        _fill_from_optimade(entry, attributes)
        return
    atoms = record.get("atoms", record)
    if isinstance(atoms, dict) and "lattice_mat" in atoms:
        fill_keys(entry, {"id": record.get("jid"), **record})
        _fill_from_jarvis(entry, atoms)
        return
    structure = record.get("structure", record)
    if not isinstance(structure, dict) or "sites" not in structure:
        raise InputError("is not a structure; give the output of pymatgen's Structure.as_dict()")
    if "lattice" not in structure:
        raise InputError("is not periodic: it has no lattice; give a crystal, not a molecule")
    properties = structure.get("properties")
    fill_keys(entry, {**(properties if isinstance(properties, dict) else {}), **record})
    _fill_from_pymatgen_dict(entry, structure)


def _fill_from_pymatgen_dict(entry: Entry, structure: Mapping[str, Any]) -> None:
    """Read numbers and symbols only; pymatgen would build any class that a property names."""
    sites = [
        {
            "abc": site["abc"],
            "species": [
                {key: part[key] for key in ("element", "occu")} for part in site["species"]
            ],
        }
        for site in structure["sites"]
    ]
    keys = ("matrix", "a", "b", "c", "alpha", "beta", "gamma", "pbc")
    lattice = {key: structure["lattice"][key] for key in keys if key in structure["lattice"]}
    fill_from_pymatgen(entry, Structure.from_dict({"lattice": lattice, "sites": sites}))


def _fill_from_jarvis(entry: Entry, atoms: Mapping[str, Any]) -> None:
    cell = np.array(atoms["lattice_mat"], dtype=float)
    places = np.array(atoms["coords"], dtype=float)
    symbols = [str(symbol).strip() for symbol in atoms["elements"]]
    positions = places if atoms.get("cartesian") else places @ cell
    structure = Structure(cell, symbols, positions, coords_are_cartesian=True)
    fill_from_pymatgen(entry, structure)


def _fill_from_optimade(entry: Entry, attributes: Mapping[str, Any]) -> None:
    """Build an OPTIMADE structure (specification 1.2, section 7.2)."""
    dimensions = attributes.get("dimension_types") or [1, 1, 1]
    cell = np.array(attributes["lattice_vectors"], dtype=float)
    species = {one["name"]: one for one in attributes.get("species") or []}
    parts, carried = [], 0.0
    for name in attributes["species_at_sites"]:
        one = species.get(name, {"chemical_symbols": [name], "concentration": [1.0]})
        parts.append({
            symbol: float(share)
            for symbol, share in zip(one["chemical_symbols"], one["concentration"], strict=True)
            if symbol != _VACANCY and float(share) > 0
        })  # fmt: skip
        carried += sum(
            float(count)
            for symbol, count in zip(
                one.get("attached") or [], one.get("nattached") or [], strict=True
            )
            if symbol in ("H", "D", "T")
        )
    places = np.array(attributes["cartesian_site_positions"], dtype=float)
    fill_from_pymatgen(entry, Structure(cell, parts, places, coords_are_cartesian=True))
    if isinstance(entry.atoms, Atoms):
        entry.atoms.set_pbc([bool(axis) for axis in dimensions])
    if carried:
        entry.evidence.attached = HydrogenCount(carried, carried, "attached hydrogens (nattached)")
