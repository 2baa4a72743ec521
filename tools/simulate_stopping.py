#!/usr/bin/env python3
"""Measure what --stop_below saves and loses, on what tools/measure_cover.py measured.

The candidates of a mix are taken in waves, as RELAX does. Sources whose candidates are alike (host,
random) take theirs in random order, numbered ways (voids, symmetric) in their own. All rows of the
table have the same orders. Rates and costs are means over the orders; intervals are those of
crystals.
"""

import argparse
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from search_cover import OUTCOMES, SEED, SOURCES, Measured, Mixture, write_table

from xtalfill.core.errors import run_command
from xtalfill.core.io import read_json_lines, write_json
from xtalfill.evaluate.metrics import rate_cell
from xtalfill.proposals.ways import ENUMERATED
from xtalfill.registry.mix import schedule
from xtalfill.relax.stopping import WAVE, chance_of_lower, count_minima

Record = dict[str, Any]


def order(crystal: Measured, mixture: Mixture, random: np.random.Generator) -> list[Record]:
    """Return the candidates of a mix for a crystal in the order of their relaxation."""
    own = {name: list(crystal.of(name)) for name, _ in mixture.shares}
    for name, members in own.items():
        if SOURCES[name].method not in ENUMERATED:
            random.shuffle(members)
    plan = schedule(dict(mixture.shares), mixture.k, capacity=crystal.capacity)
    return [own[name][number] for name, number in plan]


def relaxed(candidates: Sequence[Record], below: float | None) -> Sequence[Record]:
    """Return the candidates that RELAX relaxes."""
    if below is None:
        return candidates
    for count in range(WAVE, len(candidates), WAVE):
        energies = [one["first"] for one in candidates[:count] if one["first"] is not None]
        if chance_of_lower(count_minima(energies)) < below:
            return candidates[:count]
    return candidates


def outcome(candidates: Sequence[Record]) -> tuple[bool, ...]:
    """Return LES and match of the lowest candidate."""
    usable = [one for one in candidates if one["above"] is not None]
    if not usable:
        return (False,) * len(OUTCOMES)
    best = min(usable, key=lambda one: float(one["above"]))
    return tuple(bool(best[name]) for name in OUTCOMES)


def seconds(proposed: Sequence[Record], taken: Sequence[Record]) -> float:
    """Return the core-seconds of all proposals, some relaxations and their minima's ranking."""
    ranked = {one["minimum"]: float(one["ranked"]) for one in taken}
    total = sum(float(one["proposed"]) for one in proposed)
    return total + sum(float(one["relaxed"]) for one in taken) + sum(ranked.values())


def row(
    crystals: Sequence[Measured], mixture: Mixture, below: float | None, orders: int
) -> dict[str, Any]:
    """Return rates, number of candidates and cost of a mix with one bound."""
    random = np.random.default_rng(SEED)
    values = np.zeros((len(crystals), len(OUTCOMES) + 2))
    for number, crystal in enumerate(crystals):
        for _ in range(orders):
            candidates = order(crystal, mixture, random)
            taken = relaxed(candidates, below)
            cost = seconds(candidates, taken)
            values[number] += np.array([*outcome(taken), len(taken), cost]) / orders
    cells: dict[str, Any] = {"mix": str(mixture), "below": below}
    for column, name in enumerate(OUTCOMES):
        random = np.random.default_rng(SEED)
        cells[name] = rate_cell(values[:, column], generator=random)
    cells["candidates"] = round(float(values[:, -2].mean()), 1)
    cells["seconds"] = round(float(values[:, -1].mean()), 1)
    return cells


def as_table(rows: Sequence[dict[str, Any]], n_crystals: int) -> dict[str, Any]:
    """Return the rows as a table of docs/benchmarks, without its commands."""
    columns: list[dict[str, Any]] = [
        {"key": "les", "title": "LES", "unit": "%", "digits": 1},
        {"key": "matched", "title": "match", "unit": "%", "digits": 1},
        {"key": "candidates", "title": "relaxed candidates", "digits": 1},
        {"key": "seconds", "title": "core-seconds", "digits": 1},
    ]
    return {
        "title": "As many candidates as needed",
        "crystals": n_crystals,
        "label": "candidates",
        "columns": columns,
        "rows": [
            {
                "key": f"{row['mix']}_{row['below']}".replace(" ", "_"),
                "label": row["mix"].partition(", k = ")[0]
                + (f", `--stop_below {row['below']}`" if row["below"] is not None else ""),
                "cells": {column["key"]: row[column["key"]] for column in columns},
            }
            for row in rows
        ],
    }


def main() -> None:
    """Print and write a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("measured", type=Path, nargs="+", help="JSON lines of measure_cover.py")
    parser.add_argument("--mixes", nargs="+", required=True, metavar="NAME:N,...")
    parser.add_argument("--below", type=float, nargs="+", default=[0.2, 0.1, 0.05])
    parser.add_argument("--orders", type=int, default=100, help="random orders of a crystal")
    parser.add_argument("--output", type=Path, help="JSON to write")
    parser.add_argument("--table", type=Path, help="JSON of a table of docs/benchmarks to write")
    args = parser.parse_args()
    records = [line for path in args.measured for line in read_json_lines(path)]
    crystals = [Measured(record) for record in records if record["usable"]]
    rows = [
        row(crystals, mixture, below, args.orders)
        for mixture in map(Mixture.read, args.mixes)
        for below in (None, *args.below)
    ]
    counts = Counter(one.host_class for one in crystals)
    result = {"crystals": len(crystals), "classes": dict(counts), "rows": rows}
    print(json.dumps(result, indent=1, ensure_ascii=False))
    if args.output:
        write_json(args.output, result)
    if args.table:
        write_table(args.table, as_table(rows, len(crystals)))


if __name__ == "__main__":
    run_command(main)
