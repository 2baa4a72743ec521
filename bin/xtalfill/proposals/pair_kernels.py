"""Compiled loops over pairs of sites and the images of the second by lattice vectors.

A pair is taken along the vector inside the reduced cell (`Lattice.inward`) and its images. Arrays
are C-contiguous: positions (n, 3) fractional, lattice vectors (k, 3) Angstrom. For the search of
method symmetric, which looks at millions of pairs; `xtalfill.proposals.sites` has the same for few
of them without numba, which the image of pw.x lacks.
"""

from __future__ import annotations

import math

import numpy as np

from xtalfill.core.compiled import compiled

_ITSELF = 1e-3  # Angstrom; a pair closer than this is one site


@compiled()
def _rounded(u: float, v: float, w: float, cell: np.ndarray) -> tuple[float, float, float]:
    """Return the vector of three fractions within half a cell of zero, Angstrom."""
    u -= np.rint(u)
    v -= np.rint(v)
    w -= np.rint(w)
    return (
        u * cell[0, 0] + v * cell[1, 0] + w * cell[2, 0],
        u * cell[0, 1] + v * cell[1, 1] + w * cell[2, 1],
        u * cell[0, 2] + v * cell[1, 2] + w * cell[2, 2],
    )


@compiled()
def _inside(
    one: np.ndarray, other: np.ndarray, inward: np.ndarray, reduced: np.ndarray
) -> tuple[float, float, float]:
    """Return the vector from a position to another inside the reduced cell, Angstrom."""
    a, b, c = other[0] - one[0], other[1] - one[1], other[2] - one[2]
    u = a * inward[0, 0] + b * inward[1, 0] + c * inward[2, 0]
    v = a * inward[0, 1] + b * inward[1, 1] + c * inward[2, 1]
    w = a * inward[0, 2] + b * inward[1, 2] + c * inward[2, 2]
    return _rounded(u, v, w, reduced)


@compiled()
def _square_of_nearest(
    vector: tuple[float, float, float], images: np.ndarray, above: float
) -> float:
    """Return the least squared length of a vector and its images, those above a square."""
    x, y, z = vector
    least = np.inf
    for k in range(len(images)):
        square = (x + images[k, 0]) ** 2 + (y + images[k, 1]) ** 2 + (z + images[k, 2]) ** 2
        if above < square < least:
            least = square
    return least


@compiled()
def nearest(
    one: np.ndarray, other: np.ndarray, inward: np.ndarray, reduced: np.ndarray, near: np.ndarray
) -> np.ndarray:
    """Return the distances (n, m) in Angstrom from positions to the nearest images of others."""
    found = np.empty((len(one), len(other)))
    for i in range(len(one)):
        for j in range(len(other)):
            vector = _inside(one[i], other[j], inward, reduced)
            found[i, j] = math.sqrt(_square_of_nearest(vector, near, -1.0))
    return found


@compiled()
def keeps_off(
    points: np.ndarray,
    others: np.ndarray,
    least: np.ndarray,
    inward: np.ndarray,
    reduced: np.ndarray,
    near: np.ndarray,
) -> np.ndarray:
    """Return which points (n, 3) are at least `least` (m,) Angstrom from the others: (n,) bool."""
    found = np.ones(len(points), dtype=np.bool_)
    for i in range(len(points)):
        for j in range(len(others)):
            vector = _inside(points[i], others[j], inward, reduced)
            if math.sqrt(_square_of_nearest(vector, near, -1.0)) < least[j]:
                found[i] = False
                break
    return found


@compiled()
def are_apart(
    sites: np.ndarray, least: float, inward: np.ndarray, reduced: np.ndarray, near: np.ndarray
) -> bool:
    """Return whether sites keep a distance in Angstrom to each other and to all images."""
    for i in range(len(sites)):
        for j in range(i, len(sites)):
            vector = _inside(sites[i], sites[j], inward, reduced)
            if math.sqrt(_square_of_nearest(vector, near, _ITSELF**2)) < least:
                return False
    return True


