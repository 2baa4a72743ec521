"""Rows of the result tables, read from the batches and check.json.

`read_tables` reads one batch at a time, because all batches of a database may not fit into
memory. Every output (CSV, extxyz, CIF, evaluation, report) is made from these rows.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from xtalfill.core.batch import REFERENCE, Batch, read_batch
from xtalfill.core.errors import InputError
from xtalfill.core.io import read_json
from xtalfill.core.relaxations import POSITIONS
from xtalfill.results.candidate_source import DFT, CandidateSource
from xtalfill.results.candidates import CandidateRow
from xtalfill.results.columns import column, make_row
from xtalfill.results.counts import CountRow, count_rows
from xtalfill.results.structures import StructureRow, StructureSource

_SAFE_ID = re.compile(r"[A-Za-z0-9._-]{1,100}(\+[0-9]+[A-Z][a-z]?)?")
_LOST = "its batch is missing because a task failed; see the log, fix the cause and -resume"


@dataclass(frozen=True)
class FailureRow:
    """One row of failures.csv: a structure, candidate or reference that is not ok."""

    id: str = column(meaning="name of the structure")
    method: str = column(
        meaning="proposal method; `reference`: a true structure; empty: refused by CHECK or lost"
    )
    sample: int | None = column(meaning="number of the candidate; empty for a whole structure")
    status: str = column(
        meaning="`failed`; `unconverged`; `ok`: a relaxed candidate that could not be compared"
    )
    message: str = column(meaning="what went wrong; starts with the stage that found it")
    source: str = column(
        default="", meaning="file, line or frame of the structure; empty for a candidate"
    )


@dataclass(frozen=True)
class StoredRow:
    """One row of stored.csv: a structure that the results database has, so it was not filled."""

    id: str = column(meaning="name of the structure in the input")
    name: str = column(meaning="name under which it is stored; another one if its host is the same")
    status: str = column(meaning="as in `results.csv`")
    energy: float | None = column(unit="eV/cell", meaning="as in `results.csv`")
    dft_status: str = column(meaning="as in `results.csv`")
    stored: str = column(meaning="when it was stored, UTC")
    run: str = column(meaning="identifier of the run that stored it")


@dataclass
class Tables:
    """All rows of a run.

    Attributes:
        candidates: Ordered by id, method and sample.
        failures: Systems that were refused, lost, failed or did not converge.
        structures: Id -> entry of check.json, for the accepted structures.
        methods: Names of the requested methods, in alphabetical order.
        refused: Entries of check.json for the refused structures.
        stored: Id -> entry of check.json, for the structures that a results database has.
        duplicates: Entries of check.json for the structures in whose place another one was filled.
        batch_of: Id -> batch file with the structure.
        counts: Numbers of missing sites that were compared, with their probabilities.
        stages_of: Id -> name of a stage -> its parameters.
    """

    candidates: list[CandidateRow] = field(default_factory=list)
    failures: list[FailureRow] = field(default_factory=list)
    structures: dict[str, dict[str, Any]] = field(default_factory=dict)
    methods: list[str] = field(default_factory=list)
    refused: list[dict[str, Any]] = field(default_factory=list)
    stored: dict[str, dict[str, Any]] = field(default_factory=dict)
    duplicates: list[dict[str, Any]] = field(default_factory=list)
    batch_of: dict[str, Path] = field(default_factory=dict)
    counts: list[CountRow] = field(default_factory=list)
    stages_of: dict[str, dict[str, dict[str, Any]]] = field(default_factory=dict)

    @property
    def lost(self) -> list[str]:
        """Ids of accepted structures that are in no batch."""
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
        InputError: A file cannot be read, a stage is missing, or an id is unsafe or not unique.
    """
    return tables_of(read_json(check), batches)


def tables_of(content: dict[str, Any], batches: Iterable[str | Path]) -> Tables:
    """Return the rows of a run.

    Args:
        content: Content of check.json.
        batches: The batches after EVALUATE, in any order.

    Raises:
        InputError: As `read_tables`.
    """
    tables = Tables()
    tables.structures = {entry["id"]: entry for entry in content["structures"]}
    tables.stored = {entry["id"]: entry for entry in content.get("stored", [])}
    tables.refused = list(content["failures"])
    tables.duplicates = list(content.get("duplicates", []))
    tables.failures += [_refusal(entry, "") for entry in tables.refused]
    tables.failures += [_refusal(entry, REFERENCE) for entry in content["reference_failures"]]
    for path in sorted(Path(name) for name in batches):
        _add_batch(tables, read_batch(path), path)
    asked = content["parameters"]["methods"]
    tables.methods = sorted({*asked, *(row.method for row in tables.candidates)})
    for name in tables.lost:
        source = str(tables.structures[name]["source"])
        tables.failures.append(FailureRow(name, "", None, "failed", _LOST, source))
    tables.counts.sort(key=lambda row: (row.id, row.rank))
    tables.candidates.sort(key=lambda row: (row.id, row.method, row.sample))
    return tables


