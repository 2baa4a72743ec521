#!/usr/bin/env python3
"""Choose chemical systems to hold out of training; defaults are chosen on them.

Chemical systems with hydrogen are drawn at random until enough crystals are held out, including
those that the files already hold out. Excluded crystals do not count. Systems with many crystals
are not held out, because a single one would dominate the set.
"""

import argparse
from pathlib import Path

import numpy as np

from xtalfill.training.data import CrystalSet
from xtalfill.training.split import read_split


def main() -> None:
    """Write the list and print the number of crystals."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, nargs="+", required=True, help="training files")
    parser.add_argument("--exclude", type=Path, help="CSV of material ids to ignore")
    parser.add_argument("--crystals", type=int, default=400, help="minimum number with hydrogen")
    parser.add_argument("--largest", type=int, default=12, help="maximum number in one system")
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--output", type=Path, required=True, help="CSV to write")
    args = parser.parse_args()
    crystals = CrystalSet(args.data, split=read_split(exclude=args.exclude, hold_out=None))
    members: dict[str, list[int]] = {}
    for index in np.flatnonzero(crystals.has_hydrogen).tolist():
        members.setdefault(crystals.chemical_system(index), []).append(index)
    chosen = {name for name, group in members.items() if crystals.is_validation[group].any()}
    drawn = np.random.default_rng(args.seed).permutation(sorted(members.keys() - chosen)).tolist()
    for name in drawn:
        if sum(len(members[system]) for system in chosen) >= args.crystals:
            break
        if len(members[name]) <= args.largest:
            chosen.add(name)
    args.output.parent.mkdir(parents=True, exist_ok=True)
    args.output.write_text("\n".join(["chemical_system", *sorted(chosen)]) + "\n")
    count = sum(len(members[system]) for system in chosen)
    print(f"{count} crystals with hydrogen in {len(chosen)} chemical systems held out")


if __name__ == "__main__":
    main()
