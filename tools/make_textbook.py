#!/usr/bin/env python3
"""Build the textbook crystals from assets/textbook/crystals.json.

Writes crystals.extxyz, the complete crystals in their primitive cells, and the table of README.md.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import spglib
from ase import Atoms
from ase.geometry import get_distances

Entry = dict[str, Any]

FOLDER = Path(__file__).parents[1] / "assets" / "textbook"

# Å: two images of a site closer than this are one site in a special position.
SAME_SITE = 0.05
OPENING, CLOSING = "<!-- crystals -->\n", "<!-- end -->"
HEAD = ("crystal", "formula", "space group", "atoms", "X–H, Å", "hydrogen from", "source")


def read_entries(folder: Path) -> list[Entry]:
    """Return the entries of crystals.json; the README of the folder defines their keys."""
    entries: list[Entry] = json.loads((folder / "crystals.json").read_text(encoding="utf-8"))
    return entries


def build(entry: Entry) -> Atoms:
    """Return the crystal of an entry: primitive cell, or supercell with an interstitial."""
    atoms = conventional_cell(entry)
    if "interstitial" in entry:
        atoms = atoms.repeat(entry["supercell"])
        atoms += Atoms("H", positions=[entry["interstitial"] @ atoms.cell.array])
    else:
        cell = (atoms.cell.array, atoms.get_scaled_positions(), atoms.numbers)
        lattice, positions, numbers = spglib.standardize_cell(
            cell, to_primitive=True, no_idealize=True
        )
        atoms = Atoms(numbers, cell=lattice, scaled_positions=positions, pbc=True)
    atoms.info = {"id": entry["id"]}
    return atoms


def conventional_cell(entry: Entry) -> Atoms:
    """Return the cell of the paper with every site of each orbit."""
    cell = Atoms(cell=entry["cell"]).cell
    operations = spglib.get_symmetry_from_database(entry["hall_number"])
    numbers, positions = [], []
    for symbol, *position in entry["sites"]:
        images = operations["rotations"] @ position + operations["translations"]
        if "centring" in entry:
            images = np.concatenate([images, images + entry["centring"]])
        orbit = distinct(images % 1.0, cell.array)
        numbers += [symbol] * len(orbit)
        positions += orbit
    return Atoms(numbers, cell=cell, scaled_positions=positions, pbc=True)


def distinct(images: np.ndarray, cell: np.ndarray) -> list[np.ndarray]:
    """Return the different sites among (n, 3) fractional images of one site."""
    orbit: list[np.ndarray] = []
    for image in images:
        if orbit:
            away = get_distances([image @ cell], np.array(orbit) @ cell, cell=cell, pbc=True)[1]
            if away.min() < SAME_SITE:
                continue
        orbit.append(image)
    return orbit


def hydrogen_bonds(atoms: Atoms) -> list[tuple[str, float]]:
    """Return the nearest neighbour of each hydrogen and its distance in Å, sorted."""
    wide = atoms.repeat(2)  # in a small cell the nearest neighbour may be an image of H itself
    found = set()
    for site in np.flatnonzero(atoms.numbers == 1):
        away = wide.get_distances(site, range(len(wide)), mic=True)
        away[wide.numbers == 1] = np.inf
        nearest = int(away.argmin())
        found.add((wide.symbols[nearest], round(float(away[nearest]), 3)))
    return sorted(found)


def length_range(atoms: Atoms) -> str:
    """Return the X-H lengths of a crystal as text, such as "O 0.95–0.98"."""
    bonds = hydrogen_bonds(atoms)
    parts = []
    for symbol in sorted({symbol for symbol, _ in bonds}):
        lengths = [length for other, length in bonds if other == symbol]
        low, high = f"{min(lengths):.2f}", f"{max(lengths):.2f}"
        parts.append(f"{symbol} {low}" if low == high else f"{symbol} {low}–{high}")
    return ", ".join(parts)


def readme_table(entries: list[Entry], crystals: list[Atoms]) -> str:
    """Return the Markdown table of the crystals."""
    lines = [HEAD, ("---",) * len(HEAD)]
    for entry, atoms in zip(entries, crystals, strict=True):
        source = entry["source"] + (f". {entry['note']}" if "note" in entry else "")
        lines.append(
            (
                entry["name"], entry["formula"], entry["space_group"], str(len(atoms)),
                length_range(atoms), entry["hydrogen"], source,
            )
        )  # fmt: skip
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


def main(arguments: list[str] | None = None) -> None:
    """Write the crystals and the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=FOLDER)
    args = parser.parse_args(arguments)
    entries = read_entries(args.folder)
    crystals = [build(entry) for entry in entries]
    ase.io.write(args.folder / "crystals.extxyz", crystals, format="extxyz")
    readme = args.folder / "README.md"
    before, rest = readme.read_text(encoding="utf-8").split(OPENING)
    after = rest.split(CLOSING, 1)[1]
    table = OPENING + readme_table(entries, crystals) + CLOSING
    readme.write_text(before + table + after, encoding="utf-8")


if __name__ == "__main__":
    main()
