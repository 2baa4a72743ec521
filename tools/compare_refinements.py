#!/usr/bin/env python3
"""Compare a restored crystal with another refinement of it: matches, and distances by element.

The cells may differ a little. pymatgen's StructureMatcher finds which atom is which; distances are
in the cell of the other refinement.
"""

import argparse
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
from ase import Atoms
from pymatgen.analysis.structure_matcher import StructureMatcher
from pymatgen.core import Structure

from xtalfill.core.errors import InputError, run_command

HYDROGEN = "H"


def read_crystal(path: Path, name: str) -> Structure:
    """Return the crystal with an id from a file with extended XYZ.

    Raises:
        InputError: It is not in the file.
    """
    for atoms in ase.io.read(path, ":"):
        if str(atoms.info.get("id")) == name:
            return _plain(atoms)
    raise InputError(f"{path}: no crystal {name}; give one of its ids")


def compare(ours: Structure, other: Structure) -> dict[str, Any] | None:
    """Return mean and largest distance of the atoms of each element, and distances H to O.

    Args:
        ours: The restored crystal.
        other: The other refinement, in a cell of the same size.

    Returns:
        None without a match.
    """
    mapped = StructureMatcher(primitive_cell=False).get_s2_like_s1(other, ours)
    if mapped is None:
        return None
    apart = np.array([one.distance(two) for one, two in zip(other, mapped, strict=True)])
    symbols = np.array([site.specie.symbol for site in other])
    of = {name: apart[symbols == name] for name in sorted(set(symbols.tolist()))}
    return {
        "apart": {name: (float(some.mean()), float(some.max())) for name, some in of.items()},
        "ours": hydrogen_distances(mapped),
        "other": hydrogen_distances(other),
    }


def hydrogen_distances(crystal: Structure) -> list[tuple[float, float]]:
    """Return the distances of each hydrogen to its two nearest other atoms, Å."""
    found = []
    for site in crystal:
        if site.specie.symbol == HYDROGEN:
            near = crystal.get_neighbors(site, 4.0)
            lengths = sorted(one.nn_distance for one in near if one.specie.symbol != HYDROGEN)
            found.append((float(lengths[0]), float(lengths[1])))
    return found


def _plain(atoms: Atoms) -> Structure:
    return Structure(
        atoms.cell.array, atoms.get_chemical_symbols(), atoms.get_scaled_positions(wrap=True)
    )


def main() -> None:
    """Print the comparison."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--selected", type=Path, required=True, help="selected.extxyz of a run")
    parser.add_argument("--id", required=True, help="id of the restored crystal")
    parser.add_argument("--other", type=Path, required=True, help="extxyz of the refinement")
    parser.add_argument("--other_id", required=True, help="its id")
    args = parser.parse_args()
    ours, other = read_crystal(args.selected, args.id), read_crystal(args.other, args.other_id)
    found = compare(ours, other)
    if found is None:
        raise InputError(f"{args.id} does not match {args.other_id}")
    for name, (mean, largest) in found["apart"].items():
        print(f"{name}: mean {mean:.3f} Å, largest {largest:.3f} Å")
    for which in ("ours", "other"):
        pairs = "; ".join(f"{first:.2f}, {second:.2f}" for first, second in found[which])
        print(f"H to its two nearest other atoms, {which}: {pairs} Å")


if __name__ == "__main__":
    run_command(main)
