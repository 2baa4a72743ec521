"""Usual lengths of the bond from hydrogen to its nearest neighbour, by element.

Means of C-H, N-H and O-H: neutron diffraction, F. H. Allen and I. J. Bruno, Acta Cryst. B 66, 380
(2010), as the Cambridge Structural Database normalises them. Ranges, and medians of the other
elements: PBE-relaxed crystals of the Materials Project, by ``tools/measure_lengths.py``.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

from ase.data import atomic_numbers, covalent_radii

from xtalfill.core.io import read_json

_FILE = Path(__file__).with_suffix(".json")
NEUTRON_MEAN = {"C": 1.089, "N": 1.015, "O": 0.993}  # Å
# Atoms that bind hydrogen covalently; hydrogen on one of them is no hydride.
COVALENT = frozenset(
    atomic_numbers[symbol]
    for symbol in ("B", "C", "N", "O", "F", "Si", "P", "S", "Cl", "Ge", "As", "Se", "Br", "Te", "I")
)
DONORS = frozenset(atomic_numbers[symbol] for symbol in ("N", "O", "F"))
# Sums of covalent radii up to which hydrogen is bonded to its nearest neighbour; O-H of a proton
# between two oxygens: 1.31, NaH: 1.33.
_BONDED_COVALENT, _BONDED_OTHER = 1.35, 1.6
_H2 = 0.85  # Å; the molecule: 0.74
# A second N, O or F as near as this shares the proton, Å.
SHARED = 1.45
SHARED_LENGTH = 1.26  # Å; the longer bond of a shared proton


@dataclass(frozen=True)
class UsualLength:
    """Usual length of the bond of hydrogen to an element, Å.

    Attributes:
        mean: Neutron diffraction, or else median of the crystals.
        low: Lower end of the range: its 0.5 % quantile.
        high: Upper end of the range: its 99.5 % quantile.
        n: Bonds behind the range.
    """

    mean: float
    low: float
    high: float
    n: int


@cache
def usual_lengths() -> dict[int, UsualLength]:
    """Return atomic number -> usual length of its bond to hydrogen."""
    found = {}
    for symbol, (n, low, median, high) in read_json(_FILE)["lengths"].items():
        mean = NEUTRON_MEAN.get(symbol, median)
        found[atomic_numbers[symbol]] = UsualLength(mean, low, high, n)
    return found


def longest_bond(number: int) -> float:
    """Return up to which distance an atom counts as bonded to hydrogen, Å."""
    if number == 1:
        return _H2
    share = _BONDED_COVALENT if number in COVALENT else _BONDED_OTHER
    return float(share * (covalent_radii[number] + covalent_radii[1]))
