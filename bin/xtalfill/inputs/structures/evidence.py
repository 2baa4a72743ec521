"""Statements of an input about missing sites."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class HydrogenCount:
    """Number of hydrogens bonded to the atoms of the cell, according to one source.

    Attributes:
        fewest: Minimum number in the cell.
        most: Maximum number in the cell.
        description: Description of the source, for messages: "the labels Wat1, Wat2".
    """

    fewest: float
    most: float
    description: str


@dataclass
class Evidence:
    """Statements of an input about missing sites.

    Attributes:
        formula: Atomic number -> count in the declared formula, or None.
        unlocated: Atomic number -> number of sites in the cell listed without coordinates.
        attached: Unlisted hydrogens bonded to listed atoms (_atom_site_attached_hydrogens).
        named: Hydrogens of groups in labels or types (O-H, Wat, NH4), listed or not.
    """

    formula: dict[int, float] | None = None
    unlocated: dict[int, float] = field(default_factory=dict)
    attached: HydrogenCount | None = None
    named: HydrogenCount | None = None
