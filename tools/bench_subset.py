#!/usr/bin/env python3
"""Choose a subset of a benchmark, at random or by id."""

import argparse
from pathlib import Path

import ase.io
import numpy as np
from ase import Atoms

from xtalfill.core.errors import InputError, run_command


def named(frames: list[Atoms], ids: list[str], key: str) -> list[Atoms]:
    """Return the crystals with the given ids, in that order.

    Raises:
        InputError: An id is not in the benchmark.
    """
    known = {atoms.info[key]: atoms for atoms in frames}
    missing = [name for name in ids if name not in known]
    if missing:
        raise InputError(f"not in the benchmark: {', '.join(missing)}; give values of {key}")
    return [known[name] for name in dict.fromkeys(ids)]


def drawn(frames: list[Atoms], count: int, seed: int, *, shuffled: bool) -> list[Atoms]:
    """Return `count` random crystals, in the order of the benchmark or as drawn.

    A larger number of the same seed begins with the same crystals as drawn.
    """
    chosen = np.random.default_rng(seed).permutation(len(frames))[:count]
    return [frames[k] for k in (chosen if shuffled else sorted(chosen))]


def main() -> None:
    """Write the subset, with an id for each crystal."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bench", type=Path, required=True, help="extxyz")
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--count", type=int, help="number of random crystals")
    which.add_argument("--ids", nargs="+", help="ids of the crystals")
    parser.add_argument("--min_atoms", type=int, default=1, help="skip smaller crystals")
    parser.add_argument("--max_atoms", type=int, default=None, help="skip larger crystals")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--shuffled", action="store_true", help="in the order of the draw")
    parser.add_argument("--key", default="material_id", help="what holds the id of a crystal")
    parser.add_argument("--output", type=Path, required=True, help="extxyz to write")
    args = parser.parse_args()
    frames = [atoms for atoms in ase.io.read(args.bench, ":") if len(atoms) >= args.min_atoms]
    if args.max_atoms is not None:
        frames = [atoms for atoms in frames if len(atoms) <= args.max_atoms]
    subset = (
        named(frames, args.ids, args.key)
        if args.ids
        else drawn(frames, args.count, args.seed, shuffled=args.shuffled)
    )
    for atoms in subset:
        atoms.info["id"] = atoms.info[args.key]
    args.output.parent.mkdir(parents=True, exist_ok=True)
    ase.io.write(args.output, subset, format="extxyz")
    print(f"{len(subset)} of {len(frames)} crystals written to {args.output}")


if __name__ == "__main__":
    run_command(main)
