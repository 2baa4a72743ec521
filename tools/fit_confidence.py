#!/usr/bin/env python3
"""Fit the odds of an answer to measured candidates; write the card of the models.

The candidates are those of tools/measure_cover.py or tools/cover_of_run.py.

For each outcome (match; match or lower) the smallest models are compared out of fold: each chemical
system is left out in turn. The best one is kept only if the 95 % bootstrap interval over systems of
its Brier score minus that of the base rate is below 0. Otherwise the base rate is kept, which holds
for the average crystal and tells nothing about one.
"""

import argparse
import hashlib
import shlex
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
from scipy.optimize import minimize
from scipy.special import expit

from xtalfill.core.errors import run_command
from xtalfill.core.io import read_json_lines, write_json
from xtalfill.interactive.settings import make_all_settings
from xtalfill.registry.mix import MIX, read_mix, schedule
from xtalfill.relax.optimizers import TITLES
from xtalfill.results.confidence import CARDS, DEFAULT_CARD, features, probability
from xtalfill.training.files import chemical_system

OUTCOMES = {"matched": "match", "les": "match or lower"}
# Few crystals: few parameters. The empty one is the base rate.
MODELS: tuple[tuple[str, ...], ...] = (
    (), ("share",), ("gap",), ("seen",), ("share", "gap"), ("share", "gap", "sites"),
)  # fmt: skip
OF_TWO: tuple[tuple[str, ...], ...] = (("agrees",), ("share", "agrees"))  # with --mlip_rank
RISING = {"share", "gap", "seen", "agrees"}  # more of it never lowers the odds
WIDTH = 3.0  # standard deviation of the normal prior of a weight
EDGES = (0.0, 0.4, 0.6, 0.8, 0.9, 1.0)  # of the reliability table
COVERAGES = (1.0, 0.8, 0.6)
SEED, DRAWS = 20250101, 2000
Array = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True)
class Measured:
    """What is known of the crystals.

    Attributes:
        found: Features of each crystal.
        outcomes: Name -> 0 or 1 for each crystal.
        systems: Chemical system of each crystal.
    """

    found: list[dict[str, float]]
    outcomes: dict[str, Array]
    systems: np.ndarray[Any, Any]


def read_measured(
    records: Sequence[dict[str, Any]], systems: dict[str, str], method: str, count: int
) -> Measured:
    """Return features and outcomes of the lowest candidate of a method.

    Args:
        records: Of each crystal.
        systems: Id -> chemical system.
        method: A source of the candidates, or method mix.
        count: Number of candidates.
    """
    found, lowest, names = [], [], []
    for record in records:
        rows = [row for row in candidates_of(record, method, count) if row["status"] == "ok"]
        if rows and record["usable"]:
            energies, agrees = [row["first"] for row in rows], record.get("agrees")
            found.append(features(energies, record["n_sites"], agrees=agrees))
            lowest.append(min(rows, key=lambda row: row["first"]))
            names.append(systems[record["id"]])
    outcomes = {name: np.array([float(row[name]) for row in lowest]) for name in OUTCOMES}
    return Measured(found, outcomes, np.array(names))


def candidates_of(record: dict[str, Any], method: str, count: int) -> list[dict[str, Any]]:
    """Return the candidates of a method; none if one of its sources was not measured.

    The record of a run (tools/cover_of_run.py) names its method, whose candidates are all it has.
    """
    if "method" in record:
        return list(record["candidates"][:count]) if record["method"] == method else []
    shares = {method: 1.0}
    if method == MIX:
        shares = dict(read_mix().shares(record["host_class"], record["n_sites"]))
    of: dict[str, list[dict[str, Any]]] = {row["source"]: [] for row in record["candidates"]}
    for row in record["candidates"]:
        if row["status"] != "absent":
            of[row["source"]].append(row)
    if not shares.keys() <= of.keys():
        return []
    plan = schedule(shares, count, capacity={name: len(rows) for name, rows in of.items()})
    return [row for name, taken in Counter(n for n, _ in plan).items() for row in of[name][:taken]]


def joined(parts: Sequence[Measured]) -> Measured:
    """Return the crystals of several files as one."""
    return Measured(
        [one for part in parts for one in part.found],
        {name: np.concatenate([part.outcomes[name] for part in parts]) for name in OUTCOMES},
        np.concatenate([part.systems for part in parts]),
    )


