"""A nequip model small enough to be trained and packaged in a test."""

import subprocess
import sys
from pathlib import Path

import ase.io
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT

CONFIG = Path(__file__).parent / "data" / "nequip_tiny.yaml"


def frames() -> list[Atoms]:
    """Return aluminium with one hydrogen atom, rattled, labelled with EMT."""
    some = []
    for seed in range(12):
        atoms = bulk("Al", cubic=True) + Atoms("H", [[2.0, 0.1, 0.1]])
        atoms.rattle(0.08, seed=seed)
        atoms.calc = EMT()
        atoms.get_forces()
        some.append(atoms)
    return some


def tiny_package(folder: Path) -> Path:
    """Train a model on the frames and package it; takes 20 to 40 s.

    Returns:
        A ``.nequip.zip`` for H and Al in `folder`.
    """
    ase.io.write(folder / "frames.xyz", frames())
    bin_folder = Path(sys.executable).parent
    config = ["-cp", str(CONFIG.parent), "-cn", CONFIG.stem]
    folders = [f"hydra.run.dir={folder}/run", f"+frames={folder}/frames.xyz"]
    for command in (
        [bin_folder / "nequip-train", *config, *folders],
        [bin_folder / "nequip-package", "build", "run/last.ckpt", "tiny.nequip.zip"],
    ):
        subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=300)
    return folder / "tiny.nequip.zip"
