#!/usr/bin/env python3
"""Which oxygens carry hydrogen, by the labels of the American Mineralogist database?

Entries without hydrogen positions often name its oxygens: `O-H`, `Wat`. The database is in the
larixite wheel (amcsd_cif1.db). Writes JSON: id -> indices of these oxygens in the host, for the
hosts whose labels give their number of missing sites.
"""

import argparse
import base64
import json
import sqlite3
from pathlib import Path

import ase.io
import numpy as np
import spglib
from ase import Atoms
from ase.geometry import cellpar_to_cell, find_mic

from xtalfill.core.errors import InputError, run_command
from xtalfill.core.io import write_json
from xtalfill.inputs.structures.labels import read_label

OXYGEN = 8
CELL = ("a", "b", "c", "alpha", "beta", "gamma")
SAME_SITE = 0.05  # Å


def labelled_hosts(hosts: list[Atoms], database: Path) -> dict[str, list[int]]:
    """Return the labelled oxygens of the hosts whose labels give their count.

    Args:
        hosts: With `id` amcsd_N and `n_missing`.
        database: SQLite of the larixite wheel, with the labels of the entry N.
    """
    found = {}
    with sqlite3.connect(f"file:{database}?mode=ro", uri=True) as connection:
        connection.row_factory = sqlite3.Row
        for atoms in hosts:
            name = str(atoms.info["id"])
            number = int(name.removeprefix("amcsd_"))
            row = connection.execute("SELECT * FROM cif WHERE id = ?", (number,)).fetchone()
            if (sites := labelled_sites(atoms, row)) is not None:
                found[name] = sorted(sites)
    return found


def labelled_sites(atoms: Atoms, row: sqlite3.Row) -> set[int] | None:
    """Return the oxygens that labels give hydrogen, or None if the labels do not give the count."""
    known = frozenset(atoms.symbols)
    cell = cellpar_to_cell([float(row[name].strip(", ")) for name in CELL])
    # Cartesian positions are those of the conventional cell, in units of a quarter of a millionth.
    places = np.stack([_integers(row[f"atoms_{axis}"]) / 4e6 for axis in "xyz"], axis=1) @ cell
    groups = spglib.get_symmetry_dataset(
        (np.asarray(atoms.cell), atoms.get_scaled_positions(), atoms.numbers), symprec=1e-3
    ).equivalent_atoms
    found: set[int] = set()
    fewest = most = 0
    for label, place in zip(json.loads(row["atoms_sites"]), places, strict=True):
        try:
            reading = read_label(label, known=known)
        except InputError:
            return None
        if not reading.most:
            continue
        apart = np.linalg.norm(find_mic(atoms.positions - place, atoms.cell)[0], axis=1)
        if apart.min() > SAME_SITE:
            return None
        orbit = set(np.flatnonzero(groups == groups[int(apart.argmin())]).tolist())
        fewest, most = fewest + reading.fewest * len(orbit), most + reading.most * len(orbit)
        found |= orbit
    oxygen = {site for site in found if atoms.numbers[site] == OXYGEN}
    return oxygen if found and fewest <= atoms.info["n_missing"] <= most else None


def _integers(text: str) -> np.ndarray:
    return np.frombuffer(base64.b64decode(text), dtype="<i4")


def main() -> None:
    """Write the labelled oxygens."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--hosts", type=Path, required=True, help="extxyz with id and n_missing")
    parser.add_argument("--database", type=Path, required=True, help="SQLite of the larixite wheel")
    parser.add_argument("--output", type=Path, required=True, help="JSON to write")
    args = parser.parse_args()
    found = labelled_hosts(ase.io.read(args.hosts, ":"), args.database)
    write_json(args.output, found)
    print(f"{len(found)} hosts with labels that give their count in {args.output}")


if __name__ == "__main__":
    run_command(main)
