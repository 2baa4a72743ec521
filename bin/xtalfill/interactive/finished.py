"""`xtalfill.read_results`: the tables and structures of a finished run."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import get_type_hints

import ase.io
import pandas as pd
from ase import Atoms

from xtalfill.core.errors import InputError
from xtalfill.core.text import one_line
from xtalfill.results.candidates import CandidateRow
from xtalfill.results.structures import StructureRow
from xtalfill.results.tables import FailureRow

# Type of a column -> the type of pandas that holds it and its empty cells.
_DTYPES: dict[object, str] = {
    str: "str",
    int: "int64",
    int | None: "Int64",
    float: "float64",
    bool: "bool",
    bool | None: "boolean",
}


@dataclass(frozen=True)
class Results:
    """The results of a run; docs/output.md describes the columns.

    Attributes:
        structures: Id -> the restored crystal, the best over all methods.
        results: results.csv, one row for each structure and method.
        candidates: candidates.csv, one row for each candidate.
        failures: failures.csv, what failed and why.
    """

    structures: dict[str, Atoms]
    results: pd.DataFrame
    candidates: pd.DataFrame
    failures: pd.DataFrame


def read_results(outdir: str | Path) -> Results:
    """Read the results of a finished run.

    Args:
        outdir: The --outdir of the run.

    Raises:
        InputError: The folder is not that of a finished run, or a file in it is damaged.
    """
    outdir = Path(outdir)
    if not (outdir / "results.csv").is_file():
        raise InputError(f"{outdir}: not the --outdir of a finished run (no results.csv)")
    results = _read_table(outdir / "results.csv", StructureRow)
    # If CHECK refused every structure, the run writes neither candidates nor structures.
    refused = not (outdir / "candidates.csv").exists() and (results["method"] == "").all()
    return Results(
        structures={} if refused else _read_structures(outdir / "selected.extxyz", results),
        results=results,
        candidates=_empty(CandidateRow)
        if refused
        else _read_table(outdir / "candidates.csv", CandidateRow),
        failures=_read_table(outdir / "failures.csv", FailureRow),
    )


def _dtypes(kind: type) -> dict[str, str]:
    """Return the pandas type of each column of a table."""
    return {name: _DTYPES[hint] for name, hint in get_type_hints(kind).items()}


def _empty(kind: type) -> pd.DataFrame:
    return pd.DataFrame({name: pd.Series(dtype=kind) for name, kind in _dtypes(kind).items()})


def _read_table(path: Path, kind: type) -> pd.DataFrame:
    """Return a table with typed columns; empty cells of text are "".

    Raises:
        InputError: The file is missing, not such a table, or of another release.
    """
    dtypes = _dtypes(kind)
    text = [name for name, dtype in dtypes.items() if dtype == "str"]
    try:
        table = pd.read_csv(path, dtype=dtypes, keep_default_na=False, na_values=[""])
    except (OSError, ValueError) as error:
        raise InputError(
            f"{path}: not readable ({one_line(error)}); repeat the run with -resume"
        ) from error
    if missing := [item.name for item in fields(kind) if item.name not in table]:
        raise InputError(
            f"{path}: the column {missing[0]} is missing; read it with the release that wrote it, "
            "or repeat the run with -resume"
        )
    table[text] = table[text].fillna("")
    return table


def _read_structures(path: Path, results: pd.DataFrame) -> dict[str, Atoms]:
    """Return the best crystal of each structure over all methods, which SELECT has marked."""
    best = results[results["best_of_all"]]
    method_of = dict(zip(best["id"], best["method"], strict=True))
    try:
        frames = ase.io.read(path, index=":", format="extxyz") if path.stat().st_size else []
        named = [(str(atoms.info["id"]), str(atoms.info["method"]), atoms) for atoms in frames]
    except Exception as error:
        raise InputError(
            f"{path}: not readable ({one_line(error)}); repeat the run with -resume"
        ) from error
    return {name: atoms for name, method, atoms in named if method_of.get(name) == method}