def fit(found: Sequence[dict[str, float]], right: Array, names: Sequence[str]) -> dict[str, Any]:
    """Return a logistic model, or the base rate by the rule of succession if it has no features.

    Args:
        found: Features of each crystal.
        right: 0 or 1 for each crystal.
        names: Features of the model; those of `RISING` get no negative weight.
    """
    if not names:
        wins = right.sum() + 1
        return {"intercept": float(np.log(wins / (len(right) + 2 - wins))), "weights": {}}
    matrix = np.array([[1.0, *(one[name] for name in names)] for one in found])

    def loss(weights: Array) -> tuple[float, Array]:
        score = matrix @ weights
        prior = np.append(0.0, weights[1:]) / WIDTH**2
        value = np.logaddexp(0.0, score).sum() - right @ score + weights @ prior / 2
        return float(value), matrix.T @ (expit(score) - right) + prior

    bounds = [(None, None), *((0.0 if name in RISING else None, None) for name in names)]
    best = minimize(loss, np.zeros(matrix.shape[1]), jac=True, bounds=bounds, method="L-BFGS-B").x
    return {
        "intercept": float(best[0]),
        "weights": dict(zip(names, best[1:].tolist(), strict=True)),
    }


def out_of_fold(measured: Measured, right: Array, names: Sequence[str]) -> Array:
    """Return the probability of each crystal by a model that saw no crystal of its system."""
    odds = np.empty(len(right))
    for system in np.unique(measured.systems):
        own = measured.systems == system
        rest = [one for one, left in zip(measured.found, own, strict=True) if not left]
        model = fit(rest, right[~own], names)
        odds[own] = [probability(model, measured.found[i]) for i in np.flatnonzero(own)]
    return odds


def calibration_error(odds: Array, right: Array) -> float:
    """Return the mean distance of rate and mean probability in the groups of `EDGES`."""
    groups = np.digitize(odds, EDGES[1:-1])
    sums = np.bincount(groups, odds - right, minlength=len(EDGES) - 1)
    return float(np.abs(sums).sum() / len(odds))


def error_if_perfect(odds: Array) -> list[float]:
    """Return the calibration error of perfect odds, from drawn outcomes: mean, 95th percentile."""
    rng = np.random.default_rng(SEED)
    errors = [calibration_error(odds, rng.random(len(odds)) < odds) for _ in range(DRAWS)]
    return [float(np.mean(errors)), float(np.percentile(errors, 95))]


def interval(value: Callable[[Any], float], systems: Any) -> list[float]:
    """Return the 95 % bootstrap interval over systems of a function of the drawn crystals."""
    rng = np.random.default_rng(SEED)
    members = [np.flatnonzero(systems == name) for name in np.unique(systems)]
    draws = (rng.integers(len(members), size=len(members)) for _ in range(DRAWS))
    values = [value(np.concatenate([members[i] for i in draw])) for draw in draws]
    return [float(bound) for bound in np.percentile(values, [2.5, 97.5])]


def risk(sureness: Array, right: Array, coverage: float) -> float:
    """Return the share of wrong answers among the surest; ties count by their mean."""
    wanted = coverage * len(right)
    wrong = left = 0.0
    for level in np.unique(sureness)[::-1]:
        group = right[sureness == level]
        taken = min(len(group), wanted - left)
        if taken <= 0:
            break
        wrong, left = wrong + taken * (1 - group.mean()), left + taken
    return float(wrong / wanted)


def scores(measured: Measured, right: Array, names: Sequence[str]) -> dict[str, Any]:
    """Return how well the odds of a model hold out of fold."""
    odds, base = (out_of_fold(measured, right, part) for part in (names, ()))
    return judged(odds, base, measured, right, fit(measured.found, right, names), names)


def transfer(known: Measured, new: Measured, outcome: str, names: Sequence[str]) -> dict[str, Any]:
    """Return how well the odds of a model that was fitted to some crystals hold for new ones."""
    models = [fit(known.found, known.outcomes[outcome], part) for part in (names, ())]
    odds, base = (np.array([probability(one, f) for f in new.found]) for one in models)
    return judged(odds, base, new, new.outcomes[outcome], models[0], names)


