"""Summary of the DFT validation: the part "dft" of evaluation.json."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np

from xtalfill.results.candidates import CandidateRow
from xtalfill.results.tables import Tables, structure_rows

# eV per atom; crystals closer in energy than this are not ranked.
RESOLUTION = 0.001
STATUSES = ("ok", "unconverged", "failed", "refused")


def summarise_dft(tables: Tables) -> dict[str, Any] | None:
    """Return the content of "dft" in evaluation.json; None if no candidate was sent to pw.x.

    Args:
        tables: All rows of the run.
    """
    sent = [row for row in tables.candidates if row.dft_status]
    if not sent:
        return None
    rows = [row for row in structure_rows(tables) if row.dft_status]
    judged = [row for row in rows if row.dft_matched is not None]
    compared = [row for row in sent if row.dft_matched is not None]
    differences = [
        (row.energy_above_reference, row.dft_energy_above_reference)
        for row in compared
        if np.isfinite(row.energy_above_reference)
    ]
    pairs = [pair for group in tables.grouped().values() for pair in _pairs(group)]
    ranked = [row for row in rows if row.dft_agrees is not None]
    return {
        "structures": len({row.id for row in rows}),
        "candidates": len(sent),
        **{f"candidates_{name}": sum(row.dft_status == name for row in sent) for name in STATUSES},
        "candidates_repaired": sum((row.dft_n_attempts or 0) > 1 for row in sent),
        "judged": len(judged),
        "matched": sum(bool(row.dft_matched) for row in judged),
        "les": sum(bool(row.dft_les) for row in judged),
        "median_abs_energy_difference": _median([abs(d) for _, d in differences]),
        "mean_abs_error_of_difference": _mean([abs(m - d) for m, d in differences]),
        "median_fmax_start": _median([row.dft_fmax_start for row in sent]),
        "resolution": RESOLUTION,
        "pairs": len(pairs),
        "pairs_in_order": sum(pairs),
        "rankings": len(ranked),
        "rankings_agree": sum(bool(row.dft_agrees) for row in ranked),
    }


def _pairs(group: list[CandidateRow]) -> list[bool]:
    """Return for pairs of systems of a structure whether potential and DFT order them alike.

    The systems are the candidates of a method and the reference. Pairs whose DFT energies differ
    by less than `RESOLUTION` are left out.
    """
    rows = [row for row in group if np.isfinite(row.dft_energy)]
    levels = [(row.energy / row.n_atoms, row.dft_energy / row.n_atoms) for row in rows]
    for row in rows:
        # The energy of the reference follows from that of any candidate compared with it.
        if np.isfinite(row.dft_energy_above_reference) and np.isfinite(row.energy_above_reference):
            levels.append(
                (
                    row.energy / row.n_atoms - row.energy_above_reference,
                    row.dft_energy / row.n_atoms - row.dft_energy_above_reference,
                )
            )
            break
    return [
        bool((one[0] - other[0]) * (one[1] - other[1]) > 0)
        for one, other in combinations(levels, 2)
        if abs(one[1] - other[1]) > RESOLUTION
    ]


def _median(values: list[float]) -> float | None:
    finite = [value for value in values if np.isfinite(value)]
    return float(np.median(finite)) if finite else None


def _mean(values: list[float]) -> float | None:
    return float(np.mean(values)) if values else None
