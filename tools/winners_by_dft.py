#!/usr/bin/env python3
"""Judge winners without a match by one SCF calculation each, without relaxation.

A winner where the potential relaxed it lies above its own minimum by DFT, and a reference that was
relaxed with DFT lies at its own. If the winner is lower even so, it is lower by DFT; if not, only a
relaxation decides (`nextflow run --validate`). A calculation takes a tenth of a relaxation.

pairs: write reference and winner of each crystal, for `tools/dft_pairs.py compute`, which takes the
cheapest first and continues where it was stopped.
table: write the table of docs/benchmarks from its output.
les: write what they say about the rate of LES by DFT.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
from ase import Atoms
from crystal_table import matches, read_crystals, with_reference
from pymatgen.util.string import unicodeify

from xtalfill.core.errors import InputError, run_command
from xtalfill.core.io import read_json, replacing, write_json
from xtalfill.evaluate.metrics import les_by_dft_cell, share_cell
from xtalfill.evaluate.pairs import TIE, MinimaPair, read_pairs
from xtalfill.interactive.finished import Results, read_results

COLUMNS = (
    {"key": "potential", "title": "E − E(ref) by the potential", "unit": "meV/atom", "digits": 1},
    {"key": "dft", "title": "by DFT, at most", "unit": "meV/atom", "digits": 1},
    {"key": "verdict", "title": "DFT says"},
)
LES_COLUMNS = (
    {"key": "matched", "title": "match", "unit": "%", "digits": 1},
    {"key": "share", "title": "of the others lower by DFT", "unit": "%", "digits": 0},
    {"key": "les", "title": "LES by DFT", "unit": "%", "digits": 1},
)
SEED = 0


def geometry(crystal: Atoms, **info: Any) -> Atoms:
    """Return a crystal without results, its atoms in the order of their elements."""
    order = np.argsort(crystal.numbers, kind="stable")
    bare = Atoms(crystal.numbers, crystal.positions, cell=crystal.cell, pbc=True)[order]
    bare.info = info
    return bare


def pairs_of(run: Results, references: dict[str, Atoms], *, ranked_by: str) -> Iterator[Atoms]:
    """Yield reference and winner of each crystal whose winner does not match.

    Args:
        run: The run.
        references: Id -> crystal as its database has it.
        ranked_by: The potential of the winners.

    Raises:
        InputError: A reference is missing or has other atoms.
    """
    rows = with_reference(run.results[run.results["best_of_all"]])
    for row in rows[~matches(rows)].itertuples():
        if row.id not in references:
            raise InputError(f"{row.id}: no such reference; give the --references of the run")
        about = {"id": row.id, "pair": row.id, "class": row.site_class, "made_by": ranked_by}
        about |= {"formula": row.formula, "potential": float(row.energy_above_reference)}
        both = {"reference": references[row.id], "winner": run.structures[row.id]}
        if len({str(sorted(one.numbers.tolist())) for one in both.values()}) != 1:
            raise InputError(f"{row.id}: winner and reference have other atoms")
        for name, crystal in both.items():
            yield geometry(crystal, geometry=f"{row.id}-{name}", **about)


def row_of(pair: MinimaPair) -> dict[str, Any]:
    """Return the row of a crystal."""
    _, winner = pair.members
    verdict = "lower" if pair.difference < -TIE else "open"
    values = {"potential": 1e3 * float(winner.info["potential"]), "dft": 1e3 * pair.difference}
    cells = {name: round(value, 2) for name, value in values.items()} | {"verdict": verdict}
    return {"key": pair.name, "label": unicodeify(str(winner.info["formula"])), "cells": cells}


def table(pairs: list[MinimaPair]) -> dict[str, Any]:
    """Return the table, the lowest by the potential first.

    Raises:
        InputError: There is no pair.
    """
    if not pairs:
        raise InputError("no pair; give the output of tools/dft_pairs.py compute")
    rows = sorted((row_of(pair) for pair in pairs), key=lambda row: row["cells"]["potential"])
    return {"crystals": len(rows), "label": "crystal", "columns": list(COLUMNS), "rows": rows}


def share_of_lower(rows: list[dict[str, Any]]) -> tuple[int, dict[str, float]]:
    """Return how many winners are lower, and their share with its interval in percent."""
    lower = sum(row["cells"]["verdict"] == "lower" for row in rows)
    return lower, share_cell(lower, len(rows))


def les_table(crystals: list[Path], judged: Path) -> dict[str, Any]:
    """Return the table of LES by DFT: if no open winner is lower, and if all are.

    Args:
        crystals: Tables of tools/crystals_of_run.py.
        judged: The table of `table`.

    Raises:
        InputError: A crystal of `judged` is not among the winners without a match.
    """
    rows = with_reference(read_crystals(crystals))
    found = matches(rows)
    verdicts = {row["key"]: row["cells"]["verdict"] for row in read_json(judged)["rows"]}
    for key in verdicts:
        if key not in found.index or found[key]:
            raise InputError(f"{key}: no winner without a match in the tables of the crystals")
    match = (int(found.sum()), len(found))
    counted = {"none is lower": {"lower"}, "all are lower": {"lower", "open"}}
    lines = []
    for label, kinds in counted.items():
        lower = (sum(verdict in kinds for verdict in verdicts.values()), len(verdicts))
        les = les_by_dft_cell(match, lower, generator=np.random.default_rng(SEED))
        cells = {"matched": share_cell(*match), "share": share_cell(*lower), "les": les}
        lines.append({"key": label.replace(" ", "_"), "label": label, "cells": cells})
    about = {"crystals": len(rows), "label": "open winners"}
    return about | {"columns": list(LES_COLUMNS), "rows": lines}


def main() -> None:
    """Run a subcommand."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parts = parser.add_subparsers(dest="part", required=True)
    one = parts.add_parser("pairs", help="write references and winners")
    one.add_argument("run", type=Path, help="--outdir of a run")
    one.add_argument("--references", type=Path, required=True, help="extxyz, relaxed with DFT")
    one.add_argument("--ranked_by", default="nequix-oam-1", help="potential of the winners")
    one.add_argument("--output", type=Path, required=True, help="extxyz")
    two = parts.add_parser("table", help="write the table")
    two.add_argument("pairs", type=Path, help="output of tools/dft_pairs.py compute")
    two.add_argument("--title", required=True)
    two.add_argument("--output", type=Path, required=True, help="JSON")
    three = parts.add_parser("les", help="write the rate of LES by DFT")
    three.add_argument("crystals", type=Path, nargs="+", help="tables of tools/crystals_of_run.py")
    three.add_argument("--judged", type=Path, required=True, help="output of `table`")
    three.add_argument("--title", required=True)
    three.add_argument("--output", type=Path, required=True, help="JSON")
    args = parser.parse_args()
    if args.part == "pairs":
        references = {str(one.info["id"]): one for one in ase.io.read(args.references, ":")}
        frames = list(pairs_of(read_results(args.run), references, ranked_by=args.ranked_by))
        with replacing(args.output) as temporary:
            ase.io.write(temporary, frames, format="extxyz")
        print(f"{len(frames) // 2} winners without a match")
    elif args.part == "les":
        content = les_table(args.crystals, args.judged)
        write_json(args.output, {"title": args.title} | content)
    else:
        content = table(read_pairs(args.pairs))
        write_json(args.output, {"title": args.title} | content)
        lower, share = share_of_lower(content["rows"])
        print(f"{lower} of {content['crystals']} are lower: {share}")


if __name__ == "__main__":
    run_command(main)
