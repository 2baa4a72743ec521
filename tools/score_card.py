#!/usr/bin/env python3
"""Do the odds of the bundled cards hold for other crystals? A table of docs/benchmarks.

Reads JSON lines of tools/cover_of_run.py: CARD=FILE for each card. A card says how likely the
lowest candidate matches; the table compares that with how often it does, for all crystals and for
the groups of a key of their extxyz.
"""

import argparse
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
from fit_confidence import calibration_error, error_if_perfect, interval, read_measured, risk

from xtalfill.core.errors import InputError, run_command
from xtalfill.core.io import read_json, read_json_lines, write_json
from xtalfill.evaluate.metrics import wilson_interval
from xtalfill.results.confidence import CARDS, probability
from xtalfill.training.files import chemical_system

Record = dict[str, Any]
OUTCOME = "matched"
COLUMNS = [
    {"key": "crystals", "title": "crystals"},
    {"key": "odds", "title": "mean probability of a match", "unit": "%", "digits": 0},
    {"key": "rate", "title": "match", "unit": "%", "digits": 0},
    {"key": "error", "title": "calibration error", "digits": 3},
    {"key": "perfect", "title": "of perfect odds: mean (95th percentile)"},
    {"key": "surest", "title": "wrong, surest 80 %", "unit": "%", "digits": 0},
    {"key": "all", "title": "wrong, all", "unit": "%", "digits": 0},
]


def row(label: str, records: list[Record], systems: dict[str, str], card: Record) -> Record:
    """Return the row of some crystals.

    Raises:
        InputError: No crystal is of the kind that the card was measured for.
    """
    settings = card["settings"]
    fitting = [one for one in records if one["n_atoms"] <= card["largest"]]
    measured = read_measured(fitting, systems, settings["method"], settings["candidates"])
    if not measured.found:
        raise InputError(f"{label}: no crystal that the card was measured for")
    odds = np.array([probability(card["models"][OUTCOME], one) for one in measured.found])
    right, (mean, percentile) = measured.outcomes[OUTCOME], error_if_perfect(odds)
    low, high = wilson_interval(int(right.sum()), len(right))
    bounds = interval(lambda i: calibration_error(odds[i], right[i]), measured.systems)
    cells = {
        "crystals": len(right),
        "odds": 100 * float(odds.mean()),
        "rate": {"value": 100 * float(right.mean()), "low": 100 * low, "high": 100 * high},
        "error": {"value": calibration_error(odds, right), "low": bounds[0], "high": bounds[1]},
        "perfect": f"{mean:.3f} ({percentile:.3f})",
        "surest": 100 * risk(odds, right, 0.8),
        "all": 100 * risk(odds, right, 1.0),
    }
    return {"key": label, "label": label, "cells": cells}


def rows(
    name: str, records: list[Record], crystals: dict[str, ase.Atoms], by: str
) -> Iterator[Record]:
    """Yield the rows of a card: all crystals, and each value of the key."""
    card = read_json(CARDS / f"{name}.json")
    systems = {key: chemical_system(one.numbers) for key, one in crystals.items()}
    yield row(f"`{name}`, all", records, systems, card)

    def value(record: Record) -> str:
        return str(crystals[record["id"]].info[by])

    ordered = sorted(records, key=value, reverse=True)
    for group, members in itertools.groupby(ordered, key=value):
        yield row(f"`{name}`, `{by}` {group}", list(members), systems, card)


def main() -> None:
    """Write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("lines", nargs="+", metavar="CARD=FILE", help="card in results/odds")
    parser.add_argument("--crystals", type=Path, nargs="+", required=True, help="extxyz with `id`")
    parser.add_argument("--by", required=True, help="key of the crystals")
    parser.add_argument("--title", required=True)
    parser.add_argument("--output", type=Path, required=True, help="JSON of the table")
    args = parser.parse_args()
    crystals = {one.info["id"]: one for path in args.crystals for one in ase.io.read(path, ":")}
    found = []
    for text in args.lines:
        name, _, path = text.partition("=")
        found += rows(name, read_json_lines(Path(path)), crystals, args.by)
    table = {"title": args.title, "crystals": found[0]["cells"]["crystals"], "label": "card"}
    write_json(args.output, table | {"columns": COLUMNS, "rows": found})


if __name__ == "__main__":
    run_command(main)
