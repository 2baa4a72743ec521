#!/usr/bin/env python3
"""Select the six demo crystals from the benchmark and write assets/demo (see its README)."""

import argparse
import csv
import sys
from pathlib import Path

import ase.io
from ase import Atoms
from ase.data import atomic_numbers
from pymatgen.io.ase import AseAtomsAdaptor
from pymatgen.io.cif import CifWriter
from pymatgen.io.vasp import Poscar

ELEMENT = "H"
MAX_ATOMS = 16
MAX_MISSING = 8
# Classes of hydrogen and number of crystals; those with the lowest Materials Project ids.
QUOTA: tuple[tuple[tuple[str, ...], int], ...] = (
    (("O-H",), 2),
    (("N-H",), 1),
    (("metal/other-H",), 2),
    (("B-H", "C-H"), 1),
)


def material_number(atoms: Atoms) -> int:
    """Return the number in a Materials Project id such as mp-23795."""
    return int(atoms.info["material_id"].split("-")[1])


def pick(crystals: list[Atoms]) -> list[Atoms]:
    """Return the demo crystals, selected by the rule only, independent of model results."""
    number = atomic_numbers[ELEMENT]
    eligible = [
        atoms
        for atoms in sorted(crystals, key=material_number)
        if bool(atoms.info["exp_evidence"])
        and len(atoms) <= MAX_ATOMS
        and 1 <= int((atoms.numbers == number).sum()) <= MAX_MISSING
    ]
    chosen: list[Atoms] = []
    for classes, count in QUOTA:
        chosen += [atoms for atoms in eligible if atoms.info["h_class"] in classes][:count]
    return sorted(chosen, key=material_number)


def write_host(host: Atoms, folder: Path, *, name: str, as_cif: bool) -> Path:
    """Write a host as CIF or POSCAR in its own cell; return the file."""
    structure = AseAtomsAdaptor.get_structure(host)
    if as_cif:
        path = folder / f"{name}.cif"
        CifWriter(structure).write_file(path)
    else:
        path = folder / f"{name}.vasp"
        Poscar(structure, sort_structure=True).write_file(path, significant_figures=10)
    return path


def main() -> None:
    """Write the hosts, the sample sheet and the references."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bench", type=Path, required=True, help="bench_dev.extxyz")
    parser.add_argument("--outdir", type=Path, required=True, help="assets/demo")
    args = parser.parse_args()

    chosen = pick(ase.io.read(args.bench, index=":"))
    folder = args.outdir / "hosts"
    folder.mkdir(parents=True, exist_ok=True)
    rows, references = [], []
    for index, atoms in enumerate(chosen):
        name = atoms.info["material_id"]
        missing = atoms.numbers == atomic_numbers[ELEMENT]
        path = write_host(atoms[~missing], folder, name=name, as_cif=index % 2 == 0)
        rows.append((name, path.relative_to(args.outdir), ELEMENT, int(missing.sum())))
        references.append(
            Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=True, info={"id": name})
        )
        formula = atoms.get_chemical_formula()
        print(name, formula, atoms.info["h_class"], missing.sum(), path, file=sys.stderr)
    with (args.outdir / "hosts.csv").open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("id", "structure", "element", "n_missing"))
        writer.writerows(rows)
    ase.io.write(args.outdir / "references.extxyz", references, format="extxyz")


if __name__ == "__main__":
    main()
