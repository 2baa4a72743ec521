"""The odds of an answer: their features, the card they are tied to, and the fit."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from hand_made_batches import Case, Made, brucite, build
from tool_runs import tool_module
from xtalfill.evaluate.match import evaluate_batch
from xtalfill.results.candidate_source import CandidateSource
from xtalfill.results.candidates import CandidateRow
from xtalfill.results.columns import make_row
from xtalfill.results.confidence import (
    CALIBRATED,
    bundled_card,
    confidence,
    features,
    odds_text,
    probability,
)

CARD = bundled_card() | {
    "models": {
        "les": {"intercept": 2.0, "weights": {}},
        "matched": {"intercept": -1.0, "weights": {"share": 2.0, "gap": 1.0}},
    }
}


@pytest.fixture(scope="module")
def selected() -> CandidateRow:
    batch = build([Case("mg", brucite(), 2, [Made()])])
    batch.stages["evaluate"] = evaluate_batch(batch)
    return make_row(CandidateRow, CandidateSource(batch, 0, "Mg(OH)2"))


def stages(**changed: Any) -> dict[str, dict[str, Any]]:
    settings = CARD["settings"]
    weights = CARD["weights"]
    inpaint = {name: settings[name] for name in ("steps", "predictor", "renoise")}
    return {
        "inpaint": inpaint | {"weights": weights},
        "relax_positions": {"mlip": "7net-0", "fmax": 0.05} | changed,
    }


def test_features_of_two_minima() -> None:
    found = features([-1.0, -0.9995, -0.975, -0.9], 2)
    assert found == pytest.approx({"share": 0.5, "gap": 0.5, "seen": 0.5, "sites": math.log(2)})
    assert features([-1.0], 1) == {"share": 1.0, "gap": 1.0, "seen": 0.0, "sites": 0.0}


def test_odds_rise_with_share_and_gap_and_stay_probabilities() -> None:
    model = CARD["models"]["matched"]
    by_share = [probability(model, {"share": n / 10, "gap": 0.2}) for n in range(1, 11)]
    by_gap = [probability(model, {"share": 0.5, "gap": n / 10}) for n in range(11)]
    for odds in (by_share, by_gap):
        assert odds == sorted(odds)
        assert 0.0 < odds[0] < odds[-1] < 1.0


def test_the_measured_combination_is_calibrated(selected: CandidateRow) -> None:
    found = confidence(selected, [selected] * 10, stages(), card=CARD)
    assert found.calibration == CALIBRATED
    assert found.les == pytest.approx(1 / (1 + math.exp(-2)))
    assert "88 % were the true crystal or lower" in odds_text(found)


@pytest.mark.parametrize(
    ("change", "stage", "says"),
    [
        ({"method": "td"}, {}, "method td, measured with host"),
        ({"element": "Li"}, {}, "element Li"),
        ({"n_atoms": 21}, {}, "21 atoms"),
        ({"status": "unconverged"}, {}, "unconverged"),
        ({}, {"mlip": "oam-small"}, "potential oam-small"),
        ({}, {"stop_below": 0.1}, "--stop_below"),
    ],
)
def test_another_combination_is_not_calibrated(
    selected: CandidateRow, change: dict[str, Any], stage: dict[str, Any], says: str
) -> None:
    row = replace(selected, **change)
    found = confidence(row, [row] * 10, stages(**stage), card=CARD)
    assert found.calibration.startswith("not calibrated: ")
    assert says in found.calibration
    assert math.isnan(found.les)
    assert math.isnan(found.matched)
    assert odds_text(found) == ""


def test_samples_ranking_and_weights_count(selected: CandidateRow) -> None:
    few = confidence(selected, [selected] * 9, stages(), card=CARD)
    assert "candidates 9" in few.calibration
    ranked = stages() | {"relax_rank": {"mlip": "nequix-oam-1"}}
    assert "ranking potential" in confidence(selected, [selected] * 10, ranked).calibration
    own = stages()
    own["inpaint"]["weights"] = {"host.pt": "0"}
    assert "other weights" in confidence(selected, [selected] * 10, own).calibration


def test_fit_recovers_a_known_model() -> None:
    tool = tool_module("fit_confidence")
    rng = np.random.default_rng(1)
    found = [{"share": s} for s in rng.random(4000)]
    true = {"intercept": -1.0, "weights": {"share": 3.0}}
    right = (rng.random(4000) < [probability(true, one) for one in found]).astype(float)
    model = tool.fit(found, right, ["share"])
    assert model["intercept"] == pytest.approx(-1.0, abs=0.2)
    assert model["weights"]["share"] == pytest.approx(3.0, abs=0.4)
    assert tool.fit(found, 1 - right, ["share"])["weights"]["share"] == 0.0  # never falls
    rate = probability(tool.fit(found, right, []), {})
    assert rate == pytest.approx((right.sum() + 1) / 4002)


def test_the_base_rate_is_kept_unless_a_model_is_surely_better() -> None:
    tool = tool_module("fit_confidence")
    base = {"brier": [0.20], "brier_change": [0.0, 0.0, 0.0]}
    unsure = {"brier": [0.15], "brier_change": [-0.05, -0.1, 0.01]}
    sure = {"brier": [0.15], "brier_change": [-0.05, -0.1, -0.01]}
    assert tool.choose([base, unsure]) is base
    assert tool.choose([base, sure]) is sure


def test_risk_of_the_surest() -> None:
    tool = tool_module("fit_confidence")
    sure, right = np.array([0.9, 0.9, 0.5, 0.5]), np.array([1.0, 1.0, 1.0, 0.0])
    assert tool.risk(sure, right, 1.0) == 0.25
    assert tool.risk(sure, right, 0.5) == 0.0
    assert tool.risk(sure, right, 0.75) == pytest.approx(0.5 / 3)  # ties: mean over the orders
