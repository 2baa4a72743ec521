"""counts.csv: how many sites are missing, where `--n_missing auto` compared numbers by energy."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np

from xtalfill.checks.phases import STAGE as PHASES
from xtalfill.core.batch import Batch
from xtalfill.core.counts import PRIOR, counted_groups
from xtalfill.results.columns import column


@dataclass(frozen=True)
class CountRow:
    """One row of counts.csv: a number of missing sites of a structure."""

    id: str = column(meaning="name of the structure in the input")
    element: str = column(meaning="element of the missing sites")
    n_missing: int = column(meaning="a number of missing sites; 0: nothing is missing")
    rank: int = column(meaning="rank of the number by its probability, from 0")
    probability: float = column(
        meaning="probability of the number among those compared, from its energy and its prior "
        "([how](counts.md))"
    )
    energy: float = column(
        unit="eV/cell",
        meaning="energy of the lowest candidate in the given host, before the host relaxes, minus "
        "that of the host and `n_missing` times the chemical potential; empty: no candidate",
    )
    energy_per_site: float = column(
        unit="eV/atom", meaning="the same for each added atom; negative: it is bound"
    )
    prior: float = column(meaning="probability from charges and free valences alone")
    above_hull: float = column(
        unit="eV/atom",
        meaning="energy after the last relaxation above the hull of `--competing_phases`; "
        "positive: these phases are lower; empty: no table, or an element has no phase in it",
    )
    phases: str = column(meaning="phases of the table that are lowest at this composition")
    filled_as: str = column(
        meaning="`id` of the structure with this number in the other tables; empty for 0"
    )


def count_rows(batch: Batch) -> list[CountRow]:
    """Return the rows of the structures of a batch, those of each by rank."""
    select = batch.stages["select"].arrays
    if "count_probability" not in select:
        return []
    prior = batch.stages[PRIOR].arrays
    rows: list[CountRow] = []
    for name, members in counted_groups(batch.id).items():
        first = members[0]
        element = str(batch.to_ase(first).symbols[np.flatnonzero(_filled(batch, first))[0]])
        none = float(select["count_probability_none"][first])
        found = [
            CountRow(
                name, element, 0, 0, none, _host_energy(batch, first), math.nan,
                math.exp(prior["log_prior_none"][first]), *_above_hull(batch, first, "_none"), "",
            )
        ]  # fmt: skip
        for index in {str(batch.id[one]): one for one in members}.values():
            number, energy = int(_filled(batch, index).sum()), float(select["count_energy"][index])
            share = float(select["count_probability"][index])
            before = math.exp(prior["log_prior"][index])
            found.append(
                CountRow(
                    name, element, number, 0, share, energy, energy / number, before,
                    *_above_hull(batch, index), str(batch.id[index]),
                )
            )  # fmt: skip
        found.sort(key=lambda row: (-row.probability, row.n_missing))
        rows += [replace(row, rank=rank) for rank, row in enumerate(found)]
    return rows


def grouped_counts(rows: Iterable[CountRow]) -> dict[str, list[CountRow]]:
    """Return the rows of each structure, by rank."""
    found: dict[str, list[CountRow]] = {}
    for row in rows:
        found.setdefault(row.id, []).append(row)
    return found


def count_text(rows: Iterable[CountRow], *, most: int = 3) -> str:
    """Return the likeliest numbers of a structure in words: "2 H (93 %), 3 H (6 %)"."""
    shown = [row for row in rows if row.probability >= 0.005][:most]
    return ", ".join(
        f"{row.n_missing} {row.element} ({100 * row.probability:.0f} %)" for row in shown
    )


def _filled(batch: Batch, index: int) -> np.ndarray:
    return np.asarray(~batch.is_host[batch.atoms_slice(index)])


def _above_hull(batch: Batch, index: int, which: str = "") -> tuple[float, str]:
    """Return the energy above the hull, and the phases there; NaN and no text without a table."""
    if PHASES not in batch.stages:
        return math.nan, ""
    arrays = batch.stages[PHASES].arrays
    return float(arrays[f"above_hull{which}"][index]), str(arrays[f"phases{which}"][index])


def _host_energy(batch: Batch, index: int) -> float:
    """Return 0 where the potential could evaluate the host; the energies are relative to it."""
    share = float(batch.stages["select"].arrays["count_probability_none"][index])
    return 0.0 if share > 0 else math.nan
