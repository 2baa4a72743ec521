"""Rows of the result tables, read from the batches and check.json.

`read_tables` goes through the batches once, one at a time, so that a database need not fit
into memory; every output (CSV, extxyz, CIF, evaluation, report) is made from these rows.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from xtalfill.core.batch import REFERENCE, Batch, read_batch
from xtalfill.core.errors import InputError
from xtalfill.core.io import read_json
from xtalfill.core.relaxations import POSITIONS, RANK, SITES, final_stage, merged_with
from xtalfill.results.dft_columns import candidate_columns, dft_failure, structure_columns

_SAFE_ID = re.compile(r"[A-Za-z0-9._-]{1,100}")
_LOST = "no batch holds it: its task failed; see the pipeline's log, mend it and -resume"


@dataclass(frozen=True)
class CandidateRow:
    """One row of candidates.csv; energies in eV, lengths in Angstrom, fmax in eV/Angstrom.

    The flags of the evaluation are None where there is no reference to compare with.
    """

    id: str
    formula: str
    n_atoms: int
    element: str
    n_missing: int
    method: str
    sample: int
    seed: int
    status: str
    converged: bool
    energy: float
    fmax: float
    n_steps_sites: int
    n_steps: int
    n_steps_rank: int | None
    merged_with: int | None
    sites_moved: int | None
    largest_shift: float
    sites_inside: int | None
    rank: int
    minimum: int
    selected: bool
    energy_gap: float
    host_shift: float
    note: str
    has_reference: bool
    matched_inpaint: bool | None
    matched: bool | None
    les: bool | None
    host_matched: bool | None
    rmsd: float
    rmsd_per_site: float
    energy_above_reference: float
    site_class: str
    message: str
    dft_status: str = ""
    dft_energy: float = math.nan
    dft_rank: int | None = None
    dft_matched: bool | None = None
    dft_les: bool | None = None
    dft_rmsd: float = math.nan
    dft_energy_above_reference: float = math.nan
    dft_fmax_start: float = math.nan
    dft_shift_host: float = math.nan
    dft_shift_filled: float = math.nan
    dft_n_attempts: int | None = None


@dataclass(frozen=True)
class StructureRow:
    """One row of results.csv: a structure under one method, judged on its selected candidate.

    The flags of the evaluation are None where there is no usable reference.
    """

    id: str
    formula: str
    n_atoms: int | None
    element: str
    n_missing: int | None
    method: str
    status: str
    energy: float
    energy_gap: float
    n_minima: int
    n_candidates: int
    n_ok: int
    sample: int | None
    host_shift: float
    note: str
    has_reference: bool
    matched: bool | None
    les: bool | None
    host_matched: bool | None
    rmsd: float
    rmsd_per_site: float
    energy_above_reference: float
    site_class: str
    message: str
    dft_status: str = ""
    dft_sample: int | None = None
    dft_energy: float = math.nan
    dft_matched: bool | None = None
    dft_les: bool | None = None
    dft_rmsd: float = math.nan
    dft_energy_above_reference: float = math.nan
    dft_fmax_start: float = math.nan
    dft_shift_host: float = math.nan
    dft_shift_filled: float = math.nan
    dft_agrees: bool | None = None


@dataclass(frozen=True)
class FailureRow:
    """One row of failures.csv: a structure, candidate or reference that is not ok."""

    id: str
    method: str
    sample: int | None
    status: str
    message: str
    source: str = ""


@dataclass
class Tables:
    """All rows of a run.

    Attributes:
        candidates: In order of id, method and sample.
        failures: What CHECK refused, what was lost, what failed or did not converge.
        structures: The entries of check.json that were taken, by id.
        methods: The methods that were asked for, in alphabetical order.
        refused: The entries of check.json that were not.
        batch_of: Structure id -> the batch file that holds it.
    """

    candidates: list[CandidateRow] = field(default_factory=list)
    failures: list[FailureRow] = field(default_factory=list)
    structures: dict[str, dict[str, Any]] = field(default_factory=dict)
    methods: list[str] = field(default_factory=list)
    refused: list[dict[str, Any]] = field(default_factory=list)
    batch_of: dict[str, Path] = field(default_factory=dict)

    @property
    def lost(self) -> list[str]:
        """Ids of the structures that CHECK took and no batch holds."""
        return sorted(set(self.structures) - set(self.batch_of))

    def grouped(self) -> dict[tuple[str, str], list[CandidateRow]]:
        """Return the candidates of each (id, method)."""
        found: dict[tuple[str, str], list[CandidateRow]] = {}
        for row in self.candidates:
            found.setdefault((row.id, row.method), []).append(row)
        return found


def read_tables(check: str | Path, batches: Iterable[str | Path]) -> Tables:
    """Read the rows of a run.

    Args:
        check: check.json of CHECK.
        batches: The batches after EVALUATE, in any order.

    Raises:
        InputError: A file cannot be read, a stage is missing, an id is unsafe or comes twice.
    """
    tables = Tables()
    content = read_json(check)
    tables.structures = {entry["id"]: entry for entry in content["structures"]}
    tables.refused = list(content["failures"])
    tables.failures += [_refusal(entry, "") for entry in tables.refused]
    tables.failures += [_refusal(entry, REFERENCE) for entry in content["reference_failures"]]
    for path in sorted(Path(name) for name in batches):
        _add_batch(tables, read_batch(path), path)
    asked = content["parameters"]["methods"]
    tables.methods = sorted({*asked, *(row.method for row in tables.candidates)})
    for name in tables.lost:
        source = str(tables.structures[name]["source"])
        tables.failures.append(FailureRow(name, "", None, "failed", _LOST, source))
    tables.candidates.sort(key=lambda row: (row.id, row.method, row.sample))
    return tables


def _refusal(entry: dict[str, Any], method: str) -> FailureRow:
    message, source = str(entry["message"]), str(entry["source"])
    return FailureRow(str(entry["id"]), method, None, "failed", message, source)


def _add_batch(tables: Tables, batch: Batch, path: Path) -> None:
    missing = [name for name in (POSITIONS, "select", "evaluate") if name not in batch.stages]
    if missing:
        raise InputError(f"{path}: the batch has no {missing[0]} stage; run it before collect.py")
    for structure_id, members in batch.groups().items():
        if not _SAFE_ID.fullmatch(structure_id):
            raise InputError(f"{path}: id {structure_id!r} is unsafe; CHECK writes safe ones")
        if structure_id in tables.batch_of:
            raise InputError(
                f"{structure_id}: in both {tables.batch_of[structure_id]} and {path}; "
                "give each batch once"
            )
        tables.batch_of[structure_id] = path
        formula = str(tables.structures.get(structure_id, {}).get("formula", ""))
        tables.candidates += [_candidate(batch, index, formula=formula) for index in members]
        reference = batch.reference_of(structure_id)
        for index in members if reference is None else [*members, reference]:
            if batch.status[index] == "absent":
                continue
            if batch.status[index] in ("failed", "unconverged"):
                tables.failures.append(_failure(batch, index))
            elif message := batch.stages["evaluate"].arrays["message"][index]:
                tables.failures.append(_failure(batch, index, message=message))
            if (found := dft_failure(batch, index)) is not None:
                tables.failures.append(_failure(batch, index, status=found[0], message=found[1]))


def _failure(batch: Batch, index: int, *, status: str = "", message: str = "") -> FailureRow:
    return FailureRow(
        batch.id[index],
        batch.method[index],
        int(batch.sample[index]),
        status or batch.status[index],
        message or batch.message[index],
    )


def _candidate(batch: Batch, index: int, *, formula: str) -> CandidateRow:
    here = batch.atoms_slice(index)
    atoms = batch.to_ase(index)
    symbols = [atoms.symbols[site] for site in np.flatnonzero(~batch.is_host[here])]
    relaxed = batch.stages[final_stage(batch)].arrays
    select, judged = batch.stages["select"].arrays, batch.stages["evaluate"].arrays
    has_reference = bool(judged["has_reference"][index])
    flags: dict[str, Any] = {
        name: bool(judged[name][index]) if has_reference else None
        for name in ("matched", "les", "host_matched")
    }
    site_class = judged["site_class"][index]
    return CandidateRow(
        id=batch.id[index],
        formula=formula or atoms.get_chemical_formula(mode="metal"),
        n_atoms=len(atoms),
        element=" ".join(sorted(set(symbols))),
        n_missing=len(symbols),
        method=batch.method[index],
        sample=int(batch.sample[index]),
        seed=int(batch.seed[index]),
        status=batch.status[index],
        converged=bool(relaxed["converged"][index]),
        energy=float(relaxed["energy"][index]),
        fmax=float(relaxed["fmax"][index]),
        n_steps_sites=_n_steps(batch, SITES, index),
        n_steps=_n_steps(batch, POSITIONS, index),
        merged_with=merged_with(batch, index),
        **_moves(batch, index),
        n_steps_rank=_n_steps(batch, RANK, index) if RANK in batch.stages else None,
        rank=int(select["rank"][index]),
        minimum=int(select["minimum"][index]),
        selected=bool(select["selected"][index]),
        energy_gap=float(select["energy_gap"][index]),
        # A batch of an older release has neither.
        host_shift=float(relaxed["host_shift"][index]) if "host_shift" in relaxed else math.nan,
        note=str(relaxed["note"][index]) if "note" in relaxed else "",
        has_reference=has_reference,
        # A proposal can be matched even where the reference did not relax.
        matched_inpaint=bool(judged["matched_inpaint"][index]) if site_class else None,
        site_class=site_class,
        message=batch.message[index] or judged["message"][index],
        **flags,
        rmsd=float(judged["rmsd"][index]),
        rmsd_per_site=float(judged["rmsd_per_site"][index]),
        energy_above_reference=float(judged["energy_above_reference"][index]),
        **candidate_columns(batch, index),
    )


def _n_steps(batch: Batch, stage: str, index: int) -> int:
    return int(batch.stages[stage].arrays["n_steps"][index])


def _moves(batch: Batch, index: int) -> dict[str, Any]:
    """Return what INPAINT did to sites inside atoms; not known of a batch of an older release."""
    arrays, kinds = batch.stages["inpaint"].arrays, {"sites_moved": int, "sites_inside": int}
    unknown = {**dict.fromkeys(kinds), "largest_shift": math.nan}
    names = [name for name in unknown if name in arrays]
    return unknown | {name: kinds.get(name, float)(arrays[name][index]) for name in names}


def structure_rows(tables: Tables) -> list[StructureRow]:
    """Return the rows of results.csv: every structure of the input, none left out."""
    rows = [_structure_row(present(members)) for members in tables.grouped().values()]
    rows += [_empty_row(str(entry["id"]), "", entry, entry["message"]) for entry in tables.refused]
    rows += [
        _empty_row(name, method, tables.structures[name], _LOST)
        for name in tables.lost
        for method in tables.methods
    ]
    return sorted(rows, key=lambda row: (row.id, row.method))


def present(rows: list[CandidateRow]) -> list[CandidateRow]:
    """Return the candidates that their method had a proposal for."""
    return [row for row in rows if row.status != "absent"]


def _structure_row(members: list[CandidateRow]) -> StructureRow:
    best = next((row for row in members if row.selected), None)
    first = best or members[0]
    judged = first.has_reference
    return StructureRow(
        id=first.id,
        formula=first.formula,
        n_atoms=first.n_atoms,
        element=first.element,
        n_missing=first.n_missing,
        method=first.method,
        status=best.status if best else "failed",
        energy=best.energy if best else math.nan,
        energy_gap=best.energy_gap if best else math.nan,
        n_minima=len({row.minimum for row in members if row.minimum >= 0}),
        n_candidates=len(members),
        n_ok=sum(row.status == "ok" for row in members),
        sample=best.sample if best else None,
        host_shift=best.host_shift if best else math.nan,
        note=best.note if best else "",
        has_reference=judged,
        matched=bool(best and best.matched) if judged else None,
        les=bool(best and best.les) if judged else None,
        host_matched=bool(best and best.host_matched) if judged else None,
        rmsd=best.rmsd if best else math.nan,
        rmsd_per_site=best.rmsd_per_site if best else math.nan,
        energy_above_reference=best.energy_above_reference if best else math.nan,
        site_class=first.site_class,
        message=_summary_message(members, best),
        **structure_columns(members),
    )


def _summary_message(members: list[CandidateRow], best: CandidateRow | None) -> str:
    """Say in one line what went wrong with a structure's candidates; empty if nothing did."""
    if best:
        return best.message
    first = next((row for row in members if row.status == "failed"), members[0])
    return f"no usable candidate of {len(members)}; the first: {first.message}"


def _empty_row(name: str, method: str, entry: dict[str, Any], message: str) -> StructureRow:
    """Return the row of a structure without candidates; with a reference it is a failure."""
    has_reference = bool(entry.get("reference"))
    wrong = False if has_reference else None
    return StructureRow(
        id=name,
        formula=str(entry.get("formula", "")),
        n_atoms=entry.get("n_atoms"),
        element=str(entry.get("element", "")),
        n_missing=entry.get("n_missing"),
        method=method,
        status="failed",
        energy=math.nan,
        energy_gap=math.nan,
        n_minima=0,
        n_candidates=0,
        n_ok=0,
        sample=None,
        host_shift=math.nan,
        note="",
        has_reference=has_reference,
        matched=wrong,
        les=wrong,
        host_matched=wrong,
        rmsd=math.nan,
        rmsd_per_site=math.nan,
        energy_above_reference=math.nan,
        site_class="",
        message=str(message),
    )
