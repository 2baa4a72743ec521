"""Write restored crystals for other programs, from a results database or a finished run.

Every format shows the same crystals: for each structure the latest one, or with `dft` that of
lowest DFT energy. A structure without one is left out.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import ase.db
from ase.calculators.singlepoint import SinglePointCalculator

from xtalfill.core.io import atomic_writer, replacing, write_csv
from xtalfill.core.record import file_sha256
from xtalfill.core.relaxations import POSITIONS, RANK
from xtalfill.database.finished import read_finished
from xtalfill.database.recipe import content_digest
from xtalfill.database.records import Crystal, read_records
from xtalfill.results.candidate_source import DFT
from xtalfill.results.cif import cif_tags, format_cif
from xtalfill.results.structures import StructureRow


@dataclass(frozen=True)
class Restored:
    """A restored crystal and what is known of it.

    Attributes:
        id: Name of the structure.
        crystal: The crystal to export.
        is_dft: Whether it was relaxed by DFT.
        columns: The columns of the table of structures, and `run`, `recipe` and `history`.
    """

    id: str
    crystal: Crystal
    is_dft: bool
    columns: Mapping[str, Any]

    @property
    def stage(self) -> str:
        """The relaxation that gave the positions."""
        history = self.columns["history"]
        return DFT if self.is_dft else RANK if RANK in history else POSITIONS

    @property
    def potential(self) -> str:
        """The potential that gave the energy of the ranking."""
        history = self.columns["history"]
        return str(history[RANK if RANK in history else POSITIONS].get("mlip", ""))

    @property
    def recipe_digest(self) -> str:
        """The sha256 of settings and weights."""
        return content_digest(self.columns["recipe"])

    @property
    def stored(self) -> datetime:
        """When the result was stored, UTC."""
        return datetime.fromisoformat(self.columns["stored"]).astimezone(UTC)


def finished_columns(outdir: Path) -> Iterator[dict[str, Any]]:
    """Yield the structures of a finished run as the database would have them.

    Raises:
        InputError: The folder is not that of a finished run.
    """
    provenance, check, batches = read_finished(outdir)
    found: dict[str, Any] = {"run": f"import-{file_sha256(outdir / 'provenance.json')}"}
    found |= {"recipe": _content(provenance.get("recipe")), "stored": provenance["created"]}
    for record in read_records(check, batches):
        yield {**record.columns, **found, "history": record.history}


def _content(recipe: Mapping[str, Any] | None) -> dict[str, Any]:
    return {part: (recipe or {}).get(part, {}) for part in ("settings", "weights")}


def restored(rows: Iterable[Mapping[str, Any]], *, dft: bool) -> Iterator[Restored]:
    """Yield the crystals of structures that have one.

    Args:
        rows: Columns of structures, with `run`, `recipe` and `history`.
        dft: The crystal after pw.x instead of that after the potential.
    """
    for row in rows:
        crystal = Crystal.read(row["dft_crystal" if dft else "crystal"])
        if crystal is not None:
            yield Restored(row["name"], crystal, dft, row)


def write_cifs(found: Iterable[Restored], folder: Path) -> int:
    """Write a CIF with the symmetry of each crystal into a folder; return their number.

    An id that differs from an earlier one only in case gets eight digits of its SHA-256.
    """
    folder.mkdir(parents=True, exist_ok=True)
    taken: set[str] = set()
    for one in found:
        crystal, stem = one.crystal, one.id
        if stem.lower() in taken:
            stem = f"{stem}-{hashlib.sha256(stem.encode()).hexdigest()[:8]}"
        taken.add(stem.lower())
        tags = cif_tags(
            one.columns["history"],
            stage=one.stage,
            method=crystal.method,
            sample=crystal.sample,
            seed=crystal.seed,
        )
        text = format_cif(
            crystal.atoms,
            name=one.id,
            is_host=crystal.is_host,
            tags=tags | {"_tcod_total_energy": crystal.energy},
            symmetry=True,
        )
        with atomic_writer(folder / f"{stem}.cif") as file:
            file.write(text)
    return len(taken)


def write_optimade(found: Iterable[Restored], path: Path) -> int:
    """Write OPTIMADE JSON lines; return the number of structures."""
    from xtalfill.database.optimade import optimade_lines

    number = -2  # header and description
    with atomic_writer(path) as file:
        for line in optimade_lines(found):
            file.write(line + "\n")
            number += 1
    return number


def write_ase(found: Iterable[Restored], path: Path) -> int:
    """Write a database of ASE (SQLite); return the number of structures."""
    number = 0
    with replacing(path) as temporary, ase.db.connect(temporary, type="db") as target:
        for one in found:
            atoms = one.crystal.atoms
            atoms.calc = SinglePointCalculator(atoms, energy=one.crystal.energy)
            shown = ("status", "method", "energy_gap", "dft_energy", "n_missing")
            keys = {f"xtalfill_{key}": one.columns[key] for key in shown}
            data = {"id": one.id, "is_host": one.crystal.is_host, "potential": one.potential}
            values = {key: value for key, value in keys.items() if value is not None}
            target.write(atoms, key_value_pairs=values, data=data)
            number += 1
    return number


def write_table(rows: Iterable[Mapping[str, Any]], path: Path) -> int:
    """Write results.csv of all structures; return the number of its rows.

    A result of an earlier release has no value in a newer column.
    """
    names = [item.name for item in fields(StructureRow)]
    written = [
        StructureRow(**{name: result.get(name) for name in names})
        for row in rows
        for result in row["results"]
    ]
    write_csv(path, StructureRow, written)
    return len(written)
