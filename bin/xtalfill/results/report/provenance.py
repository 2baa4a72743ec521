"""provenance.json: software, parameters, seeds and machines of a run."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

import xtalfill
from xtalfill.core.batch import Batch, content_sha256, read_batch
from xtalfill.core.errors import InputError
from xtalfill.core.io import read_json
from xtalfill.results.summary import count_all
from xtalfill.results.tables import Tables

# Order in which the stages run; records of other names follow.
STAGE_ORDER = (
    "check",
    "inpaint",
    "plan_potential",
    "place_potential",
    "gather_potential",
    "fetch_potential",
    "compile_potential",
    "relax",
    "select",
    "plan_dft",
    "pw_relax",
    "gather_dft",
    "evaluate",
)
_RECORD_FIELDS = {"stage", "batch", "seconds", "versions", "hardware", "parameters", "counts"}


def gather_provenance(
    tables: Tables,
    *,
    records: Iterable[Path],
    run: dict[str, Any],
) -> dict[str, Any]:
    """Return the content of provenance.json.

    Args:
        tables: All rows of the run.
        records: The --record files of all tasks.
        run: "params" (the parameters), "recipe" (those of them, and the weights, that decide the
            results; None without Nextflow) and "workflow" (name, version, licence, contributors,
            git revision, version of Nextflow, profile, container engine).

    Raises:
        InputError: A record cannot be read.
    """
    found = [_read_record(path) for path in sorted(records)]
    return {
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "xtalfill": xtalfill.__version__,
        "git_revision": run["workflow"].get("revision"),
        "workflow": run["workflow"],
        "parameters": run["params"],
        "recipe": run.get("recipe"),
        "seeds": sorted({row.seed for row in tables.candidates}),
        "weights": _merge_weights(found),
        "versions": _merge_versions(found),
        "hardware": _unique(record["hardware"] for record in found),
        "stages": _stages(found),
        "batches": [_describe(path) for path in sorted(set(tables.batch_of.values()))],
        "counts": count_all(tables),
    }


def _read_record(path: Path) -> dict[str, Any]:
    record = read_json(path)
    missing = _RECORD_FIELDS - set(record)
    if missing:
        raise InputError(f"{path}: not a record of a task: it lacks {sorted(missing)[0]}")
    return dict(record)


def _stages(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Summarise the tasks of each stage, in the order of the pipeline."""
    grouped: dict[str, list[dict[str, Any]]] = {}
    for record in records:
        grouped.setdefault(record["stage"], []).append(record)
    order = {name: number for number, name in enumerate(STAGE_ORDER)}
    names = sorted(grouped, key=lambda name: (order.get(name, len(order)), name))
    return [
        {
            "stage": name,
            "tasks": len(grouped[name]),
            "seconds_sum": round(sum(record["seconds"] for record in grouped[name]), 3),
            "seconds_max": max(record["seconds"] for record in grouped[name]),
            "counts": _sum_counts(record["counts"] for record in grouped[name]),
            "parameters": _unique(record["parameters"] for record in grouped[name]),
        }
        for name in names
    ]


def _sum_counts(counts: Iterable[dict[str, int]]) -> dict[str, int]:
    total: dict[str, int] = {}
    for count in counts:
        for name, value in count.items():
            total[name] = total.get(name, 0) + value
    return total


def _merge_weights(records: list[dict[str, Any]]) -> dict[str, list[str]]:
    merged: dict[str, set[str]] = {}
    for record in records:
        for name, digest in record.get("weights", {}).items():
            merged.setdefault(name, set()).add(digest)
    return {name: sorted(digests) for name, digests in sorted(merged.items())}


def _merge_versions(records: list[dict[str, Any]]) -> dict[str, list[str]]:
    """Return all versions of each package; there are several if containers differ."""
    merged: dict[str, set[str]] = {}
    for record in records:
        for name, number in record["versions"].items():
            merged.setdefault(name, set()).add(str(number))
    return {name: sorted(numbers) for name, numbers in sorted(merged.items())}


def _unique(items: Iterable[Any]) -> list[Any]:
    return [json.loads(text) for text in sorted({json.dumps(i, sort_keys=True) for i in items})]


def _describe(path: Path) -> dict[str, Any]:
    batch: Batch = read_batch(path)
    return {
        "file": path.name,
        "content_sha256": content_sha256(batch),
        "n_systems": batch.n_systems,
        "n_structures": len(np.unique(batch.id)),
        "stages": {name: stage.attrs for name, stage in batch.stages.items()},
    }