@compiled()
def wells_and_walls(
    points: np.ndarray,
    others: np.ndarray,
    lengths: np.ndarray,
    bonding: np.ndarray,
    inward: np.ndarray,
    reduced: np.ndarray,
    images: np.ndarray,
    core: float,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the energies (n,) and forces (n, 3), 1/Angstrom, of `PairEnergy`.

    Args:
        points: (n, 3).
        others: (m, 3); one that is a point itself is left out.
        lengths: (m,) Angstrom, to which distances relate.
        bonding: (m,) whether the other one bonds.
        inward: Of the lattice.
        reduced: Of the lattice.
        images: Lattice vectors that count.
        core: Least distance in `lengths`; the energy is constant closer by.
    """
    energy, force = np.zeros(len(points)), np.zeros((len(points), 3))
    for i in range(len(points)):
        for j in range(len(others)):
            x, y, z = _inside(points[i], others[j], inward, reduced)
            for k in range(len(images)):
                a, b, c = x + images[k, 0], y + images[k, 1], z + images[k, 2]
                distance = math.sqrt(a * a + b * b + c * c)
                if distance < _ITSELF:
                    continue
                inverse = 1.0 / max(distance / lengths[j], core)
                sixth = inverse**6
                if bonding[j]:
                    energy[i] += sixth * sixth - 2.0 * sixth
                    slope = 12.0 * (sixth - sixth * sixth) * inverse
                else:
                    eighth = sixth * inverse * inverse
                    energy[i] += eighth
                    slope = -8.0 * eighth * inverse
                pull = slope / distance / lengths[j]
                force[i, 0] += pull * a
                force[i, 1] += pull * b
                force[i, 2] += pull * c
    return energy, force


@compiled()
def distinct(images: np.ndarray, cell: np.ndarray, tolerance: float) -> np.ndarray:
    """Return the numbers of images (n, 3) that are no repetition of an earlier one that counts.

    Rounding finds the nearest image of points as close as the tolerance, in any usual cell.

    Args:
        images: Fractional, in [0, 1).
        cell: (3, 3) Angstrom.
        tolerance: Angstrom.
    """
    chosen = np.empty(len(images), dtype=np.int64)
    count = 0
    for i in range(len(images)):
        is_new = True
        for k in range(count):
            u, v, w = images[i] - images[chosen[k]]
            x, y, z = _rounded(u, v, w, cell)
            if math.sqrt(x * x + y * y + z * z) <= tolerance:
                is_new = False
                break
        if is_new:
            chosen[count] = i
            count += 1
    return chosen[:count]


@compiled()
def orbit_of(
    point: np.ndarray,
    rotations: np.ndarray,
    translations: np.ndarray,
    cell: np.ndarray,
    largest: int,
    on_element: float,
    tolerance: float,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
    """Move a point onto its symmetry element and find its images, at most `largest`.

    Args:
        point: (3,) near the element.
        rotations: (n, 3, 3), as numbers with a fraction; the identity first.
        translations: (n, 3).
        cell: (3, 3) Angstrom.
        largest: Most images.
        on_element: Angstrom; an operation that moves the point by less keeps it.
        tolerance: Angstrom; closer images are one.

    Returns:
        The point (3,) in [0, 1), the mean (3, 3) of the rotations that keep it, the numbers of the
        operations with distinct images (none for more than `largest`), and how many operations keep
        it.
    """
    n = len(rotations)
    kept, shift, free = 0, np.zeros(3), np.zeros((3, 3))
    away = np.empty(3)
    for i in range(n):
        for a in range(3):
            image = translations[i, a]
            for b in range(3):
                image += rotations[i, a, b] * point[b]
            away[a] = image - point[a]
            away[a] -= np.rint(away[a])
        x, y, z = _rounded(away[0], away[1], away[2], cell)
        if math.sqrt(x * x + y * y + z * z) < on_element:
            kept += 1
            shift += away
            free += rotations[i]
    moved = (point + shift / kept) % 1.0
    if n > largest * kept:
        return moved, free / kept, np.empty(0, dtype=np.int64), kept
    images = np.empty((n, 3))
    for i in range(n):
        for a in range(3):
            image = translations[i, a]
            for b in range(3):
                image += rotations[i, a, b] * moved[b]
            images[i, a] = image % 1.0
    images[0] = moved
    return moved, free / kept, distinct(images, cell, tolerance), kept
