#!/usr/bin/env python3
"""Write the held-out crystals of training files as extxyz; sampler settings are chosen on them.

Crystals contain hydrogen, or the element given by --element. They are not used for training, and
no benchmark contains them. --trained writes the crystals of the training instead, for choices in
which no network takes part.
"""

import argparse
from pathlib import Path

import ase.io
import numpy as np
from ase import Atoms
from ase.data import atomic_numbers, chemical_symbols

from xtalfill.registry.mix import CLASSES, host_class
from xtalfill.training.data import CrystalSet
from xtalfill.training.split import read_split


def main() -> None:
    """Write the held-out crystals that contain the element."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, nargs="+", required=True, help="training files")
    parser.add_argument("--exclude", type=Path, help="as in xtalfill train")
    parser.add_argument("--hold_out", type=Path, help="as in xtalfill train")
    parser.add_argument("--element", choices=chemical_symbols[1:], metavar="X", default="H")
    parser.add_argument("--trained", action="store_true", help="the crystals of the training")
    parser.add_argument("--host_class", choices=CLASSES, help="only hosts of this class")
    parser.add_argument("--largest", type=int, help="atoms; larger crystals are left out")
    parser.add_argument("--shuffled", type=int, metavar="SEED", help="in an order by this seed")
    parser.add_argument("--output", type=Path, required=True, help="extxyz to write")
    args = parser.parse_args()
    split = read_split(exclude=args.exclude, hold_out=args.hold_out)
    crystals, missing = CrystalSet(args.data, split=split), atomic_numbers[args.element]
    frames, name = [], "train" if args.trained else "val"
    for index in np.flatnonzero(crystals.is_validation != args.trained).tolist():
        numbers, positions, cell = crystals.crystal(index)
        if missing not in numbers or (numbers == missing).all():
            continue
        if args.largest and len(numbers) > args.largest:
            continue
        if args.host_class and host_class(numbers[numbers != missing].tolist()) != args.host_class:
            continue
        atoms = Atoms(numbers, positions, cell=cell, pbc=True)
        atoms.info["id"] = atoms.info["material_id"] = f"{name}{index}"
        frames.append(atoms)
    if args.shuffled is not None:
        order = np.random.default_rng(args.shuffled).permutation(len(frames))
        frames = [frames[i] for i in order]
    args.output.parent.mkdir(parents=True, exist_ok=True)
    ase.io.write(args.output, frames, format="extxyz")
    print(f"{len(frames)} crystals written to {args.output}")


if __name__ == "__main__":
    main()
