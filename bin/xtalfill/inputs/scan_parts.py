"""Divide a large input into parts that tasks judge side by side, as lines of JSON.

A part holds what a judgement needs of each structure; of a tree, whose files take longest to read,
the names of files. All numbers come back bit for bit: the tables of a divided scan are those of one
process.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from xtalfill.core.errors import InputError
from xtalfill.core.io import atomic_writer, make_folder
from xtalfill.inputs.scan import Judgement
from xtalfill.inputs.scanned import Scanned, scan_one
from xtalfill.inputs.structures import Entry, Streamed, UnreadFile
from xtalfill.inputs.structures.evidence import Evidence, HydrogenCount

# The probability that two of a million parts share these digits is 0.2 %.
_NAME_DIGITS = 12
_CARRIED = re.compile(r"[\w./ +,=@%~-]+", re.ASCII)


@dataclass(frozen=True, kw_only=True)
class DivideSettings:
    """Parameters of DIVIDE_INPUT.

    Attributes:
        scan_batch: Largest number of structures, or of the files of a tree, in a part.
    """

    scan_batch: int


def divide(structures: Iterable[Streamed | UnreadFile], folder: Path, *, most: int) -> list[str]:
    """Write the structures of an input in parts.

    A part of a tree has <name>.files beside it: the files that it names, one a line, in its order.

    Where a part ends depends on its last structure: on average one in half of `most` ends one. If
    the input gets or loses a structure, one or two parts change, and -resume keeps the others.
    The name of a part is that of its content.

    Args:
        structures: The input (`list_structures`); only one part of it is in memory.
        folder: Where the parts go; made if there is none.
        most: Largest number of structures, or of files, in a part.

    Returns:
        The names of the parts, <folder>/<name>.jsonl, in the order of the input. A part that comes
        twice is one file.
    """
    make_folder(folder)
    names = []
    given = itertools.chain.from_iterable(map(_readable, structures))
    for lines in _parts(((one, _given_line(one)) for one in given), most):
        text = "".join(line for _, line in lines)
        name = f"part_{hashlib.sha256(text.encode()).hexdigest()[:_NAME_DIGITS]}"
        names.append(name)
        with atomic_writer(folder / f"{name}.jsonl") as file:
            file.write(text)
        with atomic_writer(folder / f"{name}.files") as file:
            file.writelines(f"{_place(one)}\n" for one, _ in lines if isinstance(one, UnreadFile))
    return names


def _readable(given: Streamed | UnreadFile) -> Iterator[Streamed | UnreadFile]:
    """Read a file here whose path a list of names or a command may not carry over."""
    if isinstance(given, UnreadFile) and not _CARRIED.fullmatch(str(_place(given))):
        return given.read()
    return iter([given])


def _place(file: UnreadFile) -> Path:
    """Return the whole path of a file; a link keeps its name, which tells the format."""
    return file.path.parent.resolve() / file.path.name


def _parts(
    lines: Iterable[tuple[Streamed | UnreadFile, str]], most: int
) -> Iterator[list[tuple[Streamed | UnreadFile, str]]]:
    """Group lines; a group ends with a line of a certain digest, and at `most` lines."""
    group = []
    for one, line in lines:
        group.append((one, line))
        digest = int.from_bytes(hashlib.sha256(line.encode()).digest()[:8])
        if len(group) == most or digest % max(1, most // 2) == 0:
            yield group
            group = []
    if group:
        yield group


def judge_part(part: Path, output: Path, *, files: Iterable[Path] = ()) -> int:
    """Judge the structures of a part and write what was found, one line each.

    Args:
        part: A part of `divide`.
        output: JSON lines to write.
        files: Where the files are that a part of a tree names, in its order.

    Returns:
        The number of structures.

    Raises:
        InputError: The part is damaged.
    """
    count, places = 0, iter(files)
    with atomic_writer(output) as file:
        for record in _records(part):
            for streamed in _given(record, places):
                file.write(_line(_scanned_record(scan_one(streamed))))
                count += 1
    return count


def read_judged(files: Iterable[Path]) -> Iterator[Scanned]:
    """Yield the structures that `judge_part` wrote, file by file.

    Raises:
        InputError: A file is damaged.
    """
    return map(_scanned, itertools.chain.from_iterable(map(_records, files)))


def _records(path: Path) -> Iterator[Any]:
    try:
        with path.open(encoding="utf-8") as file:
            for line in file:
                yield json.loads(line)
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: no whole part of a scan; repeat the run") from error


def _line(record: dict[str, Any]) -> str:
    return json.dumps(record, default=_plain) + "\n"


def _plain(value: Any) -> Any:
    """Return a number of numpy, or an array, as Python has it."""
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} is not written")


def _given_line(given: Streamed | UnreadFile) -> str:
    if isinstance(given, UnreadFile):
        return _line({"unread": {"source": given.source, "stem": given.stem}})
    return _streamed_line(given)


def _given(record: dict[str, Any], places: Iterator[Path]) -> Iterator[Streamed]:
    if "unread" in record:
        return UnreadFile(path=next(places), **record["unread"]).read()
    return iter([_streamed(record)])


def _streamed_line(streamed: Streamed) -> str:
    entry, evidence = streamed.entry, streamed.entry.evidence
    return _line(
        {
            "source": entry.source,
            "fallback_id": entry.fallback_id,
            "id": entry.id,
            "id_is_name": entry.id_is_name,
            "error": entry.error,
            "file": None if streamed.file is None else str(streamed.file.resolve()),
            "atoms": _atoms_record(entry.atoms),
            "evidence": {
                # The keys of an object of JSON are text.
                "formula": None if evidence.formula is None else list(evidence.formula.items()),
                "unlocated": list(evidence.unlocated.items()),
                "attached": asdict(evidence.attached) if evidence.attached else None,
                "named": asdict(evidence.named) if evidence.named else None,
            },
        }
    )


def _streamed(record: dict[str, Any]) -> Streamed:
    given = record["evidence"]
    evidence = Evidence(
        formula=None if given["formula"] is None else dict(given["formula"]),
        unlocated=dict(given["unlocated"]),
        attached=HydrogenCount(**given["attached"]) if given["attached"] else None,
        named=HydrogenCount(**given["named"]) if given["named"] else None,
    )
    entry = Entry(
        source=record["source"],
        fallback_id=record["fallback_id"],
        atoms=_atoms(record["atoms"]),
        id=record["id"],
        id_is_name=record["id_is_name"],
        evidence=evidence,
        error=record["error"],
    )
    return Streamed(entry, None if record["file"] is None else Path(record["file"]))


def _scanned_record(scanned: Scanned) -> dict[str, Any]:
    return vars(scanned) | {
        "judgement": asdict(scanned.judgement) if scanned.judgement else None,
        "file": None if scanned.file is None else str(scanned.file),
        "host": _atoms_record(scanned.host),
    }


def _scanned(record: dict[str, Any]) -> Scanned:
    judgement = record["judgement"]
    if judgement is not None:
        lists = {name: tuple(judgement[name]) for name in ("evidence", "sites")}
        judgement = Judgement(**judgement | lists)
    file = None if record["file"] is None else Path(record["file"])
    return Scanned(
        **record | {"judgement": judgement, "file": file, "host": _atoms(record["host"])}
    )


def _atoms_record(atoms: Atoms | None) -> dict[str, Any] | None:
    """Return cell, periodicity and all arrays of a crystal, such as its occupancies."""
    if atoms is None:
        return None
    return {"cell": atoms.cell.array, "pbc": atoms.pbc, "arrays": atoms.arrays}


def _atoms(record: dict[str, Any] | None) -> Atoms | None:
    if record is None:
        return None
    arrays = dict(record["arrays"])
    cell, pbc = record["cell"], record["pbc"]
    atoms = Atoms(arrays.pop("numbers"), arrays.pop("positions"), cell=cell, pbc=pbc)
    for name, values in arrays.items():
        atoms.set_array(name, np.array(values))
    return atoms
