"""Symmetry and k-points of a crystal as pw.x will see them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import spglib
from ase import Atoms

# pw.x asks of two sites that they agree to 1e-5 of the lattice vectors or better.
SAME_SITE = 1e-5


def kpoint_mesh(atoms: Atoms, distance: float) -> tuple[int, int, int]:
    """Return the mesh whose neighbouring k-points lie no farther apart than `distance`.

    n_i = max(1, ceil(|b_i| / distance)) with the reciprocal vectors b_i (factor 2 pi); the
    quotient is rounded to five decimals first, so that noise in a cell does not add a k-point.

    Args:
        atoms: The crystal.
        distance: 1/Angstrom.
    """
    lengths = 2 * math.pi * np.linalg.norm(np.asarray(atoms.cell.reciprocal()), axis=1)
    first, second, third = (max(1, math.ceil(round(b / distance, 5))) for b in lengths)
    return first, second, third


def irreducible_kpoints(atoms: Atoms, mesh: tuple[int, int, int], *, tolerance: float) -> int:
    """Return how many k-points of a mesh symmetry and time reversal leave.

    Args:
        atoms: The crystal.
        mesh: Divisions, Gamma-centred.
        tolerance: Angstrom.
    """
    mapping, _ = spglib.get_ir_reciprocal_mesh(mesh, _spglib_cell(atoms), symprec=tolerance)
    return len(np.unique(mapping))


def symmetrised(atoms: Atoms, *, tolerance: float) -> tuple[Atoms, int]:
    """Move the atoms onto the symmetry that they have within a tolerance.

    A relaxation that ends at a threshold leaves atoms a thousandth of an Angstrom off their
    symmetric places; pw.x would then find no symmetry at all. Each position becomes the mean of
    the images that the operations of the space group put there. The cell stays as it is.

    Args:
        atoms: The crystal.
        tolerance: Angstrom; no atom moves farther, else the crystal is returned as it was.

    Returns:
        The crystal, and the number of symmetry operations it has (1: none was found).
    """
    found = spglib.get_symmetry(_spglib_cell(atoms), symprec=tolerance)
    if found is None or len(found["rotations"]) == 1:
        return atoms, 1
    scaled = atoms.get_scaled_positions(wrap=False)
    total = np.zeros_like(scaled)
    for rotation, translation in zip(found["rotations"], found["translations"], strict=True):
        images = scaled @ rotation.T + translation
        away = images[:, None] - scaled[None]
        away -= np.round(away)
        partner = np.linalg.norm(away @ atoms.cell.array, axis=2).argmin(axis=1)
        total[partner] += scaled[partner] + away[np.arange(len(scaled)), partner]
    moved = atoms.copy()
    moved.set_scaled_positions(total / len(found["rotations"]))
    shift = np.linalg.norm(moved.positions - atoms.positions, axis=1).max()
    same = spglib.get_symmetry(_spglib_cell(moved), symprec=SAME_SITE)
    if shift > tolerance or same is None:
        return atoms, 1
    return moved, len(same["rotations"])


def standard_setting(atoms: Atoms, *, tolerance: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the rotation and origin with which pw.x finds a crystal's symmetry.

    pw.x tries the rotations of a cube along x, y, z and of a hexagon around z alone, and drops
    operations whose translation is none of its grid for Fourier transforms: in another
    orientation, or with the origin anywhere, it misses most of the symmetry.

    Args:
        atoms: The crystal.
        tolerance: Angstrom.

    Returns:
        (3, 3) orthogonal R, a row vector v of the crystal becomes v @ R.T; (3,) fractional
        coordinates of the space group's origin.
    """
    found = spglib.get_symmetry_dataset(_spglib_cell(atoms), symprec=tolerance)
    if found is None:
        return np.eye(3), np.zeros(3)
    # A cell that is not quite ideal leaves a strain in the matrix: take the rotation alone.
    left, _, right = np.linalg.svd(np.asarray(found.std_rotation_matrix))
    # x_standard = P x + p
    origin = -np.linalg.solve(found.transformation_matrix, found.origin_shift)
    return np.asarray(left @ right), origin


def as_seen(atoms: Atoms, rotation: np.ndarray, origin: np.ndarray) -> Atoms:
    """Return a crystal in the orientation and with the origin that pw.x gets.

    Args:
        atoms: The crystal.
        rotation: (3, 3) orthogonal R; the lattice vectors become cell @ R.T.
        origin: (3,) fractional.
    """
    scaled = atoms.get_scaled_positions(wrap=False) - origin
    cell = atoms.cell.array @ rotation.T
    return Atoms(atoms.numbers, scaled_positions=scaled, cell=cell, pbc=True)


def _spglib_cell(atoms: Atoms) -> Any:
    return atoms.cell.array, atoms.get_scaled_positions(), atoms.numbers
