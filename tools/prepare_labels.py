#!/usr/bin/env python3
"""Convert labelled structures to input files of nequip-train.

Elements that occur in too few structures are removed, with all their structures. Energies of
isolated atoms are fitted by least squares; the network learns the residual.
"""

import argparse
from pathlib import Path

import ase.io
import numpy as np
import yaml
from ase import Atoms
from ase.data import chemical_symbols

RIDGE = 1e-3  # regularisation for elements that always occur together


def atom_energies(counts: np.ndarray, energies: np.ndarray) -> np.ndarray:
    """Fit energies of structures as a sum of atomic energies.

    Args:
        counts: (n_structures, n_elements) number of atoms of each element.
        energies: (n_structures,) eV.

    Returns:
        (n_elements,) eV.
    """
    mean = energies.sum() / counts.sum()
    per_atom = counts / counts.sum(axis=1, keepdims=True)
    rest = energies / counts.sum(axis=1) - mean
    normal = per_atom.T @ per_atom + RIDGE * np.eye(counts.shape[1])
    return mean + np.linalg.solve(normal, per_atom.T @ rest)


def read_parts(folder: Path) -> list[Atoms]:
    """Return the structures of all parts in a folder."""
    return [atoms for path in sorted(folder.glob("*.extxyz")) for atoms in ase.io.read(path, ":")]


def fit(frames: list[Atoms], least: int) -> dict[str, float]:
    """Return atomic energies, eV, of the elements that occur in at least `least` structures."""
    counts = np.array([np.bincount(atoms.numbers, minlength=119) for atoms in frames])
    kept = np.flatnonzero((counts > 0).sum(axis=0) >= least)
    usable = counts[:, kept].sum(axis=1) == counts.sum(axis=1)
    total = np.array([atoms.get_potential_energy() for atoms in frames])
    fitted = atom_energies(counts[usable][:, kept], total[usable])
    return dict(zip([chemical_symbols[z] for z in kept], fitted.round(4).tolist(), strict=True))


def main() -> None:
    """Write elements.yaml, train.extxyz and validation.extxyz."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--labels", type=Path, nargs="+", required=True, help="folders of parts")
    parser.add_argument("--validation", type=Path, required=True, help="folder of held-out parts")
    parser.add_argument("--least", type=int, default=20, help="structures needed for an element")
    parser.add_argument("--elements", type=Path, help="elements.yaml of a model to fine-tune")
    parser.add_argument("--output", type=Path, required=True, help="output folder")
    args = parser.parse_args()
    frames = [atoms for folder in args.labels for atoms in read_parts(folder)]
    if args.elements:
        energies = yaml.safe_load(args.elements.read_text(encoding="utf-8"))["atom_energies"]
    else:
        energies = fit(frames, args.least)
    train, validation = (
        [atoms for atoms in some if set(atoms.symbols) <= energies.keys()]
        for some in (frames, read_parts(args.validation))
    )
    args.output.mkdir(parents=True, exist_ok=True)
    elements = {"model_type_names": list(energies), "atom_energies": energies}
    text = yaml.safe_dump(elements, sort_keys=False)
    (args.output / "elements.yaml").write_text(text, encoding="utf-8")
    ase.io.write(args.output / "train.extxyz", train, format="extxyz")
    ase.io.write(args.output / "validation.extxyz", validation, format="extxyz")
    print(f"{len(energies)} elements, {len(train)} of {len(frames)} training structures")
    print(f"{len(validation)} validation structures")


if __name__ == "__main__":
    main()
