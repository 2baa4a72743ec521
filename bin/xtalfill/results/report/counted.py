"""The section of the report about numbers of missing sites: energy against N."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from xtalfill.results.counts import CountRow, count_text, grouped_counts

MAX_SHOWN = 200
_WIDTH, _HEIGHT, _LEFT, _TOP = 210.0, 70.0, 15.0, 8.0  # of the picture, without its margins


@dataclass(frozen=True)
class Compared:
    """A structure whose numbers of missing sites were compared.

    Attributes:
        id: Its name.
        rows: Its rows of counts.csv, by rank.
        text: The likeliest numbers in words.
        label: All numbers with energy and probability, in words.
        points: x, y, number, and whether it is the likeliest, of each number with an energy.
        line: The points, for SVG.
    """

    id: str
    rows: tuple[CountRow, ...]
    text: str
    label: str
    points: tuple[tuple[float, float, int, bool], ...]
    line: str


def compared_structures(rows: Sequence[CountRow]) -> list[Compared]:
    """Return the structures whose numbers were compared, by name."""
    return [_compared(name, members) for name, members in sorted(grouped_counts(rows).items())]


def _compared(name: str, rows: list[CountRow]) -> Compared:
    by_number = sorted(rows, key=lambda row: row.n_missing)
    known = [row for row in by_number if math.isfinite(row.energy)]
    words = [
        f"{row.n_missing}: {row.energy:.2f}, {100 * row.probability:.0f} %"
        if math.isfinite(row.energy)
        else f"{row.n_missing}: no energy"
        for row in by_number
    ]
    energies = [row.energy for row in known]
    low, high = min(energies, default=0.0), max(energies, default=0.0)
    most = max(1, *(row.n_missing for row in rows))
    points = tuple(
        (
            round(_LEFT + _WIDTH * row.n_missing / most, 1),
            round(_TOP + _HEIGHT * (high - row.energy) / max(high - low, 1e-9), 1),
            row.n_missing,
            row.rank == 0,
        )
        for row in known
    )
    line = " ".join(f"{x},{y}" for x, y, _, _ in points)
    return Compared(
        name, tuple(rows), count_text(rows), "; ".join(words).replace("-", "−"), points, line
    )