def judged(
    odds: Array,
    base: Array,
    measured: Measured,
    right: Array,
    model: dict[str, Any],
    names: Sequence[str],
) -> dict[str, Any]:
    """Return how well some odds hold.

    Args:
        odds: Of each crystal.
        base: Those of the base rate.
        measured: The crystals.
        right: 0 or 1 for each crystal.
        model: Orders the crystals by sureness.
        names: Features of the model.
    """
    error, trivial = (odds - right) ** 2, (base - right) ** 2
    sure = np.array([probability(model, one) for one in measured.found])
    systems = measured.systems
    return {
        "features": list(names),
        "brier": [float(error.mean()), *interval(lambda i: error[i].mean(), systems)],
        "brier_change": [
            float((error - trivial).mean()),
            *interval(lambda i: (error - trivial)[i].mean(), systems),
        ],
        "calibration_error": [
            calibration_error(odds, right),
            *interval(lambda i: calibration_error(odds[i], right[i]), systems),
        ],
        "calibration_error_if_perfect": error_if_perfect(odds),
        "wrong": {
            f"{cover:g}": [
                risk(sure, right, cover),
                *interval(lambda i, c=cover: risk(sure[i], right[i], c), systems),
            ]
            for cover in COVERAGES
        },
        "reliability": reliability(odds, right),
    }


def reliability(odds: Array, right: Array) -> list[dict[str, Any]]:
    """Return for each group of `EDGES`: crystals, mean probability and rate."""
    groups, rows = np.digitize(odds, EDGES[1:-1]), []
    for number, (low, high) in enumerate(pairwise(EDGES)):
        own = groups == number
        if own.any():
            mean, count = float(odds[own].mean()), int(right[own].sum())
            rows.append(
                {"from": low, "to": high, "mean": mean, "right": count, "of": int(own.sum())}
            )
    return rows


