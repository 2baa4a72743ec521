"""Bond valences and charge balance of a restored crystal."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from ase import Atoms

from xtalfill.inputs.scan_valence import (
    HYDROGEN,
    VALENCE,
    SiteValences,
    charge_balance,
    site_valences,
)

# B, C, N: the charges of their groups (boranes, organic molecules, azides) do not follow from the
# single atoms.
_COVALENT = (5, 6, 7)
# Deviations that 2 to 7 % of 400 held-out crystals have, and no neutron structure: too little, too
# much.
_LEAST = {8: 0.65, 9: 0.6, 17: 0.8, 35: 0.8} | dict.fromkeys((6, 7, 16, 34, 52, 53), 1.2)
_MOST = {8: 0.8, 9: 0.5, 17: 0.5, 35: 0.5} | dict.fromkeys((6, 7, 16, 34, 52, 53), 1.9)


@dataclass(frozen=True)
class ValenceCheck:
    """What the bond valences say; see `inputs.scan_valence` for the parameters.

    Attributes:
        deviation: (n,) sum of the bond valences minus the valence of the element, for hydrogen, C,
            N, O, S, Se, Te and the halogens; NaN for the others, and where parameters are missing.
        missing_charge: Positive charges that the crystal lacks even with its cations in their
            highest common oxidation states; negative: that it has too many even with the lowest
            ones; 0: balanced. None if the oxidation states are not known,
            or with B, C or N.
    """

    deviation: np.ndarray
    missing_charge: int | None

    @property
    def misfit(self) -> float:
        """Root mean square of the deviations (the global instability index), NaN if none."""
        known = self.deviation[np.isfinite(self.deviation)]
        return float(np.sqrt(np.mean(known**2))) if len(known) else float("nan")


def check_valences(atoms: Atoms) -> ValenceCheck:
    """Compare the bond valences of a crystal with the valences of its elements."""
    valences = site_valences(atoms, alike_bonds_only=True)
    full = np.array(
        [VALENCE.get(int(number), 1 if number == HYDROGEN else 0) for number in atoms.numbers],
        dtype=float,
    )
    known = (full > 0) & valences.judged
    # A halogen, sulphur or nitrogen that is a cation has more than one valence.
    known &= (atoms.numbers == HYDROGEN) | ~valences.cation
    return ValenceCheck(
        deviation=np.where(known, valences.total - full, np.nan),
        missing_charge=_missing_charge(atoms.numbers, valences),
    )


def _missing_charge(numbers: np.ndarray, valences: SiteValences) -> int | None:
    """Return the positive charges that a crystal lacks, with hydrides as anions."""
    balance = charge_balance(numbers, valences)
    if balance is None or np.isin(numbers, _COVALENT).any():
        return None
    # `charge_balance` counts every hydrogen as a proton.
    hydride = (numbers == HYDROGEN) & ~valences.proton & (valences.charge < 0)
    hydrides = 2 * int(hydride.sum())
    fewest, most = balance.fewest + hydrides, balance.most + hydrides
    return max(fewest, 0) or min(most, 0)


def unusual_valences(numbers: np.ndarray, check: ValenceCheck) -> np.ndarray:
    """Return the atoms with far too little or too much valence, the worst first, as indices."""
    low = np.array([_LEAST.get(int(number), np.inf) for number in numbers])
    high = np.array([_MOST.get(int(number), np.inf) for number in numbers])
    found = np.flatnonzero((check.deviation < -low) | (check.deviation > high))
    return found[np.argsort(-np.abs(check.deviation[found]), kind="stable")]
