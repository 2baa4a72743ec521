"""The odds of an answer: their features, the card they are tied to, and the fit."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from hand_made_batches import Case, Made, brucite, build
from tool_runs import tool_module
from xtalfill.core.batch import Stage
from xtalfill.evaluate.match import evaluate_batch
from xtalfill.interactive.settings import make_all_settings
from xtalfill.registry.potentials import POTENTIALS
from xtalfill.results.candidate_source import CandidateSource
from xtalfill.results.candidates import CandidateRow
from xtalfill.results.columns import make_row
from xtalfill.results.confidence import (
    CALIBRATED,
    bundled_cards,
    confidence,
    features,
    odds_text,
    probability,
)

CARD = bundled_cards()[0] | {
    "models": {
        "les": {"intercept": 2.0, "weights": {}},
        "matched": {"intercept": -1.0, "weights": {"share": 2.0, "gap": 1.0}},
    }
}


@pytest.fixture(scope="module")
def selected() -> CandidateRow:
    batch = build([Case("mg", brucite(), 2, [Made()])])
    batch.stages["evaluate"] = evaluate_batch(batch)
    row = make_row(CandidateRow, CandidateSource(batch, 0, "Mg(OH)2"))
    return replace(row, method=CARD["settings"]["method"])


def stages(**changed: Any) -> dict[str, dict[str, Any]]:
    settings = CARD["settings"]
    weights = CARD["weights"]
    inpaint = {name: settings[name] for name in ("steps", "predictor", "renoise")}
    return {
        "inpaint": inpaint | {"weights": weights},
        "relax_positions": {"mlip": "7net-0", "optimizer": "L-BFGS", "fmax": 0.05} | changed,
    }


def test_features_of_two_minima() -> None:
    found = features([-1.0, -0.9995, -0.975, -0.9], 2, agrees=False)
    expected = {"share": 0.5, "gap": 0.5, "seen": 0.5, "sites": math.log(2), "agrees": 0.0}
    assert found == pytest.approx(expected)
    alone = {"share": 1.0, "gap": 1.0, "seen": 0.0, "sites": 0.0, "agrees": 1.0}
    assert features([-1.0], 1, agrees=None) == alone


def test_odds_rise_with_share_and_gap_and_stay_probabilities() -> None:
    model = CARD["models"]["matched"]
    by_share = [probability(model, {"share": n / 10, "gap": 0.2}) for n in range(1, 11)]
    by_gap = [probability(model, {"share": 0.5, "gap": n / 10}) for n in range(11)]
    for odds in (by_share, by_gap):
        assert odds == sorted(odds)
        assert 0.0 < odds[0] < odds[-1] < 1.0


def test_the_measured_combination_is_calibrated(selected: CandidateRow) -> None:
    found = confidence(selected, [selected] * 10, stages(), cards=[CARD])
    assert found.calibration == CALIBRATED
    assert found.les == pytest.approx(1 / (1 + math.exp(-2)))
    assert "88 % were the true crystal or lower" in odds_text(found)


@pytest.mark.parametrize(
    ("change", "stage", "says"),
    [
        ({"method": "td"}, {}, "method td, measured with mix"),
        ({"element": "Li"}, {}, "element Li"),
        ({"n_atoms": 21}, {}, "21 atoms"),
        ({"status": "unconverged"}, {}, "unconverged"),
        ({}, {"mlip": "oam-small"}, "potential oam-small"),
        ({}, {"optimizer": "FIRE"}, "optimizer FIRE, measured with L-BFGS"),
        ({}, {"stop_below": 0.1}, "--stop_below"),
    ],
)
def test_another_combination_is_not_calibrated(
    selected: CandidateRow, change: dict[str, Any], stage: dict[str, Any], says: str
) -> None:
    row = replace(selected, **change)
    found = confidence(row, [row] * 10, stages(**stage), cards=[CARD])
    assert found.calibration.startswith("not calibrated: ")
    assert says in found.calibration
    assert math.isnan(found.les)
    assert math.isnan(found.matched)
    assert odds_text(found) == ""


def test_samples_ranking_and_weights_count(selected: CandidateRow) -> None:
    few = confidence(selected, [selected] * 9, stages(), cards=[CARD])
    assert "candidates 9" in few.calibration
    ranked = stages() | {"relax_rank": {"mlip": "nequix-mp-1"}}
    assert "ranking potential" in confidence(selected, [selected] * 10, ranked).calibration
    more = stages()
    more["inpaint"]["oversample"] = 4
    assert "--oversample 4" in confidence(selected, [selected] * 10, more).calibration
    own = stages()
    own["inpaint"]["weights"] = {"host.pt": "0"}
    assert "other weights" in confidence(selected, [selected] * 10, own).calibration


def test_the_default_ranking_has_a_card_of_its_own(selected: CandidateRow) -> None:
    published = {"nequix-oam-1.nqx": POTENTIALS["nequix-oam-1"].sha256}
    ranked = stages() | {"relax_rank": {"mlip": "nequix-oam-1.nqx", "weights": published}}
    other = stages() | {"relax_rank": {"mlip": "nequix-oam-1.nqx", "weights": {"a.nqx": "0"}}}
    why = confidence(selected, [selected] * 10, other).calibration
    assert "ranking potential nequix-oam-1.nqx" in why  # a file of the same name
    found = confidence(selected, [selected] * 10, ranked)
    assert found.calibration == CALIBRATED
    assert found != confidence(selected, [selected] * 10, stages())
    few = confidence(selected, [selected] * 9, ranked).calibration
    assert few == "not calibrated: candidates 9, measured with 10"  # by the card of this ranking


def test_the_card_is_that_of_the_defaults() -> None:
    settings = make_all_settings({})
    measured = bundled_cards()[0]["settings"]
    assert measured["method"] == ",".join(settings.check.methods)
    assert measured["potential"] == settings.relax.mlip
    assert measured["candidates"] == settings.relax.samples
    assert measured["fmax"] == settings.relax.relaxation.fmax


def test_the_candidates_of_the_mix_are_taken_in_its_order() -> None:
    tool = tool_module("fit_confidence")
    counts = {"host": 10, "voids": 4, "symmetric": 3}
    rows = [
        {"source": name, "status": "ok", "first": float(k)}
        for name, count in counts.items()
        for k in range(count)
    ]
    record = {"host_class": "metal", "n_sites": 2, "candidates": rows}
    taken = Counter(row["source"] for row in tool.candidates_of(record, "mix", 10))
    assert taken == {"host": 6, "symmetric": 3, "voids": 1}
    rows[15]["status"] = rows[16]["status"] = "absent"  # one orbit
    taken = Counter(row["source"] for row in tool.candidates_of(record, "mix", 10))
    assert taken == {"host": 8, "symmetric": 1, "voids": 1}
    run = {"method": "mix", "candidates": rows[5:12]}
    assert tool.candidates_of(run, "mix", 10) == rows[5:12]
    assert tool.candidates_of(run, "host", 10) == []
    salt = record | {"host_class": "salt"}
    assert {row["source"] for row in tool.candidates_of(salt, "mix", 10)} == {"host"}
    alone = record | {"candidates": rows[:10]}  # symmetric and voids were not measured
    assert tool.candidates_of(alone, "mix", 10) == []


def test_odds_for_new_crystals_come_from_the_others() -> None:
    tool = tool_module("fit_confidence")
    rng = np.random.default_rng(1)
    parts = []
    for _ in range(2):
        share = rng.random(300)
        right = (rng.random(300) < share).astype(float)
        names = np.array([f"system {k}" for k in range(300)])
        found = [{"share": one} for one in share]
        parts.append(tool.Measured(found, {"matched": right, "les": right}, names))
    shown = tool.transfer(parts[0], parts[1], "matched", ["share"])
    assert shown["brier_change"][2] < 0
    assert shown["wrong"]["0.6"][0] < shown["wrong"]["1"][0]
    assert sum(group["of"] for group in shown["reliability"]) == 300


def test_the_records_of_a_run_are_judged_by_its_first_potential() -> None:
    tool = tool_module("cover_of_run")
    batch = build([Case("mg", brucite(), 2, [Made(), Made(relaxed=(0, 0, 2.2), energy=0.5)])])
    batch.stages["inpaint"].arrays["source"] = np.full(batch.n_systems, "host", dtype=object)
    rank = batch.stages["relax_positions"].arrays
    second = {name: array.copy() for name, array in rank.items()}
    second["energy"][0] += 9.0
    batch.stages["relax_rank"] = Stage(second, {})
    batch.status[0] = "unconverged"  # of the second
    (ranked,) = tool.records_of(batch)
    first, other = ranked["candidates"]
    assert (first["status"], ranked["relaxed"]) == ("unconverged", "relax_rank")
    assert other["first"] - first["first"] == pytest.approx(0.1 - 9.0 / 5)
    (record,) = tool.records_of(tool.by_first_potential(batch))
    first, other = record["candidates"]
    assert (first["status"], first["matched"], first["les"]) == ("ok", True, True)
    assert not other["matched"]
    assert other["first"] - first["first"] == pytest.approx(0.1)
    assert (record["host_class"], record["n_sites"], record["usable"]) == ("salt", 2, True)


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
