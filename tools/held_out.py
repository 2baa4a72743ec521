#!/usr/bin/env python3
"""Write the held-out crystals of training files as extxyz; sampler settings are chosen on them.

Crystals contain hydrogen, or the element given by --element. They are not used for training, and
no benchmark contains them.
"""

import argparse
from pathlib import Path

import ase.io
import numpy as np
from ase import Atoms
from ase.data import atomic_numbers, chemical_symbols

from xtalfill.training.data import CrystalSet
from xtalfill.training.split import read_split


def main() -> None:
    """Write the held-out crystals that contain the element."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, nargs="+", required=True, help="training files")
    parser.add_argument("--exclude", type=Path, help="as in xtalfill train")
    parser.add_argument("--hold_out", type=Path, help="as in xtalfill train")
    parser.add_argument("--element", choices=chemical_symbols[1:], metavar="X", default="H")
    parser.add_argument("--output", type=Path, required=True, help="extxyz to write")
    args = parser.parse_args()
    split = read_split(exclude=args.exclude, hold_out=args.hold_out)
    crystals, missing = CrystalSet(args.data, split=split), atomic_numbers[args.element]
    frames = []
    for index in np.flatnonzero(crystals.is_validation).tolist():
        numbers, positions, cell = crystals.crystal(index)
        if missing not in numbers or (numbers == missing).all():
            continue
        atoms = Atoms(numbers, positions, cell=cell, pbc=True)
        atoms.info["id"] = atoms.info["material_id"] = f"val{index}"
        frames.append(atoms)
    args.output.parent.mkdir(parents=True, exist_ok=True)
    ase.io.write(args.output, frames, format="extxyz")
    print(f"{len(frames)} crystals written to {args.output}")


if __name__ == "__main__":
    main()
