#!/usr/bin/env python3
"""DFT of winners without a match: how many are lower than their reference?

The paper asks this of the 13 % of its winners that do not match (arXiv:2601.01959, section IV.3).
Reads a table of tools/crystals_of_run.py with the columns of DFT (its --dft). Writes two tables of
docs/benchmarks: NAME.json has the crystals, NAME_rates.json two rates:

* of the winners without a match that DFT judged, the share that is lower or matches after DFT;
* LES by DFT of all crystals: matched winners count as they are, those without a match by DFT or,
  where DFT did not judge them, by that share.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from crystal_table import matches, read_crystals, with_reference

from xtalfill.core.errors import InputError, run_command
from xtalfill.core.io import write_json
from xtalfill.evaluate.metrics import les_by_dft_cell, share_cell

SEED = 20250101
COLUMNS = (
    {"key": "potential", "title": "E − E(ref) by the potential", "unit": "meV/atom", "digits": 1},
    {"key": "dft", "title": "by DFT", "unit": "meV/atom", "digits": 1},
    {"key": "verdict", "title": "DFT says"},
)
RATES = (
    {"key": "unmatched", "title": "winners without a match"},
    {"key": "judged", "title": "judged by DFT"},
    {"key": "lower", "title": "of these lower or a match", "unit": "%", "digits": 1},
    {"key": "les", "title": "LES by DFT", "unit": "%", "digits": 1},
)


def verdict(row: pd.Series) -> str:
    """Return in a word how DFT places a winner against its reference."""
    if row["dft_status"] != "ok" or pd.isna(row["dft_energy_above_reference"]):
        return "not judged"
    if bool(row["dft_matched"]):
        return "match"
    return "lower" if bool(row["dft_les"]) else "higher"


def tables(all_rows: pd.DataFrame) -> dict[str, dict[str, Any]]:
    """Return the tables by the end of their names: the crystals (""), and the rates.

    Args:
        all_rows: Winners of the benchmark, indexed by id, with the columns of DFT.

    Raises:
        InputError: DFT judged no winner without a match.
    """
    matched = matches(all_rows)
    unmatched = all_rows[~matched]
    judged = unmatched[unmatched["dft_status"].notna()]
    judged = judged.assign(verdict=[verdict(row) for _, row in judged.iterrows()])
    n_judged = int((judged["verdict"] != "not judged").sum())
    if not n_judged:
        raise InputError(
            "no winner without a match was judged by DFT; give --dft to crystals_of_run.py"
        )
    good = int(judged["verdict"].isin(["lower", "match"]).sum())
    generator = np.random.default_rng(SEED)
    match, lower = (int(matched.sum()), len(all_rows)), (good, n_judged)
    rates = {
        "unmatched": len(unmatched),
        "judged": n_judged,
        "lower": share_cell(*lower),
        "les": les_by_dft_cell(match, lower, generator=generator),
    }
    return {
        "": {"label": "crystal", "columns": list(COLUMNS), "rows": crystal_rows(judged)},
        "_rates": {
            "label": "benchmark",
            "columns": list(RATES),
            "rows": [{"key": "all", "label": f"{len(all_rows)} crystals", "cells": rates}],
        },
    }


def crystal_rows(judged: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the rows of the crystals, the lowest by the potential first."""
    energies = {"potential": "energy_above_reference", "dft": "dft_energy_above_reference"}
    return [
        {
            "key": str(name),
            "label": row["formula"],
            "cells": {
                key: None if pd.isna(row[column]) else round(1e3 * float(row[column]), 2)
                for key, column in energies.items()
            }
            | {"verdict": row["verdict"]},
        }
        for name, row in judged.sort_values("energy_above_reference").iterrows()
    ]


def main() -> None:
    """Write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("tables", type=Path, nargs="+", help="CSV of tools/crystals_of_run.py")
    parser.add_argument("--title", required=True)
    parser.add_argument("--output", type=Path, required=True, help="NAME.json to write")
    args = parser.parse_args()
    all_rows = with_reference(read_crystals(args.tables))
    for end, found in tables(all_rows).items():
        about = {"title": args.title, "crystals": len(all_rows)}
        write_json(args.output.with_name(f"{args.output.stem}{end}.json"), about | found)
        for one in found["rows"]:
            print(one["label"], one["cells"])


if __name__ == "__main__":
    run_command(main)
