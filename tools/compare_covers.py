#!/usr/bin/env python3
"""Compare ways to relax the same proposals; a table of docs/benchmarks.

Reads JSON lines of tools/measure_cover.py: NAME=FILE for each way, the first is the one that the
others are compared with. A way finds a crystal with the candidate of lowest energy.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import binomtest

from xtalfill.core.errors import InputError, run_command
from xtalfill.core.io import read_json_lines, write_json
from xtalfill.core.relaxations import ENERGY_WINDOW
from xtalfill.evaluate.metrics import wilson_interval

Record = dict[str, Any]


def lowest(record: Record) -> Record | None:
    """Return the candidate of lowest energy; None if no candidate is usable."""
    usable = [one for one in record["candidates"] if one["above"] is not None]
    return min(usable, key=lambda one: one["first"], default=None)


def calls(record: Record) -> int:
    """Return the evaluations of an atom in all relaxations of a crystal."""
    return record["n_atoms"] * sum(
        one["steps"] + 2 for one in record["candidates"] if one["first"] is not None
    )


def row(name: str, ours: Sequence[Record], base: Sequence[Record]) -> Record:
    """Return the row of a way."""
    les = np.array([any(one["les"] for one in record["candidates"]) for record in ours])
    before = np.array([any(one["les"] for one in record["candidates"]) for record in base])
    match = np.array([_matched(record) for record in ours])
    matched_before = np.array([_matched(record) for record in base])
    ends = [lowest(one) for one in ours], [lowest(one) for one in base]
    apart = np.array(
        [
            a["first"] - b["first"]
            for a, b in zip(*ends, strict=True)
            if a is not None and b is not None
        ]
    )
    lower, higher = int((apart < -ENERGY_WINDOW).sum()), int((apart > ENERGY_WINDOW).sum())
    work = sum(map(calls, ours)) / sum(map(calls, base))
    cells = {
        "calls": round(work, 2),
        "les": rate(les), "les_test": won_lost(les, before),
        "match": rate(match), "match_test": won_lost(match, matched_before),
        "ends": f"{lower} : {higher}",
    }  # fmt: skip
    return {"key": name, "label": name, "cells": cells}


def _matched(record: Record) -> bool:
    found = lowest(record)
    return found is not None and bool(found["matched"])


def rate(found: np.ndarray) -> dict[str, float]:
    """Return the share of crystals that are found, %, with its Wilson interval."""
    low, high = wilson_interval(int(found.sum()), len(found))
    shares = {"value": float(found.mean()), "low": low, "high": high}
    return {name: round(100 * share, 1) for name, share in shares.items()}


def won_lost(ours: np.ndarray, base: np.ndarray) -> str:
    """Return how many crystals are won and lost, and the p of the exact McNemar test."""
    won, lost = int((ours & ~base).sum()), int((base & ~ours).sum())
    p = binomtest(won, won + lost).pvalue if won + lost else 1.0
    return f"{won} : {lost}, p = {p:.2g}"


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
    return {
        "title": title, "crystals": len(base), "label": "way", "columns": columns, "rows": rows,
    }  # fmt: skip


def main() -> None:
    """Write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("ways", nargs="+", metavar="NAME=FILE", help="lines of measure_cover.py")
    parser.add_argument("--title", required=True)
    parser.add_argument("--output", type=Path, required=True, help="JSON of the table")
    args = parser.parse_args()
    pairs = (text.partition("=")[::2] for text in args.ways)
    ways = {name: read_json_lines(Path(path)) for name, path in pairs}
    write_json(args.output, table(ways, args.title))


if __name__ == "__main__":
    run_command(main)
