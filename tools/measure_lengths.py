#!/usr/bin/env python3
"""Measure the lengths of the bond of hydrogen to its nearest neighbour, by element.

    measure_lengths.py mp_le40.h5 mp_hydrogen_41_80.h5 bin/xtalfill/checks/lengths.json

The crystals are those of the training files (docs/training.md). A proton that a second N, O or F
shares does not count, nor does an element with fewer than `LEAST` bonds in `LEAST_CRYSTALS`
crystals.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from pathlib import Path

import h5py
import numpy as np
from ase import Atoms
from ase.data import chemical_symbols
from matscipy.neighbours import neighbour_list

from xtalfill.checks.lengths import DONORS, SHARED, longest_bond
from xtalfill.core.crystal import FRACTION_UNIT
from xtalfill.core.errors import run_command
from xtalfill.core.io import write_json

LEAST, LEAST_CRYSTALS = 30, 8
QUANTILES = (0.005, 0.5, 0.995)
CUTOFF = 3.5  # Å


def main() -> None:
    """Read the crystals and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, nargs="+", help="training HDF5 files")
    parser.add_argument("output", type=Path, help="JSON file to write")
    args = parser.parse_args()
    lengths: dict[int, list[float]] = defaultdict(list)
    crystals: dict[int, int] = defaultdict(int)
    n_crystals = 0
    for path in args.data:
        with h5py.File(path) as file:
            data = {name: file[name][()] for name in file}
        hydrogen = np.add.reduceat(data["atomic_number"] == 1, data["offset"]) > 0
        for index in np.flatnonzero(hydrogen):
            n_crystals += 1
            found = nearest(crystal(data, index))
            for number, values in found.items():
                lengths[number] += values
                crystals[number] += 1
    table = {
        chemical_symbols[number]: [
            len(values),
            *(round(float(value), 3) for value in np.quantile(values, QUANTILES)),
        ]
        for number, values in sorted(lengths.items())
        if len(values) >= LEAST and crystals[number] >= LEAST_CRYSTALS
    }
    content = {
        "source": "Materials Project 2025.02.12.post, PBE and PBE+U, CC BY 4.0",
        "command": "tools/measure_lengths.py mp_le40.h5 mp_hydrogen_41_80.h5",
        "columns": ["number of bonds", *(f"quantile {q}" for q in QUANTILES)],
        "crystals": n_crystals,
        "lengths": table,
    }
    write_json(args.output, content)


def crystal(data: dict[str, np.ndarray], index: int) -> Atoms:
    """Return a crystal of a training file."""
    here = slice(data["offset"][index], data["offset"][index] + data["n_atoms"][index])
    return Atoms(
        data["atomic_number"][here],
        scaled_positions=data["frac_coords"][here] / FRACTION_UNIT,
        cell=data["cell"][index].astype(float),
        pbc=True,
    )


def nearest(atoms: Atoms) -> dict[int, list[float]]:
    """Return the element of the nearest neighbour -> lengths, for bonds that are not shared."""
    first, second, length = neighbour_list("ijd", atoms, CUTOFF)
    found = defaultdict(list)
    for site in np.flatnonzero(atoms.numbers == 1):
        here = np.flatnonzero(first == site)
        if not len(here):
            continue
        here = here[np.argsort(length[here])]
        number = int(atoms.numbers[second[here[0]]])
        near = [k for k in here[1:] if atoms.numbers[second[k]] in DONORS and length[k] < SHARED]
        if length[here[0]] <= longest_bond(number) and not (number in DONORS and near):
            found[number].append(float(length[here[0]]))
    return found


if __name__ == "__main__":
    run_command(main)
