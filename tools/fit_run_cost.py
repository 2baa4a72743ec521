#!/usr/bin/env python3
"""Fit the cost model of a run (assets/run_cost.json) to the traces of finished runs.

Of each stage the core-seconds of a task are `task` + `atom` x S, where S is the sum over its
candidates of n_atoms^`exponent`; lib/RunPlan.groovy evaluates this. INPAINT counts a candidate once
for every 100 evaluations of the network. The core time of a task is its time multiplied by the
share of the processor that it had, so other work on the machine does not count.
"""

import argparse
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from scipy.optimize import least_squares, nnls

from xtalfill.core.errors import ConfigError, run_command
from xtalfill.core.io import read_json, write_json
from xtalfill.monitor.tasks import COMPLETED, Task, read_trace

EXPONENTS = (1.0, 1.25, 1.5)
LEAST_TASKS = 4
RANKED = "RELAX with a second potential"

Point = dict[str, Any]
Key = tuple[str, str]  # stage; method or potential
Points = dict[Key, list[Point]]
Models = dict[Key, dict[str, float]]


def measured(outdir: Path) -> Iterator[tuple[Key, Point]]:
    """Yield stage and model, and the point of each task of a finished run.

    A run with several methods tells nothing of INPAINT, as a task is of all of them.
    """
    parameters = read_json(outdir / "provenance.json")["parameters"]
    methods, samples = parameters["method"].split(","), parameters["samples"]
    evaluations = parameters["steps"] / 100 * (1 + parameters["corrector_steps"])
    rank = parameters["mlip_rank"]
    relax = (RANKED, f"{parameters['mlip']} {rank}") if rank else ("RELAX", parameters["mlip"])
    keys = {"RELAX": relax, "SELECT": ("SELECT", ""), "EVALUATE": ("EVALUATE", "")}
    if len(methods) == 1:
        keys["INPAINT"] = ("INPAINT", methods[0])
    atoms = defaultdict(list)
    for one in read_json(outdir / "pipeline_info" / "check.json")["structures"]:
        atoms[one["batch"].removesuffix(".h5")].append(one["n_atoms"])
    for task in read_trace(outdir / "pipeline_info" / "trace.txt"):
        if task.process in keys and task.status == COMPLETED and task.cpu_seconds:
            more = parameters["oversample"] * evaluations if task.process == "INPAINT" else 1
            yield (
                keys[task.process],
                {
                    "atoms": sorted(atoms[task.tag]),
                    "times": len(methods) * samples * more,
                    "core_seconds": round(task.cpu_seconds, 2),
                },
            )


def second(points: Points, models: Models) -> Points:
    """Return the points of second potentials: what their tasks took beyond the first one."""
    found: Points = defaultdict(list)
    for (stage, names), tasks in points.items():
        first, _, rank = names.partition(" ")
        if stage == RANKED and ("RELAX", first) in models:
            for point in tasks:
                rest = point["core_seconds"] - expected(models["RELAX", first], point)
                more = round(max(rest, 0.1 * point["core_seconds"]), 2)
                found["RELAX_RANK", rank].append({**point, "core_seconds": more})
    return found


def size(point: Point, exponent: float) -> float:
    """Return S of a task."""
    return float(point["times"] * np.sum(np.power(point["atoms"], exponent)))


def expected(model: dict[str, Any], point: Point) -> float:
    """Return the core-seconds that a model expects of a task."""
    return float(model["task"] + model["atom"] * size(point, model["exponent"]))


