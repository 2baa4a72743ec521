"""The settings of a stage as Nextflow writes them: the parameters of nextflow_schema.json."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[2]


def properties() -> dict[str, dict[str, Any]]:
    """Return all parameters: name -> what the schema says of it."""
    schema = json.loads((REPOSITORY / "nextflow_schema.json").read_text(encoding="utf-8"))
    groups = [group["properties"] for group in schema["$defs"].values()]
    return {name: spec for group in groups for name, spec in group.items()}


def defaults(stage: str) -> dict[str, Any]:
    """Return the parameters of a stage with their default values; None for those without."""
    found = {name: spec for name, spec in properties().items() if stage in spec["stages"]}
    return {name: spec.get("default") for name, spec in found.items()}


def write_settings(folder: Path, stage: str, **changes: Any) -> Path:
    """Write settings.json for a stage: the defaults, with some changes."""
    path = folder / "settings.json"
    path.write_text(json.dumps(defaults(stage) | changes), encoding="utf-8")
    return path
