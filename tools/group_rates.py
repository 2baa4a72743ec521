#!/usr/bin/env python3
"""Success rates of finished runs by groups of crystals, as a table of docs/benchmarks.

A group is a value of a key of the benchmark's crystals (such as `in_training` of MC3D), or the
class of the host as method mix has it (`host_class`). Rates are means over the crystals of all
given runs with a usable reference; the others are counted. A crystal without a result counts as a
failure.
"""

import argparse
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import pandas as pd
from ase import Atoms

from xtalfill.core.errors import InputError, run_command
from xtalfill.core.io import write_json
from xtalfill.evaluate.metrics import best_of_k, rate_cell
from xtalfill.interactive.finished import read_results
from xtalfill.proposals.mix import host_class

SEED = 20250101
KS = (1, 2, 3, 5, 10)
HOST_CLASS = "host_class"
OUTCOMES = {"match": "matched", "les": "les"}


@dataclass(frozen=True)
class Judged:
    """The candidates of a crystal.

    Attributes:
        group: Its value of the key.
        k: Number of draws -> measure -> probability of success of the lowest candidate of k.
        lowest: Measure -> whether the lowest of all candidates is a success.
    """

    group: str
    k: dict[int, dict[str, float]]
    lowest: dict[str, bool]


def judge(candidates: pd.DataFrame, group: str) -> Judged:
    """Return the rates of a crystal from its rows of candidates.csv."""
    usable = (candidates["status"] == "ok").to_numpy()
    energy = np.where(usable, candidates["energy"].to_numpy(), np.nan)
    outcome = {
        name: candidates[column].fillna(False).to_numpy(dtype=bool) & usable
        for name, column in OUTCOMES.items()
    }
    rates = {name: best_of_k(energy, success, KS) for name, success in outcome.items()}
    first = int(np.nanargmin(energy)) if usable.any() else None
    return Judged(
        group,
        {k: {name: float(rates[name][i]) for name in rates} for i, k in enumerate(KS)},
        {name: first is not None and bool(some[first]) for name, some in outcome.items()},
    )


def judge_runs(
    outdirs: Iterable[Path], group: Callable[[str], str], *, replaced_by: Iterable[Path] = ()
) -> tuple[list[Judged], int]:
    """Return the crystals of some runs with a usable reference, and the number of the others.

    Args:
        outdirs: The runs.
        group: Id -> group.
        replaced_by: Runs whose crystals take the place of the same ones in `outdirs`.

    Raises:
        InputError: A crystal is in two of `outdirs`, or of `replaced_by`.
    """
    found = list((_by_id(outdirs, group) | _by_id(replaced_by, group)).values())
    judged = [one for one in found if one is not None]
    return judged, len(found) - len(judged)


def _by_id(outdirs: Iterable[Path], group: Callable[[str], str]) -> dict[str, Judged | None]:
    """Return the crystals of some runs by their ids; None without a usable reference."""
    judged: dict[str, Judged | None] = {}
    for outdir in outdirs:
        found = read_results(outdir)
        candidates = found.candidates[found.candidates["status"] != "absent"]
        rows = dict(iter(candidates.groupby("id")))
        for key, row in found.results.groupby("id"):
            name = str(key)
            if name in judged:
                raise InputError(f"{outdir}: {name} is in another run, too")
            usable = name in rows and bool(row["has_reference"].fillna(False).any())
            judged[name] = judge(rows[name], group(name)) if usable else None
    return judged


def percent(values: np.ndarray) -> dict[str, float]:
    """Return a mean and its interval."""
    return rate_cell(values, generator=np.random.default_rng(SEED))


def row(key: str, label: str, some: list[Judged]) -> dict[str, Any]:
    """Return a row of the table."""
    cells: dict[str, Any] = {"crystals": len(some)}
    for name in OUTCOMES:
        single = np.array([one.k[1][name] for one in some])
        lowest = np.array([float(one.lowest[name]) for one in some])
        cells |= {f"{name}_single": percent(single), f"{name}_lowest": percent(lowest)}
    return {"key": key, "label": label, "cells": cells}


def table(judged: list[Judged], others: int, title: str) -> dict[str, Any]:
    """Return the JSON of a table: all crystals, then each group."""
    groups = sorted({one.group for one in judged})
    rows = [row("all", "all", judged)]
    rows += [row(name, name, [one for one in judged if one.group == name]) for name in groups]
    by_k = {
        f"k{k}": {name: percent(np.array([one.k[k][name] for one in judged])) for name in OUTCOMES}
        for k in KS
    }
    columns = [{"key": "crystals", "title": "crystals"}]
    columns += [
        {"key": f"{name}_{which}", "title": f"{text}, {word}", "unit": "%"}
        for name, text in (("match", "match"), ("les", "LES"))
        for which, word in (("single", "single"), ("lowest", "lowest of all"))
    ]
    return {
        "title": title,
        "crystals": len(judged),
        "without_reference": others,
        "label": "group",
        "columns": columns,
        "rows": rows,
        "best_of_k": by_k,
    }


def group_of(crystal: Atoms, key: str) -> str:
    """Return the group of a crystal of the benchmark."""
    if key == HOST_CLASS:
        return host_class(crystal.numbers.tolist())
    return str(crystal.info[key])


def main() -> None:
    """Write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("outdirs", type=Path, nargs="+", help="--outdir of finished runs")
    parser.add_argument("--bench", type=Path, required=True, help="extxyz with `id`")
    parser.add_argument(
        "--replaced_by", type=Path, nargs="*", default=[], help="newer runs of some"
    )
    parser.add_argument("--by", required=True, help=f"key of the crystals, or {HOST_CLASS}")
    parser.add_argument("--title", required=True)
    parser.add_argument("--output", type=Path, required=True, help="JSON to write")
    args = parser.parse_args()
    known = {str(one.info["id"]): group_of(one, args.by) for one in ase.io.read(args.bench, ":")}
    judged, others = judge_runs(args.outdirs, known.__getitem__, replaced_by=args.replaced_by)
    found = table(judged, others, args.title)
    write_json(args.output, found)
    for one in found["rows"]:
        print(one["label"], one["cells"])
    print(found["best_of_k"], f"without a usable reference: {others}")


if __name__ == "__main__":
    run_command(main)
