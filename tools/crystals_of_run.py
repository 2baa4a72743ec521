#!/usr/bin/env python3
"""Write what finished runs of a benchmark say of each crystal: one CSV row a crystal.

A benchmark that takes days is run in parts. `--add` keeps the rows of earlier parts, so that the
committed CSV grows and the folders of the runs are not needed again. tools/group_rates.py and
tools/unmatched_by_dft.py make tables of it.

`match_K` and `les_K` are the probability of success of the lowest of K candidates drawn with
replacement; `matched` and `les` are those of the lowest of all. A candidate without a result is a
failure. `first_…` is the same where the first potential alone ranks and judges.
"""

import argparse
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import pandas as pd
from crystal_table import read_crystals

from xtalfill.core.errors import InputError, run_command
from xtalfill.core.io import atomic_writer, read_json_lines
from xtalfill.evaluate.metrics import best_of_k
from xtalfill.interactive.finished import Results, read_results
from xtalfill.registry.mix import host_class

KS = (1, 2, 3, 5, 10, 30)
OUTCOMES = {"match": "matched", "les": "les"}
# Columns of results.csv, as they are.
KEPT = (
    "formula",
    "n_atoms",
    "n_missing",
    "method",
    "status",
    "has_reference",
    "n_candidates",
    "n_ok",
    "n_minima",
    "matched",
    "les",
    "host_matched",
    "rmsd",
    "energy_above_reference",
    "site_class",
    "note",
    "message",
)
BY_DFT = ("dft_status", "dft_matched", "dft_les", "dft_energy_above_reference")
DIGITS = 6


def k_rates(energy: np.ndarray, outcome: dict[str, np.ndarray]) -> dict[str, float]:
    """Return `NAME_K` -> probability of success of the lowest of K candidates.

    Args:
        energy: (n,) energies; NaN for a candidate without a result.
        outcome: Name -> (n,) whether the candidate is a success.
    """
    ks = [k for k in KS if k <= max(len(energy), 1)]
    found = {name: best_of_k(energy, success, ks) for name, success in outcome.items()}
    return {
        f"{name}_{k}": round(float(rates[i]), DIGITS)
        for name, rates in found.items()
        for i, k in enumerate(ks)
    }


def of_candidates(candidates: pd.DataFrame) -> dict[str, float]:
    """Return the rates of a crystal from its rows of candidates.csv."""
    usable = (candidates["status"] == "ok").to_numpy()
    energy = np.where(usable, candidates["energy"].to_numpy(), np.nan)
    outcome = {
        name: candidates[column].fillna(False).to_numpy(dtype=bool) & usable
        for name, column in OUTCOMES.items()
    }
    return k_rates(energy, outcome)


def of_first_potential(record: dict[str, Any]) -> dict[str, float | bool]:
    """Return the columns `first_…` from a line of tools/cover_of_run.py."""
    rows = record["candidates"]
    energy = np.array([one["first"] if one["status"] == "ok" else None for one in rows], float)
    outcome = {name: np.array([one[key] for one in rows]) for name, key in OUTCOMES.items()}
    lowest = int(np.nanargmin(energy)) if np.isfinite(energy).any() else None
    found: dict[str, float | bool] = {
        f"first_{key}": lowest is not None and bool(outcome[name][lowest])
        for name, key in OUTCOMES.items()
    }
    rates = k_rates(energy, outcome)
    return found | {f"first_{name}_1": rates[f"{name}_1"] for name in OUTCOMES}


def rows_of(run: Results, known: dict[str, Any], keys: list[str]) -> pd.DataFrame:
    """Return the rows of a run, indexed by id.

    Args:
        run: The run.
        known: Id -> crystal of the benchmark.
        keys: Values of these crystals to keep.

    Raises:
        InputError: A crystal is not in the benchmark, or has two methods.
    """
    if not run.results["id"].is_unique:
        raise InputError("a run with several methods; give one with a single method")
    table = run.results.set_index("id")[list(KEPT)].copy()
    missing = [name for name in table.index if name not in known]
    if missing:
        raise InputError(f"{missing[0]} is not in --bench")
    for key in keys:
        table[key] = [known[name].info[key] for name in table.index]
    table["host_class"] = [
        host_class([z for z in known[name].numbers if z != 1]) for name in table.index
    ]
    candidates = run.candidates[run.candidates["status"] != "absent"]
    rates = {str(name): of_candidates(rows) for name, rows in candidates.groupby("id")}
    return table.join(pd.DataFrame.from_dict(rates, orient="index"))


def joined(parts: list[pd.DataFrame]) -> pd.DataFrame:
    """Return the rows of all parts.

    Raises:
        InputError: A crystal is in two parts.
    """
    table = pd.concat(parts)
    if not table.index.is_unique:
        raise InputError(f"{table.index[table.index.duplicated()][0]} is in two runs")
    return table


def with_dft(table: pd.DataFrame, run: Results) -> pd.DataFrame:
    """Return the table with the columns of DFT of a run with --validate."""
    found = run.results.set_index("id")[list(BY_DFT)]
    found = found[found["dft_status"].fillna("") != ""]
    return found.combine_first(table)


def main() -> None:
    """Write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("outdirs", type=Path, nargs="*", help="--outdir of finished runs")
    parser.add_argument("--bench", type=Path, required=True, help="extxyz with `id`")
    parser.add_argument("--keep", nargs="*", default=[], help="keys of its crystals to keep")
    parser.add_argument(
        "--first", type=Path, nargs="*", default=[], help="JSON lines of tools/cover_of_run.py"
    )
    parser.add_argument("--dft", type=Path, nargs="*", default=[], help="runs with --validate")
    parser.add_argument("--add", type=Path, help="earlier table; newer rows replace its rows")
    parser.add_argument("--output", type=Path, required=True, help="CSV to write")
    args = parser.parse_args()
    known = {str(one.info["id"]): one for one in ase.io.read(args.bench, ":")}
    parts = [rows_of(read_results(outdir), known, args.keep) for outdir in args.outdirs]
    if args.add:
        earlier = read_crystals([args.add])
        newer = [name for part in parts for name in part.index]
        parts.append(earlier[~earlier.index.isin(newer)])
    table = joined(parts)
    lines = [line for path in args.first for line in read_json_lines(path)]
    if lines:
        first = {one["id"]: of_first_potential(one) for one in lines if one["usable"]}
        table = pd.DataFrame.from_dict(first, orient="index").combine_first(table)
    for outdir in args.dft:
        table = with_dft(table, read_results(outdir))
    table = table.round(DIGITS).sort_index()
    table.index.name = "id"
    with atomic_writer(args.output) as file:
        table.to_csv(file)
    print(f"{len(table)} crystals in {args.output}")


if __name__ == "__main__":
    run_command(main)
