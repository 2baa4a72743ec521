"""Read JSON of pymatgen, OPTIMADE, Materials Project, JARVIS and ASE, also as JSON lines.

JSON lines, and a list in JSON, are read record by record. No class named in the JSON is built; only
numbers and symbols are read.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TextIO

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

_RECORD_KEYS = {
    "lattice", "sites", "structure", "attributes", "atoms", "lattice_mat", "positions",
}  # fmt: skip
# Types of OPTIMADE entries that are no structures; "info" describes the fields of a type.
_BESIDE = ("info", "references", "links", "files", "calculations")
_VACANCY = "vacancy"
# In the record that ends a download which is not complete: why it ended.
STOPPED = "xtalfill_stopped"
_CHUNK = 1 << 20
# A longer record is no crystal.
_MAX_RECORD = 1 << 28
_BLANKS = " \t\r\n"


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
        return _parse(text)
    except json.JSONDecodeError:
        lines = [line for line in text.splitlines() if line.strip()]
        if len(lines) < 2:
            raise
        return [_parse(lines[0]), *map(_parse_line, lines[1:])]


def _parse(text: str) -> Any:
    return json.loads(text, object_pairs_hook=_Pairs)


def _parse_line(line: str) -> Any:
    """Return the record of a line; of an invalid one its error."""
    try:
        return _parse(line)
    except (ValueError, RecursionError) as error:
        return error


def read_json(data: Any, source: str, stem: str) -> Iterator[Entry]:
    """Yield the structures in the result of `parse_json`.

    Raises:
        InputError: The data are neither a structure nor a list or dict of structures.
    """
    for number, (key, record) in enumerate(_records(data)):
        if key is None:
            yield _entry(record, source, stem)
            continue
        name = f"{source} entry {one_line(key, limit=80)}"
        entry = _entry(record, name, f"{stem}_{number}")
        if isinstance(key, str):
            entry.id, entry.id_is_name = key, False
        yield entry


def read_records(records: Iterable[Any], source: str, stem: str) -> Iterator[Entry]:
    """Yield the structures of a series of records, in order.

    Args:
        records: Each of any supported kind, or an error, or a dict with the key `STOPPED`.
        source: Where they are from, for messages.
        stem: Start of the ids of structures without one.
    """
    for number, record in enumerate(records):
        if isinstance(record, dict) and STOPPED in record:
            problem = one_line(record[STOPPED], limit=300)
            yield Entry(source=source, fallback_id=f"{stem}_rest", error=problem)
        elif not _is_beside(record):
            yield _entry(record, f"{source} entry {number}", f"{stem}_{number}")


def _is_beside(record: Any) -> bool:
    """Return whether a line of OPTIMADE JSON lines is the header, or of another type of entry."""
    return isinstance(record, dict) and (
        "x-optimade" in record or ("id" in record and record.get("type") in _BESIDE)
    )


def read_json_lines(file: TextIO, source: str, stem: str) -> Iterator[Entry]:
    """Yield the structures of JSON lines one by one; arguments as `read_records`.

    Raises:
        ValueError: The first line is not JSON, nor is the whole text.
    """
    lines = (line for line in iter(lambda: file.readline(_MAX_RECORD), "") if line.strip())
    first, second = next(lines, ""), next(lines, None)
    try:
        records = [_parse(first)]
    except json.JSONDecodeError:
        rest = "" if second is None else second + "".join(lines)
        yield from read_json(parse_json(first + rest), source, stem)
        return
    if second is None:
        yield from read_json(records[0], source, stem)
    else:
        rest_of_lines = map(_parse_line, itertools.chain([second], lines))
        yield from read_records(itertools.chain(records, rest_of_lines), source, stem)


def read_json_list(file: TextIO, source: str, stem: str) -> Iterator[Entry] | None:
    """Yield the structures of a list in JSON one by one; arguments as `read_records`.

    Returns:
        None if the text is not a list.
    """
    buffer = ""
    while not buffer and (chunk := file.read(_CHUNK)):
        buffer = chunk.lstrip(_BLANKS)
    if not buffer.startswith("["):
        return None
    return read_records(_items(file, buffer[1:]), source, stem)


def _items(file: TextIO, buffer: str) -> Iterator[Any]:
    """Yield the items of a list in JSON, after its bracket.

    Raises:
        ValueError: The text is not valid JSON from here on.
    """
    decoder = json.JSONDecoder(object_pairs_hook=_Pairs)
    separator, size, ended = "", _CHUNK, False
    while True:
        buffer = buffer.lstrip(_BLANKS)
        rest = buffer[len(separator) :].lstrip(_BLANKS) if buffer.startswith(separator) else ""
        try:
            if buffer.startswith("]"):
                if buffer[1:].strip(_BLANKS) or file.read(_CHUNK).strip(_BLANKS):
                    raise InputError("has text after the list; the file is damaged")
                return
            item, end = decoder.raw_decode(rest)
            # A number at the end of what was read may go on.
            if end == len(rest) and not ended:
                raise json.JSONDecodeError("not complete", rest, end)
        except json.JSONDecodeError as error:
            chunk = "" if len(buffer) > _MAX_RECORD else file.read(size)
            if ended and not chunk:
                raise InputError(
                    f"the list breaks off or is not valid JSON ({one_line(error, limit=80)}); "
                    "write the file again"
                ) from error
            ended, size = not chunk, 2 * size
            buffer += chunk
            continue
        yield item
        buffer, separator, size = rest[end:], ",", _CHUNK


def _entry(record: Any, source: str, fallback_id: str) -> Entry:
    """Return the entry of one record."""
    entry = Entry(source=source, fallback_id=fallback_id)
    fill_entry(entry, _fill_from_record, record, kind="a structure in JSON")
    return entry


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


def _fill_from_record(entry: Entry, record: Any) -> None:
    """Build the structure of a record of any supported kind.

    Raises:
        InputError: The record is of no supported kind, or not periodic.
    """
    if isinstance(record, Exception):
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
    if record.keys() >= {"numbers", "positions", "cell"}:
        fill_keys(entry, record)
        _fill_from_arrays(entry, record)
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


def _fill_from_arrays(entry: Entry, record: Mapping[str, Any]) -> None:
    """Read the arrays of ASE's Atoms: numbers, positions, cell, pbc."""
    entry.atoms = Atoms(
        numbers=np.array(record["numbers"], dtype=int),
        positions=np.array(record["positions"], dtype=float).reshape(-1, 3),
        cell=np.array(record["cell"], dtype=float),
        pbc=record.get("pbc", True),
    )


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
