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

from xtalfill.checks.bonds import HYDROGEN
from xtalfill.core.errors import InputError, run_command
from xtalfill.core.io import write_json
from xtalfill.core.matching import same_crystal
from xtalfill.evaluate.match import Filled, same_composition
from xtalfill.interactive.answer import shortest_bond

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


def hydrogen_last(atoms: Atoms) -> Filled:
    """Return a crystal whose host is all but its hydrogen."""
    hydrogen = atoms.numbers == HYDROGEN
    order = np.argsort(hydrogen, kind="stable")
    return Filled(atoms[order], n_missing=int(hydrogen.sum()))


def refinements_of(ours: Filled, known: list[Filled]) -> Iterator[tuple[Filled, bool]]:
    """Yield the refinements of the same host, and whether the whole crystals match.

    Args:
        ours: A restored crystal.
        known: Crystals with located hydrogen.
    """
    for other in known:
        if same_composition(ours.atoms, other.atoms) and same_crystal(ours.host, other.host):
            yield other, same_crystal(ours.whole, other.whole)


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


def row_of(ours: Filled, other: Filled, *, matched: bool) -> dict[str, Any]:
    """Return the numbers of a row."""
    given, restored = (
        shortest_bond(one.atoms, one.atoms.numbers != HYDROGEN)[0] for one in (other, ours)
    )
    row: dict[str, Any] = {
        "neutrons": "yes" if int(other.atoms.info["neutron"]) else "no",
        "given": round(given, 3),
        "restored": round(restored, 3),
        "result": "matches" if matched else "differs",
    }
    found = compare(ours.whole, other.whole) if matched else None
    if found is not None:
        mean, largest = found.pop("H")
        row |= {"apart": round(mean, 3), "largest": round(largest, 3)}
        row["others"] = round(max(most for _, most in found.values()), 3)
    return row


def about(crystals: list[Filled], minerals: pd.DataFrame) -> pd.DataFrame:
    """Return a row with `mineral` and `source` for each crystal, in their order."""
    formulas = [str(one.atoms.symbols) for one in crystals]
    return with_sources(
        pd.DataFrame({"formula": formulas}, index=list(map(name, crystals))), minerals
    )


def name(crystal: Filled) -> str:
    """Return the id of a crystal."""
    return str(crystal.atoms.info["id"])


def table(selected: list[Atoms], known: list[Atoms], minerals: pd.DataFrame) -> dict[str, Any]:
    """Return the JSON of the table, by the name of the mineral.

    Raises:
        InputError: No host of the selected crystals is among the known ones.
    """
    refinements = list({name(one): one for one in map(hydrogen_last, known)}.values())
    found = [
        (ours, other, matched)
        for ours in map(hydrogen_last, selected)
        for other, matched in refinements_of(ours, refinements)
    ]
    if not found:
        raise InputError("no refinement has the host of a selected crystal")
    labels = about([ours for ours, _, _ in found], minerals)["mineral"]
    sources = about([other for _, other, _ in found], minerals)["source"]
    rows = [
        {
            "key": f"{name(ours)}_{name(other)}",
            "label": label,
            "cells": row_of(ours, other, matched=matched) | {"refinement": source},
        }
        for (ours, other, matched), label, source in zip(found, labels, sources, strict=True)
    ]
    return {
        "title": "Restored minerals beside refinements that located hydrogen",
        "crystals": len({name(ours) for ours, _, _ in found}),
        "label": "mineral",
        "columns": list(COLUMNS),
        "rows": sorted(rows, key=lambda row: (row["label"], row["key"])),
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
