"""Bond valences of a crystal: which atoms lack protons, and what the charges leave over.

Parameters of every pair of elements come from O'Keeffe and Brese (J. Am. Chem. Soc. 113, 3226,
1991), from the file of pymatgen, whose module `bond_valence` reads others as well, for a second.
Bonds between equal atoms use the length of their single bond.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib.resources import files

import numpy as np
import yaml
from ase import Atoms
from ase.data import atomic_numbers, chemical_symbols
from matscipy.neighbours import neighbour_list
from pymatgen.core import Element

HYDROGEN = 1
# Valence of the atoms that can carry protons.
VALENCE = {
    atomic_numbers[symbol]: valence
    for symbol, valence in {
        "C": 4, "N": 3, "O": 2, "F": 1, "S": 2, "Cl": 1, "Se": 2, "Br": 1, "Te": 2, "I": 1
    }.items()
}  # fmt: skip
# Charge of the other anions of inorganic crystals; only the charge balance uses it.
_OTHER_ANIONS = {"B": 3, "Si": 4, "P": 3, "As": 3, "Sb": 3}
ANION_CHARGE = VALENCE | {atomic_numbers[symbol]: q for symbol, q in _OTHER_ANIONS.items()}
# Lengths of single bonds between equal atoms, Å (sums of Pauling's covalent radii; O-O of peroxide,
# N-N of hydrazine).
_SINGLE_BOND = {
    "B": 1.75, "C": 1.54, "N": 1.45, "O": 1.48, "F": 1.42, "Si": 2.34, "P": 2.22, "S": 2.06,
    "Cl": 1.99, "As": 2.44, "Se": 2.34, "Sb": 2.82, "Te": 2.74, "Br": 2.28, "I": 2.67,
}  # fmt: skip
_LONGEST_ALIKE = 1.25  # single bonds; a bond between equal atoms is shorter
SOFTNESS = 0.37  # Å
# Bonds beyond this distance have valences below 0.02, also those of caesium.
CUTOFF = 4.2  # Å
# X-ray refinements place hydrogen 0.1 to 0.2 Å too near: more than one valence is an error.
_MOST_OF_HYDROGEN = 1.0
# A proton has one stronger bond; half a valence is that of a symmetric hydrogen bond.
_BOND_OF_PROTON = 0.4
# A site with a larger sum of valences towards less electronegative atoms is a cation.
_CATION = 0.3
# Nearest neighbours; an element without parameters within this distance hides a site's valence, Å.
_NEAR = 3.2
# The share of the missing charge that the atoms lack, if a count is to be decided from it: the
# lengths of the bonds to a missing proton's acceptor spread the rest over the other atoms.
_AGREEING = (0.3, 1.05)
_ELEMENTS = len(chemical_symbols)
# Two elements have a bond length if one of them is in this list of O'Keeffe and Brese.
_NEGATIVE = ("H", "B", "C", "Si", "N", "P", "As", "Sb", "O", "S", "Se", "Te", "F", "Cl", "Br", "I")


@dataclass(frozen=True)
class SiteValences:
    """Bond valences of the sites of a crystal.

    Attributes:
        total: (n,) Sum of the bond valences, regardless of their direction.
        charge: (n,) The same with the sign of the charge: negative for an anion.
        proton: (n,) Whether it is hydrogen with a bond to a more electronegative atom, whatever
            metals are near.
        cation: (n,) Whether the charge is positive if the bonds to protons add nothing to it: a
            hydrogen bond to tellurium, less electronegative than hydrogen, makes it no cation.
        alike: (n,) Sum of the bond valences to atoms of the same element.
        judged: (n,) Whether the parameters of all near neighbours are known.
        lacking: (n,) Valence that a judged atom of `VALENCE` lacks; 0 for the others.
    """

    total: np.ndarray
    charge: np.ndarray
    proton: np.ndarray
    cation: np.ndarray
    alike: np.ndarray
    judged: np.ndarray
    lacking: np.ndarray


@dataclass(frozen=True)
class ChargeBalance:
    """Number of positive charges that a crystal lacks.

    Attributes:
        nearest: With each cation in the oxidation state nearest to its bond valence.
        fewest: With each cation in its highest common oxidation state.
        most: With each cation in its lowest known positive oxidation state.
    """

    nearest: int
    fewest: int
    most: int


def site_valences(atoms: Atoms, *, alike_bonds_only: bool = False) -> SiteValences:
    """Compute the bond valences of a crystal.

    Args:
        atoms: Periodic in three dimensions, Angstrom.
        alike_bonds_only: Leave out equal atoms that are not bonded, such as the oxygens of a
            sulfate: they add about 0.1 each. The model of the scan was fitted with them.
    """
    lengths, known = _parameters()
    numbers = atoms.numbers
    first, second, distance = neighbour_list("ijd", atoms, CUTOFF)
    a, b = numbers[first], numbers[second]
    valence = np.where(known[a, b], np.exp((lengths[a, b] - distance) / SOFTNESS), 0.0)
    if alike_bonds_only:
        valence[(a == b) & (distance > _LONGEST_ALIKE * lengths[a, b])] = 0.0
    hydrogen = (a == HYDROGEN) | (b == HYDROGEN)
    valence[hydrogen] = np.minimum(valence[hydrogen], _MOST_OF_HYDROGEN)
    scale = _electronegativities()

    def summed(weights: np.ndarray) -> np.ndarray:
        return np.bincount(first, weights, len(atoms))

    total = summed(valence)
    charges = valence * np.sign(scale[b] - scale[a])
    proton = (numbers == HYDROGEN) & (summed((charges > _BOND_OF_PROTON).astype(float)) > 0)
    judged = summed((~_has_parameters()[b] & (distance < _NEAR)).astype(float)) == 0
    full = np.array([VALENCE.get(int(number), 0) for number in numbers], dtype=float)
    return SiteValences(
        total=total,
        charge=summed(charges),
        proton=proton,
        cation=summed(np.where(proton[second], np.minimum(charges, 0.0), charges)) > _CATION,
        alike=summed(valence * (a == b)),
        judged=judged,
        lacking=np.where(judged, np.maximum(full - total, 0.0), 0.0),
    )


def charge_balance(numbers: np.ndarray, valences: SiteValences) -> ChargeBalance | None:
    """Count the positive charges that a crystal lacks.

    Args:
        numbers: (n,) atomic numbers.
        valences: Of the same sites.

    Returns:
        None if the crystal has no anion, or a cation without bond-valence parameters or known
        oxidation states.
    """
    anion = np.isin(numbers, list(ANION_CHARGE)) & ~valences.cation
    if not anion.any() or not _has_parameters()[numbers[~anion]].all():
        return None
    negative = sum(
        max(ANION_CHARGE[int(number)] - round(float(alike)), 0)
        for number, alike in zip(numbers[anion], valences.alike[anion], strict=True)
    )
    nearest = fewest = most = negative
    for number, charge in zip(numbers[~anion], valences.charge[~anion], strict=True):
        common, known = _oxidation_states(int(number))
        if not known:
            return None
        nearest -= min(known, key=lambda state: abs(state - charge))
        fewest -= max(common or known)
        most -= min(known)
    return ChargeBalance(nearest, fewest, most)


def counted_protons(numbers: np.ndarray, valences: SiteValences) -> int | None:
    """Return the number of protons if charge balance and bond valences decide it, else None."""
    balance = charge_balance(numbers, valences)
    if balance is None or balance.nearest < 1 or balance.nearest != balance.fewest:
        return None
    low, high = _AGREEING
    share = float(valences.lacking.sum()) / balance.nearest
    return balance.nearest if low <= share <= high else None


def exceeds_ozonide(numbers: np.ndarray) -> bool:
    """Return whether an oxide has more oxygen than its cations can bind in any form.

    The water of a hydrate that was relaxed without its hydrogen forms O-O bonds, so that no bond
    valence is lacking. But then there are more than the three oxygens per charge of an ozonide.

    Args:
        numbers: (n,) atomic numbers; with another anion than oxygen the result is False.
    """
    oxygen = numbers == atomic_numbers["O"]
    cations = numbers[~oxygen]
    if not len(cations) or np.isin(cations, [HYDROGEN, *ANION_CHARGE]).any():
        return False
    states = [_oxidation_states(int(number))[1] for number in cations]
    return all(states) and int(oxygen.sum()) > 3 * sum(max(known) for known in states)


@cache
def _oxidation_states(number: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the common and all known positive oxidation states of an element, by pymatgen."""
    element = Element.from_Z(number)
    common = tuple(state for state in element.common_oxidation_states if state > 0)
    rare = (state for state in element.icsd_oxidation_states if state > 0)
    return common, tuple(sorted({*common, *rare}))


