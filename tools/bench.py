#!/usr/bin/env python3
"""Compare xtalfill with its peers in one table: `make bench`.

Each row is one comparison. Its two sides take turns, each measurement in a process of its own on
one core, and the ratio compares neighbours: median and range of --repeats pairs. Times are CPU
times, so a busy machine widens the range and does not shift the median much. A peer that is not
there gets a row that says so. The JSON is a table of docs/benchmarks/data.
"""

import argparse
import importlib.util
import multiprocessing
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import bench_sides as sides
import numpy as np

from xtalfill.core.io import write_json

REPOSITORY = Path(__file__).resolve().parents[1]
NEQUIP_SMALL = REPOSITORY / "assets" / "potential" / "nequip-small.nequip.zip"
CALL = Callable[[], sides.Side]


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """A row of the table.

    Attributes:
        key: Its name.
        label: What is computed, with which program of ours.
        peer: The other program.
        ours: Measures ours.
        theirs: Measures the peer; a text tells why it is not there.
        unit: Of both rates.
        apart: Unit of the largest difference of their results, and what one of it is in the unit
            of the results; None: they have none.
        repeats: Pairs, where one takes long; None: as asked for.
    """

    key: str
    label: str
    peer: str
    ours: CALL
    theirs: CALL | str
    unit: str = "structures/min"
    apart: tuple[str, float] | None = None
    repeats: int | None = None


def comparisons(options: argparse.Namespace) -> list[Comparison]:
    """Return the rows, those of absent peers included."""
    return [*_relaxations(options), *_scores(options), _nequix(options), _start()]


def _relaxations(options: argparse.Namespace) -> list[Comparison]:
    crystals, many = options.crystals, options.at_once
    rows = [
        Comparison(
            key=f"relax_{name}",
            label=f"RELAX, `{name}`, {many} crystals at once",
            peer="ASE's FIRE, crystal by crystal",
            ours=partial(sides.relax_ours, crystals, many, mlip),
            theirs=partial(sides.relax_ase, crystals, options.serial, mlip),
            apart=("meV", 1e-3),
        )
        for name, mlip in (("7net-0", "7net-0"), ("nequip-small", str(NEQUIP_SMALL)))
    ]
    rows.append(
        Comparison(
            key="restore",
            label="ten candidates of `host` to the lowest, `7net-0`, with their sampling",
            peer="ASE's BFGS, one by one, from the same candidates, without their sampling",
            ours=partial(sides.restore_ours, crystals, options.serial, "7net-0"),
            theirs=partial(sides.restore_ase, crystals, options.serial, "7net-0"),
            apart=("meV", 1e-3),
            repeats=1,
        )
    )
    # torch-sim 0.3.0 cannot import the SevenNet of today: the potential of these rows is NequIP.
    free = partial(sides.free_ours, crystals, many, str(NEQUIP_SMALL))
    label = f"RELAX, `nequip-small`, {many} crystals at once, no site fixed"
    theirs = partial(sides.free_torch_sim, crystals, many, str(NEQUIP_SMALL))
    return [
        *rows,
        Comparison(
            key="torch_sim_fire",
            label=label,
            peer="torch-sim's FIRE",
            ours=free,
            theirs=theirs if _installed("torch_sim") else "torch-sim is not installed",
            apart=("meV", 1e-3),
        ),
        Comparison(
            key="torch_sim_lbfgs",
            label=label,
            peer="torch-sim's L-BFGS",
            ours=free,
            theirs="torch-sim has it for Python 3.12 only",
        ),
    ]


def _scores(options: argparse.Namespace) -> list[Comparison]:
    """GemNet is mattergen's in all of them; ours is what is around it."""
    crystals, mattergen = options.crystals, _installed("mattergen")
    absent = "mattergen is not installed" if not mattergen else None
    path = absent or (None if options.xtalpaint else "no XTALPAINT=path of a checkout")

    def row(
        key: str, label: str, name: str, count: int, peer: str, missing: str | None
    ) -> Comparison:
        checkout = options.xtalpaint if name != "pos" else None
        return Comparison(
            key=key,
            label=f"{label}, {count} crystal{'s' * (count > 1)} at once",
            peer=peer,
            ours=partial(sides.score_ours, crystals, count, name),
            theirs=missing or partial(sides.score_upstream, crystals, count, name, checkout),
            unit="calls × crystals/min",
            apart=("10⁻⁶", 1e-6),
            repeats=1 if name == "published" else None,
        )

    theirs = "XtalPaint's network in mattergen's denoiser"
    return [
        row("pos", "score of `pos`", "pos", 8, "mattergen's denoiser", absent),
        row("td", "score of `td`", "td", 8, theirs, path),
        row("td_one", "score of `td`", "td", 1, theirs, path),
        row("td_published", "score of `td`, published size", "published", 2, theirs, path),
    ]


