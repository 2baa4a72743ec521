#!/usr/bin/env python3
"""How winners without a match differ from the crystals of a benchmark: neighbours and energies.

Reads the pairs that `tools/winners_by_dft.py pairs` writes, and those of them that
`tools/dft_pairs.py compute` has judged. Writes a table of docs/benchmarks.
"""

import argparse
import re
from pathlib import Path
from typing import Any

from ase import Atoms
from ase.data import atomic_numbers
from pymatgen.core import Composition
from pymatgen.util.string import unicodeify, unicodeify_spacegroup
from winners_by_dft import COLUMNS

from xtalfill.core.errors import InputError, run_command
from xtalfill.core.io import write_json
from xtalfill.evaluate.pairs import MinimaPair, read_pairs
from xtalfill.interactive.answer import shortest_bond, space_group

SYMMETRY_TOLERANCE = 0.02  # Å; forces of a winner are below 0.05 eV/Å, not zero
POTENTIAL, DFT, _ = COLUMNS


def described(crystal: Atoms, element: int) -> str:
    """Return the shortest bond of an element to the others, and the space group."""
    length, bond = shortest_bond(crystal, crystal.numbers != element)
    host, site = bond.split("-")
    symbol = unicodeify_spacegroup(space_group(crystal, tolerance=SYMMETRY_TOLERANCE))
    return f"{site}–{host} {length:.2f} Å, {symbol}"


def row_of(pair: MinimaPair, dft: float | None, element: int) -> dict[str, Any]:
    """Return the row of a crystal; `dft` is in eV/atom."""
    reference, winner = pair.members
    info = winner.info
    formula = Composition(str(info["formula"])).reduced_composition.formula
    formula = re.sub(r"(?<=[a-z])1\b| ", "", formula, flags=re.IGNORECASE)  # "Y1 Mn2 H6"
    cells: dict[str, Any] = {
        "reference": described(reference, element),
        "winner": described(winner, element),
        "potential": round(1e3 * float(info["potential"]), 1),
    }
    if dft is not None:
        cells["dft"] = round(1e3 * dft, 1)
    return {"key": pair.name, "label": unicodeify(formula), "cells": cells}


def main() -> None:
    """Write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=Path, nargs="+", required=True, help="extxyz")
    parser.add_argument("--judged", type=Path, nargs="*", default=[], help="extxyz with energies")
    parser.add_argument("--id", nargs="+", required=True, help="ids of the crystals")
    parser.add_argument("--element", default="H", help="what was restored")
    parser.add_argument("--title", required=True)
    parser.add_argument("--output", type=Path, required=True, help="JSON")
    args = parser.parse_args()
    found = {pair.name: pair for path in args.pairs for pair in read_pairs(path)}
    for name in args.id:
        if name not in found:
            raise InputError(f"no pair {name}; give the output of winners_by_dft.py pairs")
    dft = {pair.name: pair.difference for path in args.judged for pair in read_pairs(path)}
    element = atomic_numbers[args.element]
    rows = [row_of(found[name], dft.get(name), element) for name in args.id]
    shown = [{"key": "reference", "title": "MC3D"}, {"key": "winner", "title": "winner"}]
    content = {"title": args.title, "crystals": len(rows), "label": "crystal"}
    write_json(args.output, content | {"columns": [*shown, POTENTIAL, DFT], "rows": rows})


if __name__ == "__main__":
    run_command(main)
