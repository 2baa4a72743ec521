"""Symmetry and k-points of a crystal as pw.x will see them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import spglib
from ase import Atoms

# pw.x asks of two sites that they agree to 1e-5 of the lattice vectors or better.
SITE_TOLERANCE = 1e-5


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


@dataclass(frozen=True)
class SymmetrisedCrystal:
    """A crystal whose atoms were moved onto its symmetry.

    Attributes:
        atoms: The crystal.
        n_symmetry: Symmetry operations it has; 1: none but the identity.
        shift_host: Angstrom; the farthest that a host atom was moved.
        shift_filled: Angstrom; the farthest that a filled site was moved.
    """

    atoms: Atoms
    n_symmetry: int
    shift_host: float = 0.0
    shift_filled: float = 0.0


def symmetrise(
    atoms: Atoms, is_host: np.ndarray, *, tolerance: float, tolerance_filled: float
) -> SymmetrisedCrystal:
    """Move the atoms onto the symmetry that they have within a tolerance.

    A relaxation that ends at a threshold leaves atoms a thousandth of an Angstrom off their
    symmetric places; pw.x would then find no symmetry at all. Each position becomes the mean of
    the images that the operations put there; the cell stays as it is, and so does the mean of the
    host. A relaxation keeps the symmetry it starts with, so a proton put onto a mirror between
    two oxygens could never leave its saddle again: of the space group the largest subgroup is
    taken that moves no filled site farther than `tolerance_filled`.

    Args:
        atoms: The crystal.
        is_host: (n,) bool; the others are the filled sites.
        tolerance: Angstrom; no atom moves farther.
        tolerance_filled: Angstrom; no filled site moves farther.

    Returns:
        The crystal as it was where no symmetry is left.
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
        same = spglib.get_symmetry(_spglib_cell(moved), symprec=SITE_TOLERANCE)
        if same is not None and len(same["rotations"]) > 1:
            return SymmetrisedCrystal(moved, len(same["rotations"]), host, filled)
    return SymmetrisedCrystal(atoms, 1)


def _images(
    atoms: Atoms, rotations: np.ndarray, translations: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return onto which atom (g, n) each operation puts each, and how far beside it (g, n, 3)."""
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
    """Return how far (g,) each operation puts a filled site beside one, Angstrom, the most.

    The origin that spglib finds is not exact: a shift common to the held atoms does not count.
    """
    vectors = (away - away[:, held].mean(axis=1, keepdims=True)) @ atoms.cell.array
    return np.asarray(np.linalg.norm(vectors[:, filled], axis=2).max(axis=1, initial=0.0))


def _subgroups(
    rotations: np.ndarray, partners: np.ndarray, misfit: np.ndarray
) -> Iterator[np.ndarray]:
    """Yield the groups (g,) bool of operations that fit within ever closer bounds.

    An operation is told by its rotation and by the atom onto which it puts the first one.
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


def in_setting(atoms: Atoms, rotation: np.ndarray, origin: np.ndarray) -> Atoms:
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
