#!/usr/bin/env python3
"""Compare choices of candidates by their energy before relaxation; a table of docs/benchmarks.

Reads JSON lines of tools/measure_cover.py. A choice is LABEL=SOURCE:KEPT/LOOKS,...: of the first
LOOKS proposals of a source, the KEPT of lowest energy relax. Of all relaxed candidates the lowest
wins. The first choice is the one that the others are compared with.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from compare_covers import found_cell

from xtalfill.core.errors import InputError, run_command
from xtalfill.core.io import read_json_lines, write_json
from xtalfill.evaluate.metrics import won_lost

Record = dict[str, Any]
Choice = Sequence[tuple[str, int, int]]  # source, kept, looks
TITLE = "Orbits and voids chosen by the energy of the proposal"


def read_choice(text: str) -> tuple[str, Choice]:
    """Return label and parts of a choice.

    Raises:
        InputError: It is not written as the usage says.
    """
    label, _, parts = text.rpartition("=")
    try:
        found = []
        for part in parts.split(","):
            source, _, numbers = part.partition(":")
            kept, looks = map(int, numbers.split("/"))
            found.append((source, kept, looks))
    except ValueError:
        raise InputError(f"{text}: write LABEL=SOURCE:KEPT/LOOKS,...") from None
    return label, found


def chosen(record: Record, choice: Choice) -> list[Record]:
    """Return the candidates of a crystal that a choice relaxes."""
    found = []
    for source, kept, looks in choice:
        seen = [one for one in record["candidates"] if one["source"] == source][:looks]
        known = [one for one in seen if one["look"] is not None]
        found += sorted(known, key=lambda one: one["look"])[:kept] if kept < looks else seen
    return found


def outcome(record: Record, choice: Choice) -> tuple[bool, bool]:
    """Return LES and match of the lowest candidate of a choice."""
    usable = [one for one in chosen(record, choice) if one["above"] is not None]
    if not usable:
        return False, False
    lowest = min(usable, key=lambda one: one["above"])
    return any(one["les"] for one in usable), lowest["matched"]


def table(records: Sequence[Record], choices: Sequence[tuple[str, Choice]]) -> Record:
    """Return the JSON of the table; won and lost are crystals, by the first choice."""
    rows, base = [], None
    for label, choice in choices:
        les, match = np.array([outcome(record, choice) for record in records]).T
        base = les if base is None else base
        cells = {"les": found_cell(les), "match": found_cell(match), "won": won_lost(les, base)}
        rows.append({"key": label, "label": label, "cells": cells})
    columns = [
        {"key": "les", "title": "LES", "unit": "%", "digits": 1},
        {"key": "match", "title": "match, lowest of all", "unit": "%", "digits": 1},
        {"key": "won", "title": "LES won : lost"},
    ]
    return {
        "title": TITLE, "crystals": len(records), "label": "candidates", "columns": columns,
        "rows": rows,
    }  # fmt: skip


def main() -> None:
    """Write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("lines", type=Path, nargs="+", help="of tools/measure_cover.py")
    parser.add_argument(
        "--choices", nargs="+", metavar="LABEL=SOURCE:KEPT/LOOKS,...", required=True
    )
    parser.add_argument("--output", type=Path, required=True, help="JSON of the table")
    args = parser.parse_args()
    records = [
        one for path in args.lines for one in read_json_lines(path) if one.get("usable", True)
    ]
    write_json(args.output, table(records, [read_choice(text) for text in args.choices]))


if __name__ == "__main__":
    run_command(main)
