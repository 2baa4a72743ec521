"""What an input says of sites that are missing, before anything is decided."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class HydrogenCount:
    """Hydrogens that the atoms of the cell carry, as one source tells.

    Attributes:
        fewest: In the cell, at least.
        most: In the cell, at most.
        words: What told it, for the user: "the labels Wat1, Wat2".
    """

    fewest: float
    most: float
    words: str


@dataclass
class Evidence:
    """What an input says of missing sites.

    Attributes:
        formula: Nuclear charge -> count in the declared formula, or None.
        unlocated: Nuclear charge -> sites in the cell that are listed without coordinates.
        attached: Hydrogens bound to listed atoms and not listed (_atom_site_attached_hydrogens).
        named: Hydrogens of groups that labels or types name (O-H, Wat, NH4), listed or not.
    """

    formula: dict[int, float] | None = None
    unlocated: dict[int, float] = field(default_factory=dict)
    attached: HydrogenCount | None = None
    named: HydrogenCount | None = None
