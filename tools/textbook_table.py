#!/usr/bin/env python3
"""Compare the crystals of `make textbook` with the literature, by name.

Writes a table for tools/make_tables.py, and prints it. Only crystals that the run has are in it.
"""

import argparse
import csv
import json
import sys
from pathlib import Path
from typing import Any

import ase.io
import make_tables
from ase import Atoms
from make_textbook import FOLDER, Entry, build, length_range, read_entries

COLUMNS = [
    {"key": "atoms", "title": "atoms"},
    {"key": "result", "title": "result"},
    {"key": "restored", "title": "X–H restored", "unit": "Å"},
    {"key": "literature", "title": "X–H in the literature", "unit": "Å"},
    {"key": "rmsd", "title": "RMSD", "unit": "Å", "digits": 2},
    {"key": "energy", "title": "energy above reference", "unit": "meV/atom", "digits": 1},
]


def verdict(row: dict[str, str]) -> str:
    """Return the result of a crystal in one word."""
    if row["matched"] == "True":
        return "found"
    return "lower" if row["les"] == "True" else "missed"


def table_row(entry: Entry, row: dict[str, str], restored: Atoms | None) -> dict[str, Any]:
    """Return the row of a crystal.

    Args:
        entry: From crystals.json.
        row: Its best candidate in results.csv.
        restored: The crystal of this candidate; None if all candidates failed.
    """
    crystal = build(entry)
    cells: dict[str, Any] = {
        "atoms": len(crystal),
        "result": verdict(row),
        "literature": length_range(crystal),
    }
    if restored is not None:
        cells["restored"] = length_range(restored)
    if row["rmsd"]:
        cells["rmsd"] = round(float(row["rmsd"]), 4)
    if row["energy_above_reference"]:
        cells["energy"] = round(1000 * float(row["energy_above_reference"]), 2)
    return {"key": entry["id"], "label": entry["name"], "cells": cells}


def read_rows(outdir: Path) -> dict[str, tuple[dict[str, str], Atoms | None]]:
    """Return id -> the best candidate over all methods, and its crystal."""
    with (outdir / "results.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    crystals = {
        (atoms.info["id"], atoms.info["method"]): atoms
        for atoms in ase.io.read(outdir / "selected.extxyz", ":")
    }
    found = {}
    for row in sorted(rows, key=lambda row: row["best_of_all"] == "True"):
        found[row["id"]] = (row, crystals.get((row["id"], row["method"])))
    return found


def main(arguments: list[str] | None = None) -> None:
    """Write and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("outdir", type=Path, help="results of the run")
    parser.add_argument("--output", type=Path, required=True, help="JSON file to write")
    parser.add_argument("--commit", help="of the run, for the record")
    parser.add_argument("--date", help="of the run, for the record")
    args = parser.parse_args(arguments)
    found = read_rows(args.outdir)
    rows = [
        table_row(entry, *found[entry["id"]])
        for entry in read_entries(FOLDER)
        if entry["id"] in found
    ]
    if not rows:
        sys.exit(f"ERROR: {args.outdir}: has none of the textbook crystals; give their run")
    record = {name: getattr(args, name) for name in ("commit", "date") if getattr(args, name)}
    table = {
        "title": "Textbook crystals: the selected candidate and the literature",
        "crystals": len(rows),
        "commands": ["make textbook"],
        **record,
        "label": "crystal",
        "columns": COLUMNS,
        "rows": rows,
    }
    text = json.dumps(table, indent=2, ensure_ascii=False) + "\n"
    args.output.write_text(text, encoding="utf-8")
    library = make_tables.Library(args.output.parent)
    print("\n".join(make_tables.table_lines(library, args.output.stem)))


if __name__ == "__main__":
    main()