@cache
def _sizes() -> dict[int, tuple[float, float]]:
    """Return atomic number -> r, Å, and c of the elements that have parameters."""
    text = (files("pymatgen.core") / "bvparam_1991.yaml").read_text(encoding="utf-8")
    table = yaml.safe_load(text)
    return {atomic_numbers[symbol]: (one["r"], one["c"]) for symbol, one in table.items()}


@cache
def _has_parameters() -> np.ndarray:
    """Return (119,) whether an element has bond-valence parameters."""
    found = np.zeros(_ELEMENTS, dtype=bool)
    found[list(_sizes())] = True
    return found


@cache
def _parameters() -> tuple[np.ndarray, np.ndarray]:
    """Return bond lengths of valence 1 (119, 119), Å, and for which pairs they are known."""
    size, softness = np.full(_ELEMENTS, np.nan), np.full(_ELEMENTS, np.nan)
    negative = np.zeros(_ELEMENTS, dtype=bool)
    for number, both in _sizes().items():
        size[number], softness[number] = both
    negative[[atomic_numbers[symbol] for symbol in _NEGATIVE]] = True
    r, c = size[:, None], softness[:, None]
    lengths = r + r.T - r * r.T * (np.sqrt(c) - np.sqrt(c.T)) ** 2 / (c * r + c.T * r.T)
    known = np.isfinite(lengths) & (negative[:, None] | negative)
    np.fill_diagonal(known, False)
    for symbol, length in _SINGLE_BOND.items():
        number = atomic_numbers[symbol]
        known[number, number], lengths[number, number] = True, length
    return np.where(known, lengths, 0.0), known


@cache
def _electronegativities() -> np.ndarray:
    """Return Pauling's electronegativities (119,) of the elements with parameters."""
    values = np.zeros(_ELEMENTS)
    for number in _sizes():
        values[number] = Element.from_Z(number).X
    return values
