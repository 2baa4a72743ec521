"""The odds of an answer, for the combinations of settings on which they were measured.

A card in odds/ is one combination: what was measured, on which crystals, how well the odds hold
there, and the model of each outcome. ``tools/fit_confidence.py`` writes it. A run with other
settings gets no odds but the reason. A model is a logistic function of features that need no
reference:

    P = 1 / (1 + exp(-(intercept + sum of weight x feature)))

Without weights it is a constant, the rate of the measured crystals.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Protocol

from xtalfill.core.io import read_json
from xtalfill.core.relaxations import POSITIONS, RANK
from xtalfill.registry.potentials import POTENTIALS
from xtalfill.relax.stopping import count_minima

CARDS = Path(__file__).parent / "odds"
DEFAULT_CARD = "default"
CALIBRATED = "calibrated"
# eV/atom; a larger gap says no more, and a lone minimum counts as this.
LARGEST_GAP = 0.05
# Options that change which candidates are relaxed; a batch names them only where they are set.
_SPARED = ("drop_above", "stop_below", "rounds", "merge")


class Candidate(Protocol):
    """What the odds depend on: a row of candidates.csv, or `Relaxed`."""

    @property
    def method(self) -> str:
        """Proposal method."""

    @property
    def element(self) -> str:
        """Symbol of the missing sites."""

    @property
    def n_missing(self) -> int:
        """Number of missing sites in the cell."""

    @property
    def n_atoms(self) -> int:
        """Number of atoms in the cell, missing sites included."""

    @property
    def status(self) -> str:
        """`ok` if it converged."""

    @property
    def energy(self) -> float:
        """Energy, eV per cell."""

    @property
    def ranking_agrees(self) -> bool | None:
        """Whether two potentials have the same lowest minimum; None if that is not known."""


@dataclass(frozen=True, kw_only=True)
class Relaxed:
    """A `Candidate` that is no row of a table."""

    method: str
    element: str
    n_missing: int
    n_atoms: int
    status: str
    energy: float
    ranking_agrees: bool | None


@dataclass(frozen=True)
class Confidence:
    """The odds of an answer.

    Attributes:
        les: Probability of the true crystal or a lower energy; NaN if not calibrated.
        matched: Probability of the true crystal; NaN if not calibrated.
        calibration: `CALIBRATED`, or "not calibrated" and why.
    """

    les: float
    matched: float
    calibration: str


def features(energies: Sequence[float], n_sites: int, *, agrees: bool | None) -> dict[str, float]:
    """Return what the candidates of one structure and method say about the lowest.

    Args:
        energies: eV per atom, of the converged candidates; at least one.
        n_sites: Number of missing sites in the cell.
        agrees: Whether two potentials have the same lowest minimum; None if that is not known.

    Returns:
        "share": of the candidates in the lowest minimum; "gap": eV per atom to the next minimum,
        as a share of `LARGEST_GAP` and at most 1; "seen": share of the candidates whose minimum
        was found more than once (Good, Biometrika 40, 237 (1953)); "sites": log of `n_sites`;
        "agrees": 0 if the potentials differ, else 1.
    """
    ordered, counts = sorted(energies), count_minima(energies)
    gap = ordered[counts[0]] - ordered[0] if len(counts) > 1 else LARGEST_GAP
    return {
        "share": counts[0] / len(ordered),
        "gap": min(gap / LARGEST_GAP, 1.0),
        "seen": 1.0 - sum(count == 1 for count in counts) / len(ordered),
        "sites": math.log(n_sites),
        "agrees": float(agrees is not False),
    }


def probability(model: Mapping[str, Any], found: Mapping[str, float]) -> float:
    """Return the probability that a model of the card gives.

    Args:
        model: "intercept", and "weights": feature -> weight.
        found: Features of a structure.
    """
    score = model["intercept"] + sum(w * found[name] for name, w in model["weights"].items())
    return 1.0 / (1.0 + math.exp(-score))


def confidence(
    selected: Candidate,
    candidates: Sequence[Candidate],
    stages: Mapping[str, Mapping[str, Any]],
    *,
    cards: Sequence[Mapping[str, Any]] | None = None,
) -> Confidence:
    """Return the odds of a selected candidate, by the first card with its settings.

    Args:
        selected: The selected candidate.
        candidates: All of its structure and method that are not absent.
        stages: Name of a stage -> its parameters, as in the batch.
        cards: Contents of cards, that of the defaults first; the bundled ones if left out.
    """
    cards = bundled_cards() if cards is None else cards
    reasons = [_difference(selected, candidates, stages, card) for card in cards]
    if all(reasons):
        ranking = _potential(stages.get(RANK, {}))
        ranked_alike = (
            reason
            for card, reason in zip(cards, reasons, strict=True)
            if card["settings"]["ranking potential"] == ranking
        )
        return not_calibrated(next(ranked_alike, reasons[0]))
    models = cards[reasons.index("")]["models"]
    converged = [row.energy / row.n_atoms for row in candidates if row.status == "ok"]
    found = features(converged, selected.n_missing, agrees=selected.ranking_agrees)
    return Confidence(
        probability(models["les"], found), probability(models["matched"], found), CALIBRATED
    )


def not_calibrated(reason: str) -> Confidence:
    """Return that there are no odds, and why."""
    return Confidence(math.nan, math.nan, f"not calibrated: {reason}")


def odds_text(found: Confidence) -> str:
    """Return the odds in words; empty if they are not calibrated."""
    if found.calibration != CALIBRATED:
        return ""
    return (
        f"of like answers for known crystals, {100 * found.les:.0f} % were the true crystal or "
        f"lower in energy, {100 * found.matched:.0f} % the true crystal"
    )


@cache
def bundled_cards() -> tuple[dict[str, Any], ...]:
    """Return the contents of the cards, that of the defaults first."""
    paths = sorted(CARDS.glob("*.json"), key=lambda path: (path.stem != DEFAULT_CARD, path.stem))
    return tuple(dict(read_json(path)) for path in paths)


def _difference(
    selected: Candidate,
    candidates: Sequence[Candidate],
    stages: Mapping[str, Mapping[str, Any]],
    card: Mapping[str, Any],
) -> str:
    """Return how a structure differs from what was measured; empty if it does not."""
    relaxed, proposed = stages.get(POSITIONS, {}), stages.get("inpaint", {})
    known = {
        "method": selected.method,
        "element": selected.element,
        "candidates": len(candidates),
        "potential": _potential(relaxed),
        "ranking potential": _potential(stages.get(RANK, {})),
        "optimizer": relaxed.get("optimizer"),
        "fmax": relaxed.get("fmax"),
        "steps": proposed.get("steps"),
        "predictor": proposed.get("predictor"),
        "renoise": proposed.get("renoise"),
    }
    for name, measured in card["settings"].items():
        if known[name] != measured:
            return f"{name} {_text(known[name])}, measured with {_text(measured)}"
    if proposed.get("oversample", 1) > 1:
        return f"--oversample {proposed['oversample']}, measured without"
    spared = [name for name in _SPARED if relaxed.get(name)]
    if spared:
        return f"--{spared[0]}, measured without"
    weights = set(dict(proposed.get("weights", {})).values())
    if not weights or not weights <= set(card["weights"].values()):
        return "other weights of the method"
    if selected.n_atoms > card["largest"]:
        return f"{selected.n_atoms} atoms, measured up to {card['largest']}"
    return "" if selected.status == "ok" else f"the selected candidate is {selected.status}"


def _potential(stage: Mapping[str, Any]) -> str | None:
    """Return the potential of a stage: of a published file its name, else as the stage has it."""
    weights = set(dict(stage.get("weights", {})).values())
    published = (one.name for one in POTENTIALS.values() if one.sha256 in weights)
    return next(published, stage.get("mlip"))


def _text(value: Any) -> str:
    return "none" if value is None else str(value)
