"""The answer for each crystal, and how sure it is: shares, gaps and agreement, and the odds.

A share of candidates in one minimum and a gap in energy say how often and how clearly the run found
the answer; neither is a probability. Only the odds of results.csv are.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from xtalfill.results.candidates import CandidateRow
from xtalfill.results.collect import best_over_methods
from xtalfill.results.confidence import CALIBRATED, Confidence, odds_text
from xtalfill.results.structures import StructureRow
from xtalfill.results.tables import Tables, present

# eV/atom; the default of --validate_window, within which DFT may change the order.
CLOSE = 0.01
UNSURE = 0.8  # probability of the true crystal; half of the answers below it are wrong


@dataclass(frozen=True)
class Minimum:
    """A distinct minimum among the candidates of all methods of a structure.

    Attributes:
        lowest: Its candidate of lowest energy.
        above: eV per atom above the answer.
        count: Number of converged candidates in it.
        methods: Methods that found it.
    """

    lowest: CandidateRow
    above: float
    count: int
    methods: tuple[str, ...]


@dataclass(frozen=True)
class Answer:
    """The best candidate of a structure over all methods, and what supports it.

    Attributes:
        pick: The candidate.
        rows: Rows of results.csv of the structure, that of the candidate's method first.
        minima: Lowest first; the first is that of the answer.
        n_compared: Number of candidates with the status of the answer and an energy.
        n_agree: Number of methods whose selected candidate is in the minimum of the answer.
    """

    pick: CandidateRow
    rows: tuple[StructureRow, ...]
    minima: tuple[Minimum, ...]
    n_compared: int
    n_agree: int

    @property
    def id(self) -> str:
        """Name of the structure."""
        return self.pick.id

    @property
    def row(self) -> StructureRow:
        """The row of results.csv that shows the candidate."""
        return self.rows[0]

    @property
    def share(self) -> float:
        """Share of the compared candidates that are in the minimum of the answer."""
        return self.minima[0].count / self.n_compared

    @property
    def gap(self) -> float | None:
        """Energy of the next minimum above the answer, eV per atom; None if there is no other."""
        return self.minima[1].above if len(self.minima) > 1 else None

    @property
    def disputed(self) -> bool:
        """Whether the two potentials have different lowest minima with some method."""
        return any(row.ranking_agrees is False for row in self.rows)

    @property
    def n_found_once(self) -> int:
        """Number of minima with a single candidate."""
        return sum(minimum.count == 1 for minimum in self.minima)


def find_answers(tables: Tables, rows: Sequence[StructureRow]) -> dict[str, Answer]:
    """Return the answer of each structure that has one.

    Args:
        tables: All rows of the run.
        rows: The rows of results.csv.
    """
    candidates: dict[str, list[CandidateRow]] = {}
    for row in present(tables.candidates):
        candidates.setdefault(row.id, []).append(row)
    of_structure: dict[str, list[StructureRow]] = {}
    for line in rows:
        of_structure.setdefault(line.id, []).append(line)
    best = best_over_methods(tables)
    return {
        name: _answer(best[name], candidates[name], of_structure[name]) for name in sorted(best)
    }


def _answer(pick: CandidateRow, candidates: list[CandidateRow], rows: list[StructureRow]) -> Answer:
    compared = [
        row
        for row in candidates
        if row.minimum_of_all is not None and row.minimum_of_all >= 0 and row.status == pick.status
    ]
    members: dict[int, list[CandidateRow]] = {}
    for row in compared:
        members.setdefault(row.minimum_of_all or 0, []).append(row)
    minima = [_minimum(pick, group) for group in members.values()]
    minima.sort(key=lambda one: (one.lowest is not pick, one.above))
    return Answer(
        pick=pick,
        rows=tuple(sorted(rows, key=lambda row: row.method != pick.method)),
        minima=tuple(minima),
        n_compared=len(compared),
        n_agree=sum(row.selected and row.minimum_of_all == pick.minimum_of_all for row in compared),
    )


def _minimum(pick: CandidateRow, group: list[CandidateRow]) -> Minimum:
    lowest = pick if pick in group else min(group, key=lambda row: row.energy)
    return Minimum(
        lowest=lowest,
        above=(lowest.energy - pick.energy) / pick.n_atoms,
        count=len(group),
        methods=tuple(sorted({row.method for row in group})),
    )


def support_sentences(answer: Answer) -> list[str]:
    """Return in words what speaks for and against an answer."""
    kind = "converged" if answer.pick.status == "ok" else "unconverged"
    row = answer.row
    odds = odds_text(Confidence(row.confidence, row.confidence_match, row.calibration))
    found = [f"{odds[0].upper()}{odds[1:]}."] if odds else []
    if row.calibration not in ("", CALIBRATED):
        found.append(f"Odds {row.calibration}.")
    found += [
        f"{answer.minima[0].count} of {answer.n_compared} {kind} candidates ended in this minimum."
    ]
    if answer.gap is None:
        found.append("No other minimum was found.")
    else:
        cell = answer.gap * answer.pick.n_atoms
        found.append(
            f"The next minimum is {1000 * answer.gap:.1f} meV/atom ({cell:.3f} eV per cell) higher."
        )
        if answer.n_found_once:
            found.append(
                f"{answer.n_found_once} of {len(answer.minima)} minima "
                f"{'were' if answer.n_found_once > 1 else 'was'} found only once, "
                "so there may be others."
            )
    if len(answer.rows) > 1:
        found.append(f"{answer.n_agree} of {len(answer.rows)} methods selected it.")
    return found + _verdicts(answer)


def _verdicts(answer: Answer) -> list[str]:
    """Return what the second potential and DFT say."""
    found = []
    if answer.disputed:
        found.append("The two potentials have different lowest minima.")
    elif answer.row.ranking_agrees:
        found.append("Both potentials have the same lowest minimum.")
    if answer.row.dft_agrees is not None:
        found.append(
            "It is also the candidate of lowest DFT energy."
            if answer.row.dft_agrees
            else f"DFT puts another candidate first (sample {answer.row.dft_sample})."
        )
    return found


def overall_support(answers: Sequence[Answer]) -> dict[str, Any]:
    """Return the support of all answers in a few numbers; None where there are none.

    Returns:
        "share": median share; "gap": median gap in eV/atom of those with a second minimum;
        "n_close": answers with another minimum closer than `CLOSE`; "n_lone": answers without
        another minimum; "n_odds": answers with calibrated odds; "n_unsure": those whose odds of
        the true crystal are below `UNSURE`; "n_doubted": answers with a warning of the checks;
        "n": answers.
    """
    odds = [one.row.confidence_match for one in answers if one.row.calibration == CALIBRATED]
    gaps = [answer.gap for answer in answers if answer.gap is not None]
    return {
        "n": len(answers),
        "share": statistics.median(answer.share for answer in answers) if answers else None,
        "gap": statistics.median(gaps) if gaps else None,
        "n_close": sum(math.fabs(gap) < CLOSE for gap in gaps),
        "n_lone": len(answers) - len(gaps),
        "n_odds": len(odds),
        "n_unsure": sum(chance < UNSURE for chance in odds),
        "unsure": UNSURE,
        "n_doubted": sum(bool(answer.row.warnings) for answer in answers),
        "close": CLOSE,
    }