def _refusal(entry: dict[str, Any], method: str) -> FailureRow:
    message, source = str(entry["message"]), str(entry["source"])
    return FailureRow(str(entry["id"]), method, None, "failed", message, source)


def _add_batch(tables: Tables, batch: Batch, path: Path) -> None:
    missing = [name for name in (POSITIONS, "select", "evaluate") if name not in batch.stages]
    if missing:
        raise InputError(
            f"{path}: the batch has no {missing[0]} stage; run that stage before collect.py"
        )
    stages = {name: stage.attrs for name, stage in batch.stages.items()}
    tables.counts += count_rows(batch)
    for structure_id, members in batch.groups().items():
        if not _SAFE_ID.fullmatch(structure_id):
            raise InputError(
                f"{path}: id {structure_id!r} is unsafe as a file name; use the batches of CHECK"
            )
        if structure_id in tables.batch_of:
            raise InputError(
                f"{structure_id}: in both {tables.batch_of[structure_id]} and {path}; "
                "give each batch once"
            )
        tables.batch_of[structure_id] = path
        tables.stages_of[structure_id] = stages
        formula = str(tables.structures.get(structure_id, {}).get("formula", ""))
        tables.candidates += [
            make_row(CandidateRow, CandidateSource(batch, index, formula)) for index in members
        ]
        reference = batch.reference_of(structure_id)
        for index in members if reference is None else [*members, reference]:
            if batch.status[index] == "absent":
                continue
            if batch.status[index] in ("failed", "unconverged"):
                tables.failures.append(_failure(batch, index))
            elif message := batch.stages["evaluate"].arrays["message"][index]:
                tables.failures.append(_failure(batch, index, message=message))
            if (found := _dft_failure(batch, index)) is not None:
                tables.failures.append(_failure(batch, index, status=found[0], message=found[1]))


def _failure(batch: Batch, index: int, *, status: str = "", message: str = "") -> FailureRow:
    return FailureRow(
        batch.id[index],
        batch.method[index],
        int(batch.sample[index]),
        status or batch.status[index],
        message or batch.message[index],
    )


def _dft_failure(batch: Batch, index: int) -> tuple[str, str] | None:
    """Return status and message of a system that pw.x could not relax, else None."""
    if DFT not in batch.stages:
        return None
    dft, judged = batch.stages[DFT].arrays, batch.stages["evaluate"].arrays
    status, message = str(dft["status"][index]), str(dft["message"][index])
    if status in ("refused", "failed", "unconverged"):
        return ("failed" if status == "refused" else status), message
    message = str(judged["dft_evaluate_message"][index])
    return (str(batch.status[index]), message) if message else None


def structure_rows(tables: Tables) -> list[StructureRow]:
    """Return the rows of results.csv, for every structure of the input."""
    counts = {row.filled_as: row for row in tables.counts}
    sources = [
        StructureSource(
            name,
            method,
            tables.structures.get(name, {}),
            present(members),
            stages=tables.stages_of.get(name, {}),
            count=counts.get(name),
        )
        for (name, method), members in tables.grouped().items()
    ]
    sources += [
        StructureSource(str(entry["id"]), "", entry, failure=str(entry["message"]))
        for entry in tables.refused
    ]
    sources += [
        StructureSource(name, method, tables.structures[name], failure=_LOST)
        for name in tables.lost
        for method in tables.methods
    ]
    sources += [
        StructureSource(
            str(entry["id"]), "", entry, failure=f"the same crystal as {entry['duplicate_of']}"
        )
        for entry in tables.duplicates
    ]
    rows = [make_row(StructureRow, source) for source in sources]
    return sorted(rows, key=lambda row: (row.id, row.method))


def present(rows: list[CandidateRow]) -> list[CandidateRow]:
    """Return the candidates without the absent ones."""
    return [row for row in rows if row.status != "absent"]
