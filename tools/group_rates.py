#!/usr/bin/env python3
"""Success rates by groups of crystals, as tables of docs/benchmarks.

Reads tables of tools/crystals_of_run.py. A group is a value of one of their columns, or a range of
`n_atoms` or `n_missing`. Rates are means over the crystals with a usable reference; the others are
counted. A crystal without a result counts as a failure. NAME.json has the groups, NAME_by_k.json
the lowest of k candidates of all crystals.
"""

import argparse
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from crystal_table import read_crystals, with_reference

from xtalfill.core.errors import InputError, run_command
from xtalfill.core.io import write_json
from xtalfill.evaluate.metrics import bin_label, rate_cell

SEED = 20250101
RATES = {
    "match_single": ("match_1", "match, single"),
    "match_lowest": ("matched", "match, lowest of all"),
    "les_single": ("les_1", "LES, single"),
    "les_lowest": ("les", "LES, lowest of all"),
}
FIRST = {key: (f"first_{column}", text) for key, (column, text) in RATES.items()}
BINS: dict[str, Sequence[tuple[str, int, int | None]]] = {
    "n_atoms": (
        ("at most 8 atoms", 1, 8),
        ("9 to 12", 9, 12),
        ("13 to 16", 13, 16),
        ("17 to 20", 17, 20),
        ("21 to 28", 21, 28),
        ("29 to 40", 29, 40),
        ("more than 40", 41, None),
    ),
    "n_missing": (
        ("1 site", 1, 1),
        ("2 sites", 2, 2),
        ("3 or 4", 3, 4),
        ("5 to 8", 5, 8),
        ("more than 8", 9, None),
    ),
}


def usable(table: pd.DataFrame) -> pd.DataFrame:
    """Return the crystals with a usable reference; one without a result counts as failed.

    Where the candidates were not recorded (no `n_candidates`), rates of k candidates stay unknown.
    """
    known = with_reference(table).copy()
    recorded = known["n_candidates"].notna()
    columns = [name for name in known.columns if name.rpartition("_")[2].isdigit()]
    outcomes = [name for name, _ in (*RATES.values(), *FIRST.values()) if name in known.columns]
    names = list(dict.fromkeys(columns + outcomes))
    known[names] = known[names].astype(float)
    known.loc[recorded, names] = known.loc[recorded, names].fillna(0.0)
    return known


def percent(values: pd.Series) -> dict[str, float]:
    """Return the mean of the known values and its interval."""
    return rate_cell(values.dropna().to_numpy(), generator=np.random.default_rng(SEED))


def row(key: str, some: pd.DataFrame, rates: dict[str, tuple[str, str]]) -> dict[str, Any]:
    """Return a row of the table."""
    cells: dict[str, Any] = {"crystals": len(some)}
    cells |= {name: percent(some[column]) for name, (column, _) in rates.items()}
    return {"key": key, "label": key, "cells": cells}


def groups(known: pd.DataFrame, by: str) -> list[tuple[str, pd.DataFrame]]:
    """Return the groups and their crystals: ranges as in BINS, values by name."""
    if by not in known.columns:
        raise InputError(f"no column {by}; the tables have {', '.join(known.columns)}")
    if by not in BINS:
        return [(str(name), some) for name, some in known.groupby(by)]
    labels = known[by].map(lambda value: bin_label(int(value), BINS[by]))
    order = [name for name, _, _ in BINS[by] if (labels == name).any()]
    return [(name, known[labels == name]) for name in order]


def table(found: pd.DataFrame, by: str, title: str, *, first: bool = False) -> dict[str, Any]:
    """Return the JSON of a table: all crystals, then each group.

    Args:
        found: Rows of tools/crystals_of_run.py.
        by: Column of the groups.
        title: Title of the table.
        first: Judge by the first potential alone.
    """
    known = usable(found)
    rates = FIRST if first else RATES
    rows = [row("all", known, rates)]
    rows += [row(name, some, rates) for name, some in groups(known, by)]
    columns = [{"key": "crystals", "title": "crystals"}]
    columns += [_column(name, text) for name, (_, text) in rates.items()]
    return {
        "title": title,
        "crystals": len(known),
        "label": "group",
        "columns": columns,
        "rows": rows,
    }


def by_k(found: pd.DataFrame, title: str) -> dict[str, Any]:
    """Return the JSON of a table: rates of the lowest of k candidates."""
    known = usable(found)
    ks = sorted(int(name[6:]) for name in known.columns if re.fullmatch(r"match_\d+", name))
    rows = [
        {
            "key": f"k{k}",
            "label": str(k),
            "cells": {name: percent(known[f"{name}_{k}"]) for name in ("match", "les")},
        }
        for k in ks
    ]
    columns = [_column("match", "match"), _column("les", "LES")]
    about = {"title": title, "crystals": int(known["n_candidates"].notna().sum()), "label": "k"}
    return about | {"columns": columns, "rows": rows}


def _column(key: str, title: str) -> dict[str, Any]:
    return {"key": key, "title": title, "unit": "%", "digits": 1}


def main() -> None:
    """Write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("tables", type=Path, nargs="+", help="CSV of tools/crystals_of_run.py")
    parser.add_argument("--by", required=True, help="a column of the tables")
    parser.add_argument("--first", action="store_true", help="judge by the first potential alone")
    parser.add_argument("--title", required=True)
    parser.add_argument("--output", type=Path, required=True, help="JSON to write")
    args = parser.parse_args()
    crystals = read_crystals(args.tables)
    found = table(crystals, args.by, args.title, first=args.first)
    write_json(args.output, found)
    write_json(args.output.with_name(f"{args.output.stem}_by_k.json"), by_k(crystals, args.title))
    for one in found["rows"]:
        print(one["label"], one["cells"])
    print(f"without a usable reference: {len(crystals) - found['crystals']}")


if __name__ == "__main__":
    run_command(main)
