#!/usr/bin/env python3
"""Bond lengths of restored hydrogen beside those of the references, as a table of docs/benchmarks.

For runs with --references --remove_existing. Each crystal whose winner matches its reference counts
once: the mean length of its bonds from hydrogen to an element, restored and in the reference.
Intervals: bootstrap over crystals, from three crystals on.
"""

import argparse
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
from ase import Atoms
from ase.data import chemical_symbols

from xtalfill.checks.bonds import HYDROGEN, Surroundings
from xtalfill.core.errors import InputError, run_command
from xtalfill.core.io import write_json
from xtalfill.evaluate.metrics import bootstrap_interval
from xtalfill.interactive.finished import read_results

SEED = 20250101
LEAST = 3  # crystals for an interval
COLUMNS = (
    {"key": "crystals", "title": "crystals"},
    {"key": "bonds", "title": "bonds"},
    {"key": "given", "title": "mean in the reference", "unit": "Å", "digits": 3},
    {"key": "restored", "title": "mean, restored", "unit": "Å", "digits": 3},
    {"key": "difference", "title": "difference", "unit": "Å", "digits": 3},
)


def mean_lengths(atoms: Atoms) -> dict[str, tuple[float, int]]:
    """Return the mean length and number of the bonds of hydrogen by element of the partner."""
    found: dict[str, list[float]] = defaultdict(list)
    for bond in Surroundings(atoms, np.flatnonzero(atoms.numbers == HYDROGEN)).bonds:
        if bond.bonded:
            found[chemical_symbols[atoms.numbers[bond.partner]]].append(bond.length)
    return {symbol: (float(np.mean(lengths)), len(lengths)) for symbol, lengths in found.items()}


def matched_pairs(outdir: Path, references: dict[str, Atoms]) -> Iterator[tuple[Atoms, Atoms]]:
    """Yield the reference and the restored crystal of each winner that matches.

    Raises:
        InputError: A crystal is not among the references.
    """
    found = read_results(outdir)
    best = found.results[found.results["best_of_all"].fillna(False)]
    for name in best.loc[best["matched"].fillna(False), "id"]:
        if name not in references:
            raise InputError(f"{outdir}: {name} is not in the references; give their file")
        yield references[name], found.structures[name]


def table(pairs: list[tuple[Atoms, Atoms]]) -> dict[str, Any]:
    """Return label, columns and rows: one for each element to which both bond hydrogen."""
    values: dict[str, list[tuple[float, float, int]]] = defaultdict(list)
    for given, restored in pairs:
        theirs, ours = mean_lengths(given), mean_lengths(restored)
        for symbol in theirs.keys() & ours.keys():
            values[symbol].append((theirs[symbol][0], ours[symbol][0], theirs[symbol][1]))
    rows = []
    for symbol, some in sorted(values.items(), key=lambda item: (-len(item[1]), item[0])):
        given, restored, bonds = np.array(some).T
        apart = restored - given
        difference = {"value": apart.mean()}
        if len(some) >= LEAST:
            low, high = bootstrap_interval(apart, generator=np.random.default_rng(SEED))
            difference |= {"low": low, "high": high}
        cells = {
            "crystals": len(some),
            "bonds": int(bonds.sum()),
            "given": round(float(given.mean()), 4),
            "restored": round(float(restored.mean()), 4),
            "difference": {key: round(float(one), 4) for key, one in difference.items()},
        }
        rows.append({"key": symbol, "label": f"{symbol}–H", "cells": cells})
    return {"label": "bond", "columns": list(COLUMNS), "rows": rows}


def main() -> None:
    """Write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("outdirs", type=Path, nargs="+", help="--outdir of finished runs")
    parser.add_argument("--references", type=Path, required=True, help="extxyz with `id`")
    parser.add_argument("--title", required=True)
    parser.add_argument("--output", type=Path, required=True, help="JSON to write")
    args = parser.parse_args()
    references = {str(one.info["id"]): one for one in ase.io.read(args.references, ":")}
    pairs = [pair for outdir in args.outdirs for pair in matched_pairs(outdir, references)]
    found = table(pairs)
    write_json(args.output, {"title": args.title, "crystals": len(pairs)} | found)
    for one in found["rows"]:
        print(one["label"], one["cells"])


if __name__ == "__main__":
    run_command(main)
