#!/usr/bin/env python3
"""Write the hydrogen-bearing crystals that a training file holds out: what samplers are chosen on.

Weights never learn from them and no benchmark contains them.
"""

import argparse
from pathlib import Path

import ase.io
import numpy as np
from ase import Atoms

from xtalfill.training.data import CrystalSet


def main() -> None:
    """Read the training file, write its held-out crystals with hydrogen as extxyz."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, nargs="+", required=True, help="training files")
    parser.add_argument("--output", type=Path, required=True, help="extxyz to write")
    args = parser.parse_args()
    crystals = CrystalSet(args.data)
    frames = []
    for index in np.flatnonzero(crystals.is_validation & crystals.has_hydrogen).tolist():
        numbers, positions, cell = crystals.crystal(index)
        atoms = Atoms(numbers, positions, cell=cell, pbc=True)
        atoms.info["id"] = atoms.info["material_id"] = f"val{index}"
        frames.append(atoms)
    args.output.parent.mkdir(parents=True, exist_ok=True)
    ase.io.write(args.output, frames, format="extxyz")
    print(f"{len(frames)} crystals written to {args.output}")


if __name__ == "__main__":
    main()
