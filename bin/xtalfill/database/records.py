"""What the results database stores of a structure, read from the batches of a run."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.formula import Formula

from xtalfill.core.batch import Batch, read_batch
from xtalfill.core.relaxations import final_stage
from xtalfill.core.text import one_line
from xtalfill.database.recipe import host_key
from xtalfill.results.candidate_source import DFT
from xtalfill.results.candidates import CandidateRow
from xtalfill.results.collect import lowest_by_dft
from xtalfill.results.structures import StructureRow
from xtalfill.results.tables import Tables, structure_rows, tables_of

REFUSED = "refused"
_LONGEST_TEXT = 1000
_OF_CANDIDATE = ("energy", "method", "sample", "seed")


@dataclass(frozen=True)
class Crystal:
    """A crystal with its energy, as it is stored.

    Attributes:
        atoms: The crystal, Å.
        is_host: (n_atoms,) True for a site of the input, False for a restored one.
        energy: eV per cell; None if it is not known.
        method: Proposal method of the candidate.
        sample: Its number.
        seed: Seed of its run.
    """

    atoms: Atoms
    is_host: np.ndarray
    energy: float | None
    method: str
    sample: int
    seed: int

    def content(self) -> dict[str, Any]:
        """Return plain JSON values; a float is read back with the same bits."""
        return {
            "cell": self.atoms.cell.tolist(),
            "numbers": self.atoms.numbers.tolist(),
            "positions": self.atoms.positions.tolist(),
            "is_host": self.is_host.tolist(),
            **{name: getattr(self, name) for name in _OF_CANDIDATE},
        }

    @classmethod
    def read(cls, content: dict[str, Any] | None) -> Crystal | None:
        """Return a stored crystal."""
        if content is None:
            return None
        atoms = Atoms(content["numbers"], content["positions"], cell=content["cell"], pbc=True)
        is_host = np.array(content["is_host"], dtype=bool)
        return cls(atoms, is_host, **{name: content[name] for name in _OF_CANDIDATE})


@dataclass(frozen=True)
class Record:
    """A structure of a run with its results.

    Attributes:
        columns: Column of the table of structures -> value, without the keys of other tables.
        candidates: Rows of candidates.csv.
        history: What the stages noted in the batch.
    """

    columns: dict[str, Any]
    candidates: list[dict[str, Any]]
    history: dict[str, Any]


def read_records(check: dict[str, Any], batches: list[Path]) -> Iterator[Record]:
    """Yield the structures of a run, a batch at a time; those that CHECK refused come first.

    Args:
        check: Content of check.json, or of the part that belongs to the batches.
        batches: The batches after EVALUATE.

    Raises:
        InputError: A batch cannot be read.
    """
    entries: dict[str, list[dict[str, Any]]] = {}
    for entry in check["structures"]:
        entries.setdefault(entry["batch"], []).append(entry)
    nothing = {**check, "structures": [], "reference_failures": []}
    yield from (_refused(entry) for entry in check["failures"])
    for path in batches:
        part = {**nothing, "failures": [], "structures": entries.get(path.name, [])}
        yield from _of_batch(tables_of(part, [path]), read_batch(path))


def _refused(entry: dict[str, Any]) -> Record:
    columns = dict.fromkeys(("n_atoms", "n_missing", "energy", "energy_gap", "dft_energy"))
    columns |= dict.fromkeys(("crystal", "dft_crystal"))
    columns |= dict.fromkeys(("formula", "reduced_formula", "elements", "element"), "")
    columns |= {"host_key": "", "method": "", "dft_status": "", "results": []}
    columns |= {"name": entry["id"], "source": one_line(entry["source"], limit=_LONGEST_TEXT)}
    columns |= {"status": REFUSED, "message": one_line(entry["message"], limit=_LONGEST_TEXT)}
    return Record(columns, [], {})


def _of_batch(tables: Tables, batch: Batch) -> Iterator[Record]:
    rows: dict[str, list[StructureRow]] = {}
    for row in structure_rows(tables):
        rows.setdefault(row.id, []).append(row)
    candidates: dict[str, list[CandidateRow]] = {}
    for one in tables.candidates:
        candidates.setdefault(one.id, []).append(one)
    lowest = lowest_by_dft(tables)
    history = {name: stage.attrs for name, stage in batch.stages.items()}
    for name, members in batch.groups().items():
        index = {(batch.method[one], int(batch.sample[one])): one for one in members}
        best = next((row for row in candidates[name] if row.best_of_all), None)
        dft = lowest.get(name)
        crystals = {
            "crystal": None
            if best is None
            else _crystal(batch, best, index, final_stage(batch), best.energy),
            "dft_crystal": None
            if dft is None
            else _crystal(batch, dft, index, DFT, dft.dft_energy),
        }
        source = str(tables.structures.get(name, {}).get("source", ""))
        columns = _host_columns(batch, members[0])
        columns |= _columns(rows[name], source) | {
            key: None if crystal is None else crystal.content() for key, crystal in crystals.items()
        }
        yield Record(columns, [plain(asdict(row)) for row in candidates[name]], history)


def _crystal(
    batch: Batch, row: CandidateRow, index_of: dict[tuple[str, int], int], stage: str, energy: float
) -> Crystal:
    index = index_of[row.method, row.sample]
    return Crystal(
        atoms=batch.to_ase(index, stage=stage),
        is_host=batch.is_host[batch.atoms_slice(index)],
        energy=energy if math.isfinite(energy) else None,
        method=row.method,
        sample=row.sample,
        seed=row.seed,
    )


def _host_columns(batch: Batch, index: int) -> dict[str, Any]:
    """Return what follows from the composition and the host of a system."""
    here = batch.atoms_slice(index)
    is_host, numbers = batch.is_host[here], batch.atomic_numbers[here]
    atoms = batch.to_ase(index)
    host = atoms[is_host]
    return {
        "host_key": host_key(
            host.cell.array,
            host.numbers,
            host.positions,
            element=int(numbers[~is_host][0]),
            n_missing=int((~is_host).sum()),
        ),
        "reduced_formula": reduced_formula(str(atoms.symbols)),
        "elements": f"-{'-'.join(sorted(set(atoms.symbols)))}-",
    }


def reduced_formula(text: str) -> str:
    """Return a formula reduced to the smallest whole numbers, elements in alphabetical order.

    Raises:
        ValueError: It is not a formula.
    """
    formula, _ = Formula(text).reduce()
    return "".join(
        f"{symbol}{number if number > 1 else ''}"
        for symbol, number in sorted(formula.count().items())
    )


def _columns(rows: list[StructureRow], source: str) -> dict[str, Any]:
    """Return the columns that the best of the rows of results.csv decides."""
    best = next((row for row in rows if row.best_of_all), rows[0])
    shown = ("formula", "element", "n_atoms", "n_missing", "status", "method", "energy")
    columns = {name: getattr(best, name) for name in (*shown, "energy_gap")}
    sent = [row for row in rows if row.dft_status]
    with_energy = [row for row in sent if math.isfinite(row.dft_energy)]
    lowest = min(with_energy, key=lambda row: row.dft_energy, default=None)
    first = lowest or next(iter(sent), None)
    columns |= {
        "name": best.id,
        "source": one_line(source, limit=_LONGEST_TEXT),
        "message": one_line(best.message, limit=_LONGEST_TEXT),
        "dft_status": first.dft_status if first else "",
        "dft_energy": lowest.dft_energy if lowest else None,
        "results": [asdict(row) for row in [best, *(row for row in rows if row is not best)]],
    }
    return dict(plain(columns))


def plain(value: Any) -> Any:
    """Return JSON values: NaN and infinity are None, numbers of numpy those of Python."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value