def _nequix(options: argparse.Namespace) -> Comparison:
    mlip, python, checkout = options.nqx, options.nequix_python, options.nequix
    missing = [
        name
        for name, value in (("NQX", mlip), ("NEQUIX_PYTHON", python), ("NEQUIX", checkout))
        if not value
    ]
    atoms = options.nequix_atoms
    return Comparison(
        key="nequix",
        label="force call of `nequix-oam-1`",
        peer="the package nequix (jax)",
        ours=partial(sides.nequix_ours, options.crystals, atoms, mlip),
        theirs=f"no {', '.join(missing)}"
        if missing
        else partial(sides.nequix_theirs, options.crystals, atoms, mlip, python, checkout),
        unit="calls/min",
    )


def _start() -> Comparison:
    return Comparison(
        key="start",
        label="`nextflow run main.nf --help`",
        peer="Nextflow with an empty script",
        ours=sides.start_pipeline,
        theirs=sides.start_nextflow,
        unit="starts/min",
    )


def _installed(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


def alone(call: CALL) -> sides.Side:
    """Measure in a new process."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(call)


def measure(row: Comparison, repeats: int) -> dict[str, Any]:
    """Return the row of the table: rates, ratio and difference of the results."""
    cells: dict[str, Any] = {"peer": row.peer}
    if isinstance(row.theirs, str):
        return {**_named(row), "cells": {**cells, "ratio": f"not measured: {row.theirs}"}}
    pairs = [(alone(row.ours), alone(row.theirs)) for _ in range(row.repeats or repeats)]
    cells["ours"], cells["theirs"] = (
        {"value": _rounded(median(pair[n].per_minute for pair in pairs)), "unit": row.unit}
        for n in (0, 1)
    )
    ratios = [ours.per_minute / theirs.per_minute for ours, theirs in pairs]
    found = (median(ratios), min(ratios), max(ratios))
    cells["ratio"] = dict(zip(("value", "low", "high"), map(_rounded, found), strict=True))
    if row.apart:
        unit, one = row.apart
        largest = max(_largest(ours.results, theirs.results) for ours, theirs in pairs) / one
        cells["apart"] = {"value": _rounded(largest), "unit": unit}
    return {**_named(row), "cells": cells}


def _named(row: Comparison) -> dict[str, Any]:
    return {"key": row.key, "label": row.label}


def _largest(ours: list[float], theirs: list[float]) -> float:
    """Return the largest difference of the results that both have; the ASE loop has fewer."""
    both = min(len(ours), len(theirs))
    return float(np.abs(np.array(ours[:both]) - np.array(theirs[:both])).max())


def _rounded(value: float) -> float:
    """Return three digits, which is what such times are worth."""
    return float(f"{value:.3g}")


def table(rows: list[dict[str, Any]], command: str) -> dict[str, Any]:
    """Return the table in the format of docs/benchmarks/data."""
    return {
        "title": "xtalfill and its peers, side by side, CPU time of one core",
        "crystals": None,
        "date": datetime.now(UTC).date().isoformat(),
        "transcribed": False,
        "commands": [command],
        "label": "what",
        "columns": [
            {"key": "peer", "title": "peer"},
            {"key": "ours", "title": "xtalfill"},
            {"key": "theirs", "title": "peer's rate"},
            {"key": "ratio", "title": "ratio"},
            {"key": "apart", "title": "results apart"},
        ],
        "rows": rows,
    }


def main() -> None:
    """Measure all rows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--crystals", type=Path, default=REPOSITORY / "assets" / "demo" / "references.extxyz"
    )
    parser.add_argument("--at_once", type=int, default=32, help="crystals of a batch of RELAX")
    parser.add_argument("--serial", type=int, default=6, help="crystals of the ASE loop")
    parser.add_argument("--repeats", type=int, default=3, help="pairs of a row")
    parser.add_argument("--only", nargs="+", help="keys of rows; all others are left out")
    parser.add_argument("--xtalpaint", type=_given, help="checkout of XtalPaint")
    parser.add_argument("--nqx", type=_given, help="weights of nequix-oam-1")
    parser.add_argument("--nequix", type=_given, help="checkout of nequix")
    parser.add_argument("--nequix_python", type=_given, help="interpreter with jax")
    parser.add_argument("--nequix_atoms", type=int, default=12, help="size of the crystal")
    parser.add_argument("--output", type=Path, required=True, help="JSON to write")
    options = parser.parse_args()
    options.output.parent.mkdir(parents=True, exist_ok=True)
    rows = []
    for row in comparisons(options):
        if not options.only or row.key in options.only:
            rows.append(measure(row, options.repeats))
            print(rows[-1]["label"], rows[-1]["cells"], flush=True)
            write_json(options.output, table(rows, _command(options)))


def _given(text: str) -> Path | None:
    """Return the path; None for an empty one, which make passes for a variable not set."""
    return Path(text).resolve() if text else None


def _command(options: argparse.Namespace) -> str:
    """Return the command, with names instead of the paths of this machine."""
    peers = {name: getattr(options, name) for name in ("xtalpaint", "nqx", "nequix")}
    given = [f"{name.upper()}={path.name}" for name, path in peers.items() if path]
    python = ["NEQUIX_PYTHON=jax_environment/bin/python"] if options.nequix_python else []
    return " ".join(["make bench", *given, *python])


if __name__ == "__main__":
    main()