def choose(compared: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the best model if it is surely better than the base rate, and else the base rate."""
    best = min(compared, key=lambda one: one["brier"][0])
    return best if best["brier_change"][2] < 0 else compared[0]


def comparison_table(found: dict[str, Any], title: str, common: dict[str, Any]) -> dict[str, Any]:
    """Return the table of docs/benchmarks that compares the models."""
    columns = [
        {"key": "brier", "title": "Brier score", "digits": 3},
        {"key": "change", "title": "change against the base rate", "digits": 3},
        {"key": "error", "title": "calibration error", "digits": 3},
        {"key": "perfect", "title": "of perfect odds: mean (95th percentile)"},
        {"key": "surest", "title": "wrong, surest 80 %", "unit": "%", "digits": 1},
        {"key": "all", "title": "wrong, all", "unit": "%", "digits": 1},
    ]
    rows = []
    for outcome, compared in found.items():
        for one in compared:
            perfect = one["calibration_error_if_perfect"]
            names = " + ".join(one["features"]) or "base rate"
            cells = {
                "brier": _cell(one["brier"]),
                "change": _cell(one["brier_change"]) if one["features"] else None,
                "error": _cell(one["calibration_error"]),
                "perfect": f"{perfect[0]:.3f} ({perfect[1]:.3f})",
                "surest": _cell(one["wrong"]["0.8"], 100),
                "all": _cell(one["wrong"]["1"], 100),
            }
            label = f"{OUTCOMES[outcome]}: {names}"
            rows.append({"key": f"{outcome} {names}", "label": label, "cells": cells})
    return {"title": title, "label": "model", "columns": columns, "rows": rows} | common


def reliability_table(kept: dict[str, Any], common: dict[str, Any]) -> dict[str, Any]:
    """Return the table of docs/benchmarks that shows how the odds hold."""
    columns = [
        {"key": "mean", "title": "mean probability", "unit": "%", "digits": 0},
        {"key": "rate", "title": "right", "unit": "%", "digits": 0},
    ]
    rows = []
    for outcome, one in kept.items():
        for group in one["reliability"]:
            rate = {"value": 100 * group["right"] / group["of"]}
            rate |= {"count": group["right"], "of": group["of"]}
            label = f"{OUTCOMES[outcome]}, {group['from']:g}–{group['to']:g}"
            cells = {"mean": 100 * group["mean"], "rate": rate}
            rows.append({"key": label, "label": label, "cells": cells})
    title = "How the odds that were kept hold out of fold"
    return {"title": title, "label": "odds", "columns": columns, "rows": rows} | common


def _cell(value: Sequence[float], scale: float = 1.0) -> dict[str, float]:
    return dict(zip(("value", "low", "high"), (round(scale * v, 4) for v in value), strict=True))


def make_card(
    args: argparse.Namespace, kept: dict[str, Any], measured: Measured, transferred: dict[str, Any]
) -> dict[str, Any]:
    """Return the content of a card."""
    inpaint, relax = (make_all_settings({}).inpaint.sampler, make_all_settings({}).relax)
    return {
        "data": [path.name for path in args.measured],
        "crystals": len(measured.found),
        "systems": len(np.unique(measured.systems)),
        "largest": args.largest,
        "settings": {
            "method": args.method, "element": "H", "candidates": args.candidates,
            "potential": args.mlip, "ranking potential": args.mlip_rank,
            "optimizer": TITLES[relax.relaxation.optimizer], "fmax": relax.relaxation.fmax,
            "steps": inpaint.steps, "predictor": inpaint.predictor, "renoise": inpaint.renoise,
        },
        "weights": {args.weights.name: hashlib.sha256(args.weights.read_bytes()).hexdigest()},
        "measured_with": args.weights.name,
        "models": {
            name: fit(measured.found, measured.outcomes[name], one["features"])
            for name, one in kept.items()
        },
        "scores": kept,
        "new_crystals": transferred,
    }  # fmt: skip


def main() -> None:
    """Fit, write the card, and the tables if asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "measured", type=Path, nargs="+", help="JSON lines; the others are new to the first"
    )
    parser.add_argument(
        "--crystals", type=Path, nargs="+", required=True, help="extxyz that were measured"
    )
    parser.add_argument("--method", default=MIX, help="method, or source of the candidates")
    parser.add_argument("--candidates", type=int, default=10, help="of each crystal")
    parser.add_argument("--mlip", required=True, help="potential of the measurement")
    parser.add_argument("--mlip_rank", help="ranking potential of the measurement")
    parser.add_argument("--largest", type=int, required=True, help="atoms of the largest crystal")
    parser.add_argument("--weights", type=Path, required=True, help="weights of the measurement")
    parser.add_argument("--output", type=Path, default=CARDS / f"{DEFAULT_CARD}.json")
    parser.add_argument("--tables", type=Path, help="folder for the tables of docs/benchmarks")
    args = parser.parse_args()
    crystals = [atoms for path in args.crystals for atoms in ase.io.read(path, ":")]
    systems = {atoms.info["id"]: chemical_system(atoms.numbers) for atoms in crystals}
    parts = [
        read_measured(
            read_json_lines(path),
            systems,
            args.method,
            args.candidates,
        )
        for path in args.measured
    ]
    measured = joined(parts)
    candidates = MODELS + (OF_TWO if args.mlip_rank else ())
    found = {
        name: [scores(measured, measured.outcomes[name], names) for names in candidates]
        for name in OUTCOMES
    }
    kept = {name: choose(compared) for name, compared in found.items()}
    new = joined(parts[1:]) if len(parts) > 1 else None
    shown = {name: list(dict.fromkeys([(), tuple(one["features"])])) for name, one in kept.items()}
    transferred = {} if new is None else {
        name: [transfer(parts[0], new, name, names) for names in models]
        for name, models in shown.items()
    }  # fmt: skip
    write_json(args.output, make_card(args, kept, measured, transferred))
    if args.tables:
        words = shlex.join(["python", "tools/fit_confidence.py", *sys.argv[1:]])
        lines = words.replace(" --", " \\\n    --").split("\n")
        common = {"crystals": len(measured.found), "commands": lines}
        title = "Models of the odds of an answer, each chemical system left out in turn"
        write_json(args.tables / "confidence.json", comparison_table(found, title, common))
        write_json(args.tables / "confidence_reliability.json", reliability_table(kept, common))
        if new is not None:
            title = "Models fitted to the first crystals alone, for the others"
            table = comparison_table(transferred, title, common | {"crystals": len(new.found)})
            write_json(args.tables / "confidence_new.json", table)


if __name__ == "__main__":
    run_command(main)
