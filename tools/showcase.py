#!/usr/bin/env python3
"""What a mineralogist would check of minerals whose hydrogen xtalfill restored.

Reads runs of `minerals_missing.extxyz`. Writes NAME.csv with every mineral, and two tables of
docs/benchmarks: NAME.json with rates over all, NAME_shown.json with some minerals. There is no
reference for these crystals: the labels of the database say which oxygens carry hydrogen
(tools/mineral_labels.py), and nothing says where it is.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from ase import Atoms

from xtalfill.checks.bonds import HYDROGEN, Surroundings
from xtalfill.core.errors import InputError, run_command
from xtalfill.core.io import atomic_writer, write_json
from xtalfill.evaluate.metrics import share_cell
from xtalfill.interactive.finished import Results, read_results

OXYGEN = 8
PREFIX = "amcsd_"
UNNAMED = "<missing>"  # in minerals.csv
# Columns of results.csv, as they are.
KEPT = (
    "formula",
    "n_missing",
    "status",
    "n_ok",
    "n_minima",
    "confidence_match",
    "bonds",
    "hydrogen_bonds",
    "valence_misfit",
    "host_rms",
    "host_moved",
    "warnings",
    "message",
)
COLUMNS = (
    {"key": "added", "title": "H added"},
    {"key": "bonds", "title": "bonds of H"},
    {"key": "hydrogen_bonds", "title": "hydrogen bonds"},
    {"key": "valence_misfit", "title": "bond valences, v.u.", "digits": 2},
    {"key": "labels", "title": "O with H, of those labelled"},
    {"key": "source", "title": "hosts from"},
)
RATES = (
    {"key": "crystals", "title": "crystals"},
    {"key": "number", "title": "number"},
    {"key": "share", "title": "share", "unit": "%", "digits": 1},
)


def protonated(atoms: Atoms) -> set[int]:
    """Return the indices of the oxygens that a hydrogen is bonded to."""
    around = Surroundings(atoms, np.flatnonzero(atoms.numbers == HYDROGEN))
    partners = {bond.partner for bond in around.bonds if bond.bonded}
    return {index for index in partners if atoms.numbers[index] == OXYGEN}


def rows_of(run: Results, labels: dict[str, list[int]]) -> pd.DataFrame:
    """Return a row for each mineral of a run, indexed by id.

    Args:
        run: The run.
        labels: Id -> oxygens that the labels give hydrogen; they precede the filled sites.

    Raises:
        InputError: The run has several methods.
    """
    if not run.results["id"].is_unique:
        raise InputError("a run with several methods; give one with a single method")
    table = run.results.set_index("id")[list(KEPT)].copy()
    found = {}
    for name in table.index:
        labelled = set(labels.get(name, []))
        carriers = protonated(run.structures[name]) if name in run.structures else set()
        found[name] = {
            "labelled": len(labelled),
            "labelled_with_h": len(labelled & carriers),
            "others_with_h": len(carriers - labelled) if labelled else 0,
        }
    return table.join(pd.DataFrame.from_dict(found, orient="index"))


def with_sources(table: pd.DataFrame, minerals: pd.DataFrame) -> pd.DataFrame:
    """Return the table with name and source of each mineral.

    Args:
        table: Rows of `rows_of`.
        minerals: minerals.csv; the row of the database is the number in the id.
    """
    known = minerals.drop_duplicates("amcsd_row").set_index("amcsd_row")
    rows = known.loc[[int(name.removeprefix(PREFIX)) for name in table.index]]
    source = [f"{row.journal} {row.volume}, {row.page} ({row.year})" for row in rows.itertuples()]
    unnamed = rows["mineral"].to_numpy() == UNNAMED
    names = np.where(unnamed, table["formula"], rows["mineral"])
    return table.assign(mineral=names, source=source)


def rates(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the rows of the table of rates."""
    answered = table["status"] == "ok"
    done = table[answered]
    labelled = done[done["labelled"] > 0]
    exact = (labelled["labelled_with_h"] == labelled["labelled"]) & (labelled["others_with_h"] == 0)
    sound = done["warnings"].fillna("") == ""
    unwarned = exact[sound[exact.index]]
    oxygens = int(labelled["labelled"].sum())
    return [
        _rate("answered", "minerals with an answer", len(table), int(answered.sum())),
        _rate("sound", "answers without a warning", len(done), int(sound.sum())),
        _rate("exact", "H on the labelled O and no others", len(labelled), int(exact.sum())),
        _rate("unwarned", "the same, without a warning", len(unwarned), int(unwarned.sum())),
        _rate("oxygen", "labelled O that carry H", oxygens, int(labelled["labelled_with_h"].sum())),
    ]


def _rate(key: str, label: str, of: int, number: int) -> dict[str, Any]:
    share = share_cell(number, of) if of else None
    return {"key": key, "label": label, "cells": {"crystals": of, "number": number, "share": share}}


def shown(table: pd.DataFrame, ids: Sequence[str]) -> list[dict[str, Any]]:
    """Return the rows of the minerals to show."""
    missing = [name for name in ids if name not in table.index]
    if missing:
        raise InputError(f"{missing[0]} is in none of the runs; give ids of their results.csv")
    rows = []
    for name in ids:
        row = table.loc[name]
        labels = f"{row['labelled_with_h']} of {row['labelled']}" if row["labelled"] else None
        label = ", ".join(dict.fromkeys((row["mineral"], row["formula"])))
        cells = {
            "added": int(row["n_missing"]),
            "bonds": row["bonds"],
            "hydrogen_bonds": row["hydrogen_bonds"] or None,
            "valence_misfit": float(row["valence_misfit"]),
            "labels": labels,
            "source": row["source"],
        }
        rows.append({"key": name, "label": label, "cells": cells})
    return rows


def main() -> None:
    """Write the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "outdirs", type=Path, nargs="+", help="--outdir of finished runs; later ones replace"
    )
    parser.add_argument("--labels", type=Path, required=True, help="of tools/mineral_labels.py")
    parser.add_argument("--minerals", type=Path, required=True, help="minerals.csv")
    parser.add_argument("--show", nargs="*", default=[], help="ids of the minerals to show")
    parser.add_argument("--output", type=Path, required=True, help="NAME.json to write")
    args = parser.parse_args()
    labels = json.loads(args.labels.read_text())
    table = pd.concat([rows_of(read_results(outdir), labels) for outdir in args.outdirs])
    table = table[~table.index.duplicated(keep="last")]
    table = with_sources(table, pd.read_csv(args.minerals)).round(6).sort_index()
    table.index.name = "id"
    with atomic_writer(args.output.with_suffix(".csv")) as file:
        table.to_csv(file)
    about = {"title": "Minerals whose hydrogen nobody located", "crystals": len(table)}
    found = {"label": "what", "columns": list(RATES), "rows": rates(table)}
    write_json(args.output, about | found)
    for one in found["rows"]:
        print(one["label"], one["cells"])
    if args.show:
        some = {"label": "mineral", "columns": list(COLUMNS), "rows": shown(table, args.show)}
        write_json(args.output.with_name(f"{args.output.stem}_shown.json"), about | some)


if __name__ == "__main__":
    run_command(main)
