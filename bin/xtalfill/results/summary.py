"""Success rates of a run: the content of evaluation.json.

Every rate is a mean over the structures with a usable reference. A candidate that failed, did
not converge or was dropped counts as a failure. An absent candidate, for which the method had no
further proposal, does not count.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from xtalfill.core.batch import REFERENCE, STATUSES
from xtalfill.evaluate.metrics import (
    SITE_BINS,
    SIZE_BINS,
    any_of_k,
    best_of_k,
    bin_label,
    mcnemar,
    rate_interval,
)
from xtalfill.results.candidates import CandidateRow
from xtalfill.results.structures import StructureRow
from xtalfill.results.tables import Tables, present, structure_rows

OUTCOMES = ("matched", "les")
UNKNOWN_CLASS = "not known"
ALL_METHODS = "all methods"  # the candidates of all methods as those of one
# Fixed, so that equal results give equal intervals; independent of the seed of the run.
BOOTSTRAP_SEED = 20250101
N_RESAMPLES = 10_000
LEVEL = 0.95


@dataclass(frozen=True)
class Judged:
    """The n candidates of a structure, of one or all methods, compared with the reference.

    Attributes:
        id: Name of the structure.
        size: Label of its bin in SIZE_BINS.
        sites: Label of its bin in SITE_BINS.
        site_class: Chemistry of its missing sites.
        energy: (n,) eV; NaN for a candidate that failed or did not converge.
        selected: (n,) bool; over all methods, the best of all.
        outcome: "matched_inpaint" and each of OUTCOMES -> (n,) bool, whether it was reached.
    """

    id: str
    size: str
    sites: str
    site_class: str
    energy: np.ndarray
    selected: np.ndarray
    outcome: dict[str, np.ndarray]


def summarise(tables: Tables) -> dict[str, Any]:
    """Return the content of evaluation.json.

    Args:
        tables: All rows of the run.

    Returns:
        Plain JSON values; None for a rate that is not defined.
    """
    judged = judge(tables)
    several = {ALL_METHODS: judge_together(tables)} if len(tables.methods) > 1 else {}
    return {
        "settings": {
            "outcomes": list(OUTCOMES),
            "bootstrap_seed": BOOTSTRAP_SEED,
            "bootstrap_resamples": N_RESAMPLES,
            "interval_level": LEVEL,
        },
        "counts": count_all(tables),
        "methods": {name: _method(tables, name, judged[name]) for name in tables.methods},
        "all_methods": _together(tables, several[ALL_METHODS]) if several else None,
        "paired_tests": paired_tests(judged | several),
    }


def paired_tests(judged: dict[str, list[Judged]]) -> list[dict[str, Any]]:
    """Compare every pair of methods on the structures that both have.

    Args:
        judged: Name of a method, or `ALL_METHODS` -> its structures.
    """
    return [
        {"outcome": outcome, "first": first, "second": second}
        | _paired(judged[first], judged[second], outcome)
        for first, second in combinations(judged, 2)
        for outcome in OUTCOMES
    ]


def count_all(tables: Tables) -> dict[str, int]:
    """Count the structures and candidates of a run by their outcome."""
    rows = structure_rows(tables)
    done = {row.id for row in rows if row.status == "ok"}
    compared = {row.id for row in rows if row.has_reference}
    ranked = {row.id for row in rows if row.ranking_agrees is not None}
    status = [row.status for row in tables.candidates]
    n_absent = status.count("absent")
    return {
        "structures_in": sum(
            map(len, (tables.structures, tables.refused, tables.stored, tables.duplicates))
        ),
        "structures_stored": len(tables.stored),
        "structures_duplicate": len(tables.duplicates),
        "structures_refused": len(tables.refused),
        "structures_checked": len(tables.structures),
        "structures_lost": len(tables.lost),
        "structures_restored": len(done),
        "structures_with_reference": len(compared),
        "structures_matched": len({row.id for row in rows if row.best_of_all and row.matched}),
        "structures_les": len({row.id for row in rows if row.best_of_all and row.les}),
        "structures_ranked_twice": len(ranked),
        "structures_ranking_differs": len({row.id for row in rows if row.ranking_agrees is False}),
        # A reference that pw.x could not relax is still usable with the potential.
        "references_unusable": sum(
            failure.method == REFERENCE and not failure.message.startswith("dft: ")
            for failure in tables.failures
        ),
        "candidates": len(status) - n_absent,
        **{f"candidates_{name}": status.count(name) for name in STATUSES},
    }


def judge(tables: Tables) -> dict[str, list[Judged]]:
    """Return the structures with a reference, for each method."""
    found: dict[str, list[Judged]] = {name: [] for name in tables.methods}
    for (structure_id, method), members in tables.grouped().items():
        rows = present(members)
        if not rows[0].has_reference:
            continue
        found[method].append(_judged(structure_id, rows, [row.selected for row in rows]))
    n_samples = max((len(present(rows)) for rows in tables.grouped().values()), default=1)
    for name in tables.lost:
        if tables.structures[name].get("reference"):
            for method in tables.methods:
                found[method].append(_all_wrong(tables.structures[name], n_samples))
    return found


def judge_together(tables: Tables) -> list[Judged]:
    """Return the structures with a reference, each with the candidates of all methods."""
    members: dict[str, list[CandidateRow]] = {}
    for row in present(tables.candidates):
        members.setdefault(row.id, []).append(row)
    found = [
        _judged(name, rows, [row.best_of_all for row in rows])
        for name, rows in members.items()
        if rows[0].has_reference
    ]
    n_samples = max((len(rows) for rows in members.values()), default=1)
    lost = [tables.structures[name] for name in tables.lost]
    return found + [_all_wrong(entry, n_samples) for entry in lost if entry.get("reference")]


def _judged(structure_id: str, rows: list[CandidateRow], selected: list[bool]) -> Judged:
    usable = np.array([row.status == "ok" and row.rank >= 0 for row in rows])
    energy = np.array([row.energy for row in rows])
    return Judged(
        id=structure_id,
        size=bin_label(rows[0].n_atoms, SIZE_BINS),
        sites=bin_label(rows[0].n_missing, SITE_BINS),
        site_class=rows[0].site_class,
        energy=np.where(usable, energy, np.nan),
        selected=np.array(selected),
        outcome=_outcomes(rows, usable),
    )


def _all_wrong(entry: dict[str, Any], n_samples: int) -> Judged:
    """Return a structure whose batch was lost: every candidate counts as a failure."""
    never = np.zeros(n_samples, dtype=np.bool_)
    return Judged(
        id=str(entry["id"]),
        size=bin_label(int(entry["n_atoms"]), SIZE_BINS),
        sites=bin_label(int(entry["n_missing"]), SITE_BINS),
        site_class=UNKNOWN_CLASS,
        energy=np.full(n_samples, np.nan),
        selected=never,
        outcome=dict.fromkeys((*OUTCOMES, "matched_inpaint"), never),
    )


def _outcomes(rows: list[CandidateRow], usable: np.ndarray) -> dict[str, np.ndarray]:
    found = {name: usable & np.array([getattr(row, name) for row in rows]) for name in OUTCOMES}
    return found | {"matched_inpaint": np.array([row.matched_inpaint for row in rows])}


def _method(tables: Tables, method: str, judged: list[Judged]) -> dict[str, Any]:
    rows = [row for row in structure_rows(tables) if row.method == method]
    n_samples = max((row.n_candidates for row in rows), default=0)
    return _content(rows, judged, n_samples)


def _together(tables: Tables, judged: list[Judged]) -> dict[str, Any]:
    """Return the content for all methods together: one row for each structure."""
    rows = structure_rows(tables)
    n_candidates: Counter[str] = Counter()
    for row in rows:
        n_candidates[row.id] += row.n_candidates
    # The row of the best method, or else any: a structure without a winner failed in all.
    best = {row.id: row for row in sorted(rows, key=lambda row: row.best_of_all) if row.method}
    return _content(list(best.values()), judged, max(n_candidates.values(), default=0))


def _content(rows: list[StructureRow], judged: list[Judged], n_samples: int) -> dict[str, Any]:
    content: dict[str, Any] = {
        "n_structures": len(rows),
        "n_restored": sum(row.status == "ok" for row in rows),
        "n_with_reference": len(judged),
        "n_samples": n_samples,
    }
    if judged:
        content |= success(judged, n_samples)
        content["medians"] = _medians([row for row in rows if row.has_reference])
    return content


def success(judged: list[Judged], n_samples: int) -> dict[str, Any]:
    """Return the success rates of one method, or of all together.

    Args:
        judged: The structures, at least one.
        n_samples: Largest number of candidates of a structure; the curves end there.
    """
    k = list(range(1, n_samples + 1))
    content: dict[str, Any] = {
        outcome: _rates(judged, outcome)
        | {
            "k": k,
            "best_of_k": _curve([best_of_k(s.energy, s.outcome[outcome], k) for s in judged]),
            "any_of_k": _curve([any_of_k(s.outcome[outcome], k) for s in judged]),
        }
        for outcome in OUTCOMES
    }
    content["matched_inpaint"] = {
        "single": _mean_interval([s.outcome["matched_inpaint"].mean() for s in judged]),
        "k": k,
        "any_of_k": _curve([any_of_k(s.outcome["matched_inpaint"], k) for s in judged]),
    }
    content["splits"] = {name: _split(judged, name) for name in ("size", "sites", "site_class")}
    return content


def _rates(judged: list[Judged], outcome: str) -> dict[str, Any]:
    """Return the rates of a single and of the selected candidate, with intervals."""
    return {
        "single": _mean_interval([s.outcome[outcome].mean() for s in judged]),
        "selected": _mean_interval([_selected(s, outcome) for s in judged]),
    }


def _selected(structure: Judged, outcome: str) -> bool:
    return bool((structure.selected & structure.outcome[outcome]).any())


def _mean_interval(values: list[Any]) -> dict[str, Any]:
    numbers = np.asarray(values, dtype=np.float64)
    low, high = _interval(numbers)
    return {"mean": _number(numbers.mean()), "low": _number(low), "high": _number(high)}


def _curve(curves: list[np.ndarray]) -> dict[str, Any]:
    values = np.stack(curves)
    low, high = _interval(values)
    return {"mean": values.mean(axis=0).tolist(), "low": low.tolist(), "high": high.tolist()}


def _interval(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    # Each quantity has its own generator, so that a new one does not change the others.
    return rate_interval(
        values,
        generator=np.random.default_rng(BOOTSTRAP_SEED),
        n_resamples=N_RESAMPLES,
        level=LEVEL,
    )


def _split(judged: list[Judged], name: str) -> list[dict[str, Any]]:
    labels = [label for label, _, _ in {"size": SIZE_BINS, "sites": SITE_BINS}.get(name, ())]
    labels = labels or sorted({structure.site_class for structure in judged})
    parts = []
    for label in labels:
        members = [structure for structure in judged if getattr(structure, name) == label]
        if members:
            rates = {outcome: _rates(members, outcome) for outcome in OUTCOMES}
            parts.append({"label": label, "n_structures": len(members)} | rates)
    return parts


def _medians(rows: list[StructureRow]) -> dict[str, Any]:
    """Return medians over the selected candidates; those of rmsd over the matches only."""
    names = ("rmsd", "rmsd_per_site", "energy_above_reference", "energy_gap")
    found = {}
    for name in names:
        values = np.array([getattr(row, name) for row in rows], dtype=np.float64)
        values = values[np.isfinite(values)]
        found[name] = _number(np.median(values)) if len(values) else None
    return found


def _paired(first: list[Judged], second: list[Judged], outcome: str) -> dict[str, Any]:
    """Compare the selected candidates of two methods on the structures that both have."""
    ours = {structure.id: _selected(structure, outcome) for structure in first}
    theirs = {structure.id: _selected(structure, outcome) for structure in second}
    shared = sorted(set(ours) & set(theirs))
    result = mcnemar(
        np.array([ours[name] for name in shared]), np.array([theirs[name] for name in shared])
    )
    return {"n_structures": len(shared)} | result


def _number(value: Any) -> float | None:
    number = float(value)
    return number if math.isfinite(number) else None
