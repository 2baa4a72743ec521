#!/usr/bin/env python3
"""Compare ways to relax the same proposals; a table of docs/benchmarks.

Reads JSON lines of tools/measure_cover.py, or tables of tools/crystals_of_run.py (.csv), which have
answers alone and no steps: NAME=FILE for each way, the first is the one that the others are
compared with. A way finds a crystal with the candidate of lowest energy.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from crystal_table import read_crystals, with_reference

from xtalfill.core.errors import InputError, run_command
from xtalfill.core.io import read_json_lines, write_json
from xtalfill.core.relaxations import ENERGY_WINDOW
from xtalfill.evaluate.metrics import share_cell, won_lost

Record = dict[str, Any]


def read(path: Path) -> list[Record]:
    """Return the records of a file; of a table each crystal with its answer as the candidate."""
    if path.suffix != ".csv":
        return read_json_lines(path)
    answers = with_reference(read_crystals([path]))
    return [
        {"id": name, "usable": True, "candidates": [
            {"les": bool(one.les), "matched": bool(one.matched), "first": above, "above": above}]}
        for name, one in answers.iterrows()
        for above in [None if np.isnan(one.energy_above_reference) else one.energy_above_reference]
    ]  # fmt: skip


def lowest(record: Record) -> Record | None:
    """Return the candidate of lowest energy; None if no candidate is usable."""
    usable = [one for one in record["candidates"] if one["above"] is not None]
    return min(usable, key=lambda one: one["first"], default=None)


def calls(records: Sequence[Record]) -> int:
    """Return the evaluations of an atom in all relaxations of some crystals."""
    return sum(
        record["n_atoms"] * (one["steps"] + 2)
        for record in records
        for one in record["candidates"]
        if one["first"] is not None
    )


def row(name: str, ours: Sequence[Record], base: Sequence[Record]) -> Record:
    """Return the row of a way."""
    ends = [(lowest(one), lowest(other)) for one, other in zip(ours, base, strict=True)]
    apart = np.array([a["first"] - b["first"] for a, b in ends if a is not None and b is not None])
    lower, higher = int((apart < -ENERGY_WINDOW).sum()), int((apart > ENERGY_WINDOW).sum())
    les, match = found_les(ours), found_match(ours)
    counted = all("steps" in one for record in [*ours, *base] for one in record["candidates"])
    cells: Record = {"calls": round(calls(ours) / calls(base), 2)} if counted else {}
    cells |= {
        "les": found_cell(les), "les_test": won_lost(les, found_les(base)),
        "match": found_cell(match), "match_test": won_lost(match, found_match(base)),
        "ends": f"{lower} : {higher}",
    }  # fmt: skip
    return {"key": name, "label": name, "cells": cells}


def found_les(records: Sequence[Record]) -> np.ndarray:
    """Return for each crystal whether a candidate is a match or lower."""
    return np.array([any(one["les"] for one in record["candidates"]) for record in records])


def found_match(records: Sequence[Record]) -> np.ndarray:
    """Return for each crystal whether the lowest candidate matches."""
    ends = map(lowest, records)
    return np.array([one is not None and bool(one["matched"]) for one in ends])


def found_cell(found: np.ndarray) -> dict[str, float]:
    """Return the share of crystals that are found, %, with its Wilson interval."""
    return share_cell(int(found.sum()), len(found))


def table(ways: dict[str, list[Record]], title: str) -> Record:
    """Return the JSON of the table, of the crystals that all ways have.

    Raises:
        InputError: There is none.
    """
    shared = set.intersection(
        *({one["id"] for one in found if one["usable"]} for found in ways.values())
    )
    if not shared:
        raise InputError("no crystal is in all files")
    kept = {
        name: sorted((one for one in found if one["id"] in shared), key=lambda one: one["id"])
        for name, found in ways.items()
    }
    base = next(iter(kept.values()))
    columns = [
        {"key": "calls", "title": "force calls, ratio"},
        {"key": "les", "title": "LES", "unit": "%", "digits": 1},
        {"key": "les_test", "title": "LES won : lost"},
        {"key": "match", "title": "match, lowest of all", "unit": "%", "digits": 1},
        {"key": "match_test", "title": "match won : lost"},
        {"key": "ends", "title": "lowest lower : higher"},
    ]
    rows = [row(name, found, base) for name, found in kept.items()]
    if not any("calls" in one["cells"] for one in rows):
        columns = columns[1:]
    return {
        "title": title, "crystals": len(base), "label": "way", "columns": columns, "rows": rows,
    }  # fmt: skip


def main() -> None:
    """Write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("ways", nargs="+", metavar="NAME=FILE", help="JSON lines or CSV")
    parser.add_argument("--title", required=True)
    parser.add_argument("--output", type=Path, required=True, help="JSON of the table")
    args = parser.parse_args()
    pairs = (text.partition("=")[::2] for text in args.ways)
    ways = {name: read(Path(path)) for name, path in pairs}
    write_json(args.output, table(ways, args.title))


if __name__ == "__main__":
    run_command(main)
