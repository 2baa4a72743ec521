#!/usr/bin/env python3
"""Compare restored crystals with refinements of the same mineral that located hydrogen.

Takes every refinement of the formula whose host matches, and writes a table of docs/benchmarks. The
cells may differ a little: StructureMatcher finds which atom is which, and distances are in the cell
of the refinement.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import pandas as pd
from ase import Atoms
from pymatgen.analysis.structure_matcher import StructureMatcher
from pymatgen.core import Structure
from showcase import with_sources

from xtalfill.core.errors import InputError, run_command
from xtalfill.core.io import write_json
from xtalfill.core.matching import reduced, same_crystal, to_pymatgen

HYDROGEN = "H"
FARTHEST_BOND = 4.0  # Å
COLUMNS = (
    {"key": "refinement", "title": "refinement with hydrogen"},
    {"key": "neutrons", "title": "neutrons"},
    {"key": "given", "title": "its shortest bond of H", "unit": "Å", "digits": 2},
    {"key": "restored", "title": "restored", "unit": "Å", "digits": 2},
    {"key": "result", "title": "the answer"},
    {"key": "apart", "title": "H apart, mean", "unit": "Å", "digits": 2},
    {"key": "largest", "title": "largest", "unit": "Å", "digits": 2},
    {"key": "others", "title": "other atoms, largest", "unit": "Å", "digits": 2},
)


def refinements_of(ours: Atoms, known: list[Atoms]) -> Iterator[tuple[Atoms, bool]]:
    """Yield the refinements of the same host, and whether the whole crystals match.

    Args:
        ours: A restored crystal.
        known: Crystals with located hydrogen.
    """
    formula = to_pymatgen(ours).composition.reduced_formula
    for other in known:
        if to_pymatgen(other).composition.reduced_formula != formula:
            continue
        hosts = (reduced(one[one.numbers != 1]) for one in (ours, other))
        if same_crystal(*hosts):
            yield other, same_crystal(reduced(ours), reduced(other))


def compare(ours: Structure, other: Structure) -> dict[str, tuple[float, float]] | None:
    """Return mean and largest distance in Å of the atoms of each element; None without a match.

    Args:
        ours: The restored crystal.
        other: The other refinement, in a cell of the same size.
    """
    mapped = StructureMatcher(primitive_cell=False).get_s2_like_s1(other, ours)
    if mapped is None:
        return None
    apart = np.array([one.distance(two) for one, two in zip(other, mapped, strict=True)])
    symbols = np.array([site.specie.symbol for site in other])
    of = {name: apart[symbols == name] for name in sorted(set(symbols.tolist()))}
    return {name: (float(some.mean()), float(some.max())) for name, some in of.items()}


def shortest_bond(crystal: Structure) -> float:
    """Return the smallest distance of a hydrogen to another element, Å."""
    lengths = (
        near.nn_distance
        for site in crystal
        if site.specie.symbol == HYDROGEN
        for near in crystal.get_neighbors(site, FARTHEST_BOND)
        if near.specie.symbol != HYDROGEN
    )
    return float(min(lengths))


def row_of(ours: Atoms, other: Atoms, *, matched: bool) -> dict[str, Any]:
    """Return the numbers of a row."""
    crystals = [reduced(one) for one in (ours, other)]
    row: dict[str, Any] = {
        "neutrons": "yes" if int(other.info["neutron"]) else "no",
        "given": round(shortest_bond(crystals[1]), 3),
        "restored": round(shortest_bond(crystals[0]), 3),
        "result": "matches" if matched else "differs",
    }
    found = compare(*crystals) if matched else None
    if found is not None:
        mean, largest = found.pop(HYDROGEN)
        row |= {"apart": round(mean, 3), "largest": round(largest, 3)}
        row["others"] = round(max(most for _, most in found.values()), 3)
    return row


def table(selected: list[Atoms], known: list[Atoms], minerals: pd.DataFrame) -> dict[str, Any]:
    """Return the JSON of the table, by the name of the mineral.

    Raises:
        InputError: No host of the selected crystals is among the known ones.
    """
    known = list({str(one.info["id"]): one for one in known}.values())
    found = {
        (str(ours.info["id"]), str(other.info["id"])): row_of(ours, other, matched=matched)
        for ours in selected
        for other, matched in refinements_of(ours, known)
    }
    if not found:
        raise InputError("no refinement has the host of a selected crystal")
    rows = []
    for (one, other), cells in found.items():
        formula = next(str(a.symbols) for a in selected if str(a.info["id"]) == one)
        about = with_sources(pd.DataFrame({"formula": formula}, index=[one, other]), minerals)
        cells["refinement"] = about["source"][other]
        rows.append({"key": f"{one}_{other}", "label": about["mineral"][one], "cells": cells})
    rows.sort(key=lambda row: (row["label"], row["key"]))
    return {
        "title": "Restored minerals beside refinements that located hydrogen",
        "crystals": len({one for one, _ in found}),
        "label": "mineral",
        "columns": list(COLUMNS),
        "rows": rows,
    }


def main() -> None:
    """Write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--selected", type=Path, nargs="+", required=True, help="selected.extxyz of runs"
    )
    parser.add_argument(
        "--known", type=Path, nargs="+", required=True, help="extxyz with `id` and `neutron`"
    )
    parser.add_argument("--minerals", type=Path, required=True, help="minerals.csv")
    parser.add_argument("--output", type=Path, required=True, help="JSON to write")
    args = parser.parse_args()
    selected, known = (
        [atoms for path in paths for atoms in ase.io.read(path, ":")]
        for paths in (args.selected, args.known)
    )
    found = table(selected, known, pd.read_csv(args.minerals))
    write_json(args.output, found)
    for row in found["rows"]:
        print(row["label"], row["cells"])


if __name__ == "__main__":
    run_command(main)
