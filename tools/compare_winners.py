#!/usr/bin/env python3
"""How winners without a match differ from the crystals of a benchmark: neighbours and energies.

Reads the pairs that `tools/winners_by_dft.py pairs` writes, and those of them that
`tools/dft_pairs.py compute` has judged. Writes a table of docs/benchmarks.
"""

import argparse
import re
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import spglib
from ase import Atoms
from ase.data import atomic_numbers, chemical_symbols
from pymatgen.core import Composition
from pymatgen.util.string import unicodeify, unicodeify_spacegroup
from winners_by_dft import COLUMNS

from xtalfill.core.errors import InputError, run_command
from xtalfill.core.io import write_json
from xtalfill.evaluate.pairs import read_pairs

SYMMETRY_TOLERANCE = 0.02  # Å; forces of a winner are below 0.05 eV/Å, not zero
POTENTIAL, DFT, _ = COLUMNS


def nearest(crystal: Atoms, element: int) -> str:
    """Return the element and the distance of the nearest host atom of the atoms of an element."""
    filled = crystal.numbers == element
    distances = crystal.get_all_distances(mic=True)[np.ix_(filled, ~filled)]
    one, other = np.unravel_index(distances.argmin(), distances.shape)
    symbol = chemical_symbols[crystal.numbers[~filled][other]]
    return f"{chemical_symbols[element]}–{symbol} {distances[one, other]:.2f} Å"


def described(crystal: Atoms, element: int) -> str:
    """Return the shortest bond to the host and the space group."""
    cell = (crystal.cell[:], crystal.get_scaled_positions(), crystal.numbers)
    symbol = unicodeify_spacegroup(spglib.get_spacegroup(cell, SYMMETRY_TOLERANCE).split(" ")[0])
    return f"{nearest(crystal, element)}, {symbol}"


def row_of(name: str, pair: dict[str, Atoms], dft: float | None, element: int) -> dict[str, Any]:
    """Return the row of a crystal; `dft` is in eV/atom."""
    info = pair["winner"].info
    formula = Composition(str(info["formula"])).reduced_composition.formula
    formula = re.sub(r"(?<=[a-z])1\b| ", "", formula, flags=re.IGNORECASE)  # "Y1 Mn2 H6"
    cells = {part: described(pair[part], element) for part in ("reference", "winner")}
    cells["potential"] = round(1e3 * float(info["potential"]), 1)
    if dft is not None:
        cells["dft"] = round(1e3 * dft, 1)
    return {"key": name, "label": unicodeify(formula), "cells": cells}


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
    found: dict[str, dict[str, Atoms]] = {}
    for frame in (one for path in args.pairs for one in ase.io.read(path, ":")):
        part = str(frame.info["geometry"]).rsplit("-", 1)[1]
        found.setdefault(str(frame.info["id"]), {})[part] = frame
    for name in args.id:
        if name not in found:
            raise InputError(f"no pair {name}; give the output of winners_by_dft.py pairs")
    dft = {pair.name: pair.difference for path in args.judged for pair in read_pairs(path)}
    element = atomic_numbers[args.element]
    rows = [row_of(name, found[name], dft.get(name), element) for name in args.id]
    shown = [{"key": "reference", "title": "MC3D"}, {"key": "winner", "title": "winner"}]
    content = {"title": args.title, "crystals": len(rows), "label": "crystal"}
    write_json(args.output, content | {"columns": [*shown, POTENTIAL, DFT], "rows": rows})


if __name__ == "__main__":
    run_command(main)
