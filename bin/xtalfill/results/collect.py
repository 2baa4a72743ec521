"""Write the results of a run: tables, structure files and evaluation.json.

    results.csv        one row for each structure and method: the selected candidate
    candidates.csv     one row for each candidate
    failures.csv       what was refused, lost, failed or did not converge, and why
    selected.extxyz    the selected candidate of each structure and method, relaxed
    candidates.extxyz  every candidate after its last completed stage
    structures/        <id>.cif: relaxed; host_fixed/<id>.cif: with the host of the input;
                       symmetrised/<id>.cif: at symmetric positions, relaxed again;
                       dft/<id>.cif (--validate): lowest DFT energy after pw.x
    counts.csv         with --n_missing auto: probabilities of the numbers that were compared
    stored.csv         with --database: what it has already, so that it was not filled
    evaluation.json    success rates (docs/evaluation.md)

A file appears under its name only when it is complete.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from ase.io.extxyz import key_val_str_to_dict

from xtalfill.checks.symmetrised import STAGE as SYMMETRISED
from xtalfill.checks.symmetrised import is_offered
from xtalfill.checks.symmetry import find_symmetry
from xtalfill.core.batch import Batch, read_batch
from xtalfill.core.io import atomic_writer, write_csv, write_json
from xtalfill.core.relaxations import RELAXATIONS, SITES, final_stage
from xtalfill.results.candidate_source import DFT
from xtalfill.results.candidates import CandidateRow
from xtalfill.results.cif import cif_tags, format_cif
from xtalfill.results.counts import CountRow
from xtalfill.results.dft_summary import summarise_dft
from xtalfill.results.structures import StructureRow
from xtalfill.results.summary import summarise
from xtalfill.results.tables import (
    FailureRow,
    StoredRow,
    Tables,
    read_tables,
    structure_rows,
)

# Stages that give positions, the last one first.
_STAGES = (*reversed(RELAXATIONS), "inpaint")


def collect(check: Path, batches: list[Path], outdir: Path) -> Tables:
    """Write all tables and structure files of a run.

    Args:
        check: check.json of CHECK.
        batches: The batches after EVALUATE, in any order.
        outdir: Folder for the files; created if missing.

    Returns:
        The rows of the tables.

    Raises:
        InputError: A file cannot be read (see `read_tables`).
    """
    tables = read_tables(check, batches)
    (outdir / "structures").mkdir(parents=True, exist_ok=True)
    write_csv(outdir / "results.csv", StructureRow, structure_rows(tables))
    write_csv(outdir / "candidates.csv", CandidateRow, tables.candidates)
    write_csv(outdir / "failures.csv", FailureRow, tables.failures)
    if tables.counts:
        write_csv(outdir / "counts.csv", CountRow, tables.counts)
    if tables.stored:
        rows = [StoredRow(**entry) for _, entry in sorted(tables.stored.items())]
        write_csv(outdir / "stored.csv", StoredRow, rows)
    write_json(outdir / "evaluation.json", {**summarise(tables), "dft": summarise_dft(tables)})
    _write_structures(tables, outdir)
    return tables


def write_refusals(check: Path, outdir: Path) -> None:
    """Write results.csv and failures.csv of a run in which CHECK refused every structure.

    Args:
        check: check.json of CHECK.
        outdir: Folder for the files; created if missing.
    """
    tables = read_tables(check, [])
    outdir.mkdir(parents=True, exist_ok=True)
    write_csv(outdir / "results.csv", StructureRow, structure_rows(tables))
    write_csv(outdir / "failures.csv", FailureRow, tables.failures)


def _write_structures(tables: Tables, outdir: Path) -> None:
    """Write extxyz and CIF files, reading each batch once."""
    best, lowest = best_over_methods(tables), lowest_by_dft(tables)
    stems = file_stems(tables.batch_of)
    rows = {(row.id, row.method, row.sample): row for row in tables.candidates}
    paths = sorted(set(tables.batch_of.values()))
    with (
        atomic_writer(outdir / "selected.extxyz") as selected,
        atomic_writer(outdir / "candidates.extxyz") as everything,
    ):
        for path in paths:
            batch = read_batch(path)
            for members in batch.groups().values():
                for index in members:
                    key = (batch.id[index], batch.method[index], int(batch.sample[index]))
                    row = rows[key]
                    frame = format_frame(batch, index, row)
                    everything.write(frame)
                    if row.selected:
                        selected.write(frame)
                    file = outdir / "structures" / f"{stems[row.id]}.cif"
                    if best.get(row.id) is row:
                        _write_cif(batch, row, index, final_stage(batch), file)
                        _write_cif(batch, row, index, SITES, file.parent / "host_fixed" / file.name)
                        if is_offered(row.symmetrised_energy, row.n_atoms):
                            _write_symmetrised(batch, row, index, file)
                    if lowest.get(row.id) is row:
                        _write_cif(batch, row, index, DFT, file.parent / DFT / file.name)


def best_over_methods(tables: Tables) -> dict[str, CandidateRow]:
    """Return the best candidate of each structure that has one."""
    return {row.id: row for row in tables.candidates if row.best_of_all}


def last_stage(batch: Batch, index: int) -> str | None:
    """Return the last stage with finite positions of a system; None if there is none."""
    here = batch.atoms_slice(index)
    for stage in _STAGES:
        if stage in batch.stages:
            positions = batch.stages[stage].arrays["positions"][here]
            if np.isfinite(positions).all():
                return stage
    return None


def format_frame(batch: Batch, index: int, row: CandidateRow) -> str:
    """Return a candidate as an extended XYZ frame with all digits of its numbers.

    ASE can read the frame; the writer of ASE would keep only 8 decimals. A failed candidate has
    the positions of its last completed stage, which `stage` names, and no energy. Without any
    positions, the frame has the host only (stage=none).

    Args:
        batch: Batch with the candidate.
        index: Number of its system.
        row: Its row of candidates.csv.
    """
    stage = last_stage(batch, index)
    here = batch.atoms_slice(index)
    atoms = batch.to_ase(index, stage=stage, host_only=stage is None)
    is_host = batch.is_host[here] if stage else np.ones(len(atoms), dtype=bool)
    forces = None
    if stage and "forces" in batch.stages[stage].arrays:
        forces = batch.stages[stage].arrays["forces"][here]
    with_forces = forces is not None and np.isfinite(forces).all()
    info: dict[str, Any] = {"id": row.id, "sample": row.sample, "seed": row.seed}
    info |= {"method": row.method, "status": row.status, "converged": row.converged}
    info |= {"selected": row.selected, "stage": stage or "none"}
    if stage == final_stage(batch) and math.isfinite(row.energy):
        info["energy"] = row.energy
    columns = "species:S:1:pos:R:3:is_host:L:1" + (":forces:R:3" if with_forces else "")
    lattice = " ".join(repr(float(value)) for value in batch.cell[index].ravel())
    header = f'Lattice="{lattice}" Properties={columns} pbc="T T T"'
    lines = [str(len(atoms)), " ".join([header, *(f"{k}={_xyz(v)}" for k, v in info.items())])]
    for number, symbol in enumerate(atoms.get_chemical_symbols()):
        values = [repr(float(value)) for value in atoms.positions[number]]
        values.append("T" if is_host[number] else "F")
        if with_forces and forces is not None:
            values += [repr(float(value)) for value in forces[number]]
        lines.append(" ".join([symbol, *values]))
    return "\n".join(lines) + "\n"


def _xyz(value: Any) -> str:
    """Format a value of the comment line: a number, a flag or a word without blanks or quotes."""
    if isinstance(value, bool):
        return "T" if value else "F"
    if isinstance(value, str):
        return value if _reads_back(value) else f'"_JSON \\"{value}\\""'
    return repr(value)


def _reads_back(word: str) -> bool:
    """Return whether ASE reads a word as text; it reads 12, 1e5 and T as other types."""
    found = key_val_str_to_dict(f"word={word}")["word"]
    return isinstance(found, str) and found == word


def lowest_by_dft(tables: Tables) -> dict[str, CandidateRow]:
    """Return the best candidate of each structure by DFT: converged, then lowest in energy."""
    rows = [row for row in tables.candidates if math.isfinite(row.dft_energy)]
    rows.sort(key=lambda row: (row.dft_status != "ok", row.dft_energy), reverse=True)
    return {row.id: row for row in rows}


def file_stems(ids: Iterable[str]) -> dict[str, str]:
    """Return the file name of each id, without its suffix.

    Ids that differ only in case get eight digits of their SHA-256, because some file systems
    ignore case.
    """
    ids = list(ids)
    alike = Counter(name.lower() for name in ids)
    return {
        name: f"{name}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"
        if alike[name.lower()] > 1
        else name
        for name in ids
    }


def _write_symmetrised(batch: Batch, row: CandidateRow, index: int, beside: Path) -> None:
    """Write the symmetrised crystal after its relaxation, as its asymmetric unit."""
    stage, is_host = final_stage(batch), batch.is_host[batch.atoms_slice(index)]
    atoms = batch.to_ase(index, stage=SYMMETRISED)
    found = find_symmetry(atoms, is_host, host=batch.to_ase(index, host_only=True))
    history = {name: part.attrs for name, part in batch.stages.items()}
    tags = cif_tags(history, stage=stage, method=row.method, sample=row.sample, seed=row.seed)
    tags["_tcod_total_energy"] = row.energy + row.symmetrised_energy
    text = format_cif(
        found.symmetrised, name=batch.id[index], is_host=is_host, tags=tags, symmetry=True
    )
    path = beside.parent / "symmetrised" / beside.name
    path.parent.mkdir(exist_ok=True)
    with atomic_writer(path) as file:
        file.write(text)


def _write_cif(batch: Batch, row: CandidateRow, index: int, stage: str, path: Path) -> None:
    history = {name: part.attrs for name, part in batch.stages.items()}
    energy = row.dft_energy if stage == DFT else row.energy
    tags = cif_tags(history, stage=stage, method=row.method, sample=row.sample, seed=row.seed)
    if stage != SITES and math.isfinite(energy):
        tags["_tcod_total_energy"] = energy
    text = format_cif(
        batch.to_ase(index, stage=stage),
        name=batch.id[index],
        is_host=batch.is_host[batch.atoms_slice(index)],
        tags=tags,
    )
    path.parent.mkdir(exist_ok=True)
    with atomic_writer(path) as file:
        file.write(text)
