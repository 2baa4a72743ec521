"""Symmetry and k-points of a crystal as pw.x finds them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import spglib
from ase import Atoms

# pw.x requires that equivalent sites agree to 1e-5 of the lattice vectors or better.
SITE_TOLERANCE = 1e-5


def kpoint_mesh(atoms: Atoms, distance: float) -> tuple[int, int, int]:
    """Return the mesh whose neighbouring k-points are at most `distance` apart.

    n_i = max(1, ceil(|b_i| / distance)) with the reciprocal vectors b_i (factor 2 pi). The quotient
    is rounded to five decimals first, so that numerical noise in the cell does not add a k-point.

    Args:
        atoms: The crystal.
        distance: 1/Angstrom.
    """
    lengths = 2 * math.pi * np.linalg.norm(np.asarray(atoms.cell.reciprocal()), axis=1)
    first, second, third = (max(1, math.ceil(round(b / distance, 5))) for b in lengths)
    return first, second, third


def irreducible_kpoints(atoms: Atoms, mesh: tuple[int, int, int], *, tolerance: float) -> int:
    """Return the number of irreducible k-points of a mesh, with time reversal.

    Args:
        atoms: The crystal.
        mesh: Divisions, Gamma-centred.
        tolerance: Angstrom.
    """
    mapping, _ = spglib.get_ir_reciprocal_mesh(mesh, _spglib_cell(atoms), symprec=tolerance)
    return len(np.unique(mapping))


@dataclass(frozen=True)
class SymmetrisedCrystal:
    """A crystal whose atoms were moved to symmetric positions.

    Attributes:
        atoms: The crystal.
        n_symmetry: Number of symmetry operations; 1 is the identity alone.
        shift_host: Largest displacement of a host atom in Angstrom.
        shift_filled: Largest displacement of a filled site in Angstrom.
    """

    atoms: Atoms
    n_symmetry: int
    shift_host: float = 0.0
    shift_filled: float = 0.0


def symmetrise(
    atoms: Atoms,
    is_host: np.ndarray,
    *,
    tolerance: float,
    tolerance_filled: float,
    exact: float = SITE_TOLERANCE,
) -> SymmetrisedCrystal:
    """Move the atoms to the symmetric positions that they have within a tolerance.

    A relaxation with a force threshold leaves atoms about 0.001 Angstrom off their symmetric
    positions, where pw.x finds no symmetry. Each position is replaced by the mean of its symmetry
    images. The cell and the mean position of the host do not change. A relaxation conserves
    symmetry: a proton placed on a mirror plane between two oxygen atoms could not leave this saddle
    point. The function therefore uses the largest subgroup that moves no filled site by more than
    `tolerance_filled`.

    Args:
        atoms: The crystal.
        is_host: (n,) bool; the other atoms are filled sites.
        tolerance: Largest displacement of any atom in Angstrom.
        tolerance_filled: Largest displacement of a filled site in Angstrom.
        exact: Tolerance within which the result must have symmetry, also of its cell, Angstrom.

    Returns:
        The crystal; unchanged if no symmetry remains.
    """
    found = spglib.get_symmetry(_spglib_cell(atoms), symprec=tolerance)
    if found is None or len(found["rotations"]) == 1:
        return SymmetrisedCrystal(atoms, 1)
    rotations, translations = found["rotations"], found["translations"]
    partners, away = _images(atoms, rotations, translations)
    held = is_host if is_host.any() else np.ones(len(atoms), dtype=bool)
    for chosen in _subgroups(rotations, partners, _misfit(atoms, away, held, ~is_host)):
        shift = np.zeros_like(atoms.positions)
        for partner, vectors in zip(partners[chosen], away[chosen], strict=True):
            shift[partner] += vectors @ atoms.cell.array / chosen.sum()
        shift -= shift[held].mean(axis=0)
        lengths = np.linalg.norm(shift, axis=1)
        host, filled = (float(lengths[m].max(initial=0.0)) for m in (is_host, ~is_host))
        if max(host, filled) > tolerance or filled > tolerance_filled:
            continue
        moved = atoms.copy()
        moved.positions += shift
        same = spglib.get_symmetry(_spglib_cell(moved), symprec=exact)
        if same is not None and len(same["rotations"]) > 1:
            return SymmetrisedCrystal(moved, len(same["rotations"]), host, filled)
    return SymmetrisedCrystal(atoms, 1)


def _images(
    atoms: Atoms, rotations: np.ndarray, translations: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the atom (g, n) on which each operation maps each atom, and the offset (g, n, 3)."""
    scaled = atoms.get_scaled_positions(wrap=False)
    partners, vectors = [], []
    for rotation, translation in zip(rotations, translations, strict=True):
        away = (scaled @ rotation.T + translation)[:, None] - scaled[None]
        away -= np.round(away)
        partner = np.linalg.norm(away @ atoms.cell.array, axis=2).argmin(axis=1)
        partners.append(partner)
        vectors.append(away[np.arange(len(scaled)), partner])
    return np.array(partners), np.array(vectors)


