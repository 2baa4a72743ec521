#!/usr/bin/env python3
"""Choose a seeded subset of a benchmark, for machines that cannot afford all of it."""

import argparse
from pathlib import Path

import ase.io
import numpy as np


def main() -> None:
    """Read the benchmark, choose, write the subset with an id for each crystal."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bench", type=Path, required=True, help="extxyz with material_id")
    parser.add_argument("--count", type=int, required=True, help="crystals to choose")
    parser.add_argument("--min_atoms", type=int, default=1, help="leave out smaller crystals")
    parser.add_argument("--max_atoms", type=int, default=None, help="leave out larger crystals")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--output", type=Path, required=True, help="extxyz to write")
    args = parser.parse_args()
    frames = [atoms for atoms in ase.io.read(args.bench, ":") if len(atoms) >= args.min_atoms]
    if args.max_atoms is not None:
        frames = [atoms for atoms in frames if len(atoms) <= args.max_atoms]
    chosen = np.random.default_rng(args.seed).permutation(len(frames))[: args.count]
    subset = [frames[k] for k in sorted(chosen)]
    for atoms in subset:
        atoms.info["id"] = atoms.info["material_id"]
    args.output.parent.mkdir(parents=True, exist_ok=True)
    ase.io.write(args.output, subset, format="extxyz")
    print(f"{len(subset)} of {len(frames)} crystals written to {args.output}")


if __name__ == "__main__":
    main()
