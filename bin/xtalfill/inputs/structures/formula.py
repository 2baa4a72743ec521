"""The chemical formula declared in a CIF."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np
from pymatgen.core import Composition, DummySpecies, Element

# Relative tolerance of the counts in a declared formula.
TOLERANCE = 0.02
_SPREAD = re.compile(r"(?<=\d)\(\d+\)(?=[\s,]|$)")  # standard uncertainty, as in H2.00(5)
_CHARGE = re.compile(r"\d*\.?\d*[+-]|[+-]\d*\.?\d*")
_MULTIPLE = re.compile(r"(\d*\.?\d+)\s*\((.+)\)")


def parse_formula(text: str) -> dict[int, float] | None:
    """Parse a chemical formula. Charges are ignored; deuterium and tritium are hydrogen.

    Commas separate parts, which are summed: "Mg O, H2 O", "C6 H6, 2(H2 O)".

    Args:
        text: As written, "H2 Mg O2" or "Mg1 O2 H2.00(5)" or "H2 Mg O2 -2".

    Returns:
        Atomic number -> count, or None if the text is not a formula ("K0.5 - x Na x").
    """
    counts: dict[int, float] = {}
    for part in _SPREAD.sub("", text.replace("'", " ").replace('"', " ")).split(","):
        multiple = _MULTIPLE.fullmatch(part.strip())
        factor, terms = (float(multiple[1]), multiple[2]) if multiple else (1.0, part)
        words = [word for word in terms.split() if not _CHARGE.fullmatch(word)]
        try:
            composition = Composition(" ".join(words))
        except (ValueError, KeyError, TypeError, AttributeError):
            return None
        for species, amount in composition.items():
            if isinstance(species, DummySpecies):
                return None
            number = Element(species.symbol).Z
            counts[number] = counts.get(number, 0.0) + factor * float(amount)
    return {number: count for number, count in counts.items() if count > 0} or None


def formula_units(
    numbers: np.ndarray, formula: Mapping[int, float], *, without: int
) -> list[float]:
    """Return the number of formula units among atoms, according to each element.

    Args:
        numbers: (n_atoms,) atomic numbers.
        formula: Atomic number -> count; an element without atoms gives zero units.
        without: The element to ignore.
    """
    counts = {z: int(np.count_nonzero(numbers == z)) for z in formula if z != without}
    return [count / formula[z] for z, count in counts.items()]


def in_ratio(units: Sequence[float]) -> bool:
    """Return whether all elements give the same number of formula units."""
    return not units or max(units) - min(units) <= TOLERANCE * max(units)