def _misfit(atoms: Atoms, away: np.ndarray, held: np.ndarray, filled: np.ndarray) -> np.ndarray:
    """Return the largest offset (g,) of a filled site under each operation, in Angstrom.

    The origin from spglib is not exact, so an offset common to the held atoms is subtracted.
    """
    vectors = (away - away[:, held].mean(axis=1, keepdims=True)) @ atoms.cell.array
    return np.asarray(np.linalg.norm(vectors[:, filled], axis=2).max(axis=1, initial=0.0))


def _subgroups(
    rotations: np.ndarray, partners: np.ndarray, misfit: np.ndarray
) -> Iterator[np.ndarray]:
    """Yield groups (g,) bool of operations that fit within ever tighter bounds.

    The rotation and the image of the first atom identify an operation.
    """
    n = partners.shape[1]
    unique, number = np.unique(rotations.reshape(-1, 9), axis=0, return_inverse=True)
    numbers = {row.tobytes(): k for k, row in enumerate(unique)}
    matrices = unique.reshape(-1, 3, 3)
    table = np.array([[numbers[(one @ two).tobytes()] for two in matrices] for one in matrices])
    names = number * n + partners[:, 0]
    for bound in np.unique(misfit.round(4))[::-1]:
        chosen = misfit.round(4) <= bound
        turned = table[number[chosen]][:, number[chosen]]
        products = turned * n + partners[chosen][:, partners[chosen, 0]]
        if np.isin(products, names[chosen]).all():
            yield chosen


def standard_setting(atoms: Atoms, *, tolerance: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the rotation and origin with which pw.x finds the symmetry of a crystal.

    pw.x tests the rotations of a cube along x, y, z and of a hexagon around z only. It drops
    operations whose translation does not match its FFT grid. In another orientation or with another
    origin it misses most of the symmetry.

    Args:
        atoms: The crystal.
        tolerance: Angstrom.

    Returns:
        (3, 3) orthogonal R, a row vector v of the crystal becomes v @ R.T; (3,) fractional
        coordinates of the origin of the space group.
    """
    found = spglib.get_symmetry_dataset(_spglib_cell(atoms), symprec=tolerance)
    if found is None:
        return np.eye(3), np.zeros(3)
    # A cell that is not ideal leaves a strain in the matrix: use its rotation only.
    left, _, right = np.linalg.svd(np.asarray(found.std_rotation_matrix))
    # x_standard = P x + p
    origin = -np.linalg.solve(found.transformation_matrix, found.origin_shift)
    return np.asarray(left @ right), origin


def in_setting(atoms: Atoms, rotation: np.ndarray, origin: np.ndarray) -> Atoms:
    """Return a crystal in another orientation and with another origin.

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