def fit(points: list[Point]) -> dict[str, float]:
    """Fit the logarithm of the time with task and atom > 0, and take the best exponent."""
    seconds = np.array([point["core_seconds"] for point in points])
    found = []
    for exponent in EXPONENTS:
        sizes = np.array([size(point, exponent) for point in points])
        start = np.log([seconds.min() / 2, seconds.mean() / sizes.mean() / 2])

        def off(logs: np.ndarray, sizes: np.ndarray = sizes) -> np.ndarray:
            return np.log((np.exp(logs[0]) + np.exp(logs[1]) * sizes) / seconds)

        result = least_squares(off, start, loss="soft_l1")
        task, atom = np.exp(result.x)
        model = {"task": round(float(task), 3), "atom": float(f"{atom:.4g}"), "exponent": exponent}
        found.append((result.cost, model))
    return min(found, key=lambda item: item[0])[1]


def fit_all(points: Points) -> Models:
    """Fit each model that has enough tasks; print them."""
    models = {key: fit(found) for key, found in points.items() if len(found) >= LEAST_TASKS}
    for key, found in points.items():
        print(*key, f"{len(found)} tasks", models.get(key, f"needs at least {LEAST_TASKS}"))
    return models


def spread(models: Models, points: Points) -> float:
    """Return the factor within which two of three tasks of INPAINT and RELAX are."""
    ratios = [
        expected(models[key], point) / point["core_seconds"]
        for key, found in points.items()
        if key[0] in {"INPAINT", "RELAX"} and key in models
        for point in found
    ]
    return round(float(np.exp(np.quantile(np.abs(np.log(ratios)), 2 / 3))), 2)


def disk_bytes(outdir: Path) -> tuple[list[float], float]:
    """Return [1, tasks, atoms of all candidates] and the bytes of a run's task folders."""
    tasks: list[Task] = read_trace(outdir / "pipeline_info" / "trace.txt")
    check = read_json(outdir / "pipeline_info" / "check.json")
    parameters = check["parameters"]
    candidates = len(parameters["methods"]) * parameters["samples"]
    atoms = candidates * sum(one["n_atoms"] for one in check["structures"])
    files = [file for task in tasks for file in task.folder.rglob("*")]
    used = sum(-(-file.stat().st_size // 4096) * 4096 for file in files if not file.is_symlink())
    return [1.0, float(len(tasks)), float(atoms)], float(used)


def with_new_stages(old: dict[str, Any], stages: list[dict[str, Any]]) -> dict[str, Any]:
    """Return an earlier result with the stages that it lacks."""
    known = {(one["stage"], one["name"]) for one in old["stages"]}
    new = [one for one in stages if (one["stage"], one["name"]) not in known]
    both = sorted([*old["stages"], *new], key=lambda one: (one["stage"], one["name"]))
    return {**old, "stages": both}


def main() -> None:
    """Fit the models and write them with their data."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=Path, nargs="+", required=True, help="--outdir of the runs")
    parser.add_argument("--machine", required=True, help="description of the machine")
    parser.add_argument("--output", type=Path, required=True, help="JSON to write")
    parser.add_argument(
        "--add", action="store_true", help="only add to --output the models that it lacks"
    )
    args = parser.parse_args()
    points: Points = defaultdict(list)
    for outdir in args.runs:
        for key, point in measured(outdir):
            points[key].append(point)
    models = fit_all({key: found for key, found in points.items() if key[0] != RANKED})
    points |= (ranked := second(points, models))
    models |= fit_all(ranked)
    if not models:
        raise ConfigError(f"no stage with {LEAST_TASKS} tasks; give more runs")
    stages = [
        {"stage": stage, "name": name, **models[stage, name], "tasks": points[stage, name]}
        for stage, name in sorted(models)
    ]
    if args.add:
        write_json(args.output, with_new_stages(read_json(args.output), stages))
        return
    numbers, used = zip(*(disk_bytes(outdir) for outdir in args.runs), strict=True)
    (report, task, atom), _ = nnls(np.array(numbers), np.array(used))
    content = {
        "machine": args.machine,
        "spread": spread(models, points),
        "disk": {"run": round(report), "task": round(task), "atom": round(atom)},
        "stages": stages,
    }
    write_json(args.output, content)


if __name__ == "__main__":
    run_command(main)
