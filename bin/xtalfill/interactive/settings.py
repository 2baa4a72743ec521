"""The settings of the stages for a restoration in the process: the pipeline's, with changes."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from xtalfill.core.errors import ConfigError
from xtalfill.core.files import SCHEMA
from xtalfill.core.io import read_json
from xtalfill.core.settings import make_settings
from xtalfill.inputs.check import CheckSettings
from xtalfill.interactive.potential_files import PotentialFiles
from xtalfill.proposals.stage import InpaintSettings, known_methods
from xtalfill.registry.methods import METHODS
from xtalfill.relax.settings import RelaxStageSettings

T = TypeVar("T")


@dataclass(frozen=True)
class Settings:
    """The settings of the stages that restore a structure.

    Attributes:
        check: Of CHECK.
        inpaint: Of INPAINT.
        relax: Of RELAX, with the paths of model files.
        models: Weights to use instead of the bundled ones.
    """

    check: CheckSettings
    inpaint: InpaintSettings
    relax: RelaxStageSettings
    models: tuple[Path, ...] = ()


def make_all_settings(changes: Mapping[str, Any]) -> Settings:
    """Return the settings of all stages.

    Args:
        changes: Parameters of the pipeline and their values; None takes the default.

    Raises:
        ConfigError: A value has the wrong type or cannot be used, or the schema is missing.
    """
    given = {name: _plain(value) for name, value in changes.items() if value is not None}
    parameters = pipeline_parameters()
    given = _in_full(parameters, given)
    store = given.get("potential_dir")
    files = PotentialFiles(None if store is None else Path(store))
    mlip = str(given.get("mlip", parameters["mlip"]["default"]))
    given["mlip_rank"] = files.ranking(mlip, given.get("mlip_rank"))
    given = files.located(given)
    relax = _of_stage("relax", RelaxStageSettings, parameters, given)
    check = _of_stage("check", CheckSettings, parameters, given)
    _check_methods(check.methods)
    return Settings(
        check=check,
        inpaint=_of_stage("inpaint", InpaintSettings, parameters, given),
        relax=relax.on_this_machine(
            mlip_file=files.of(relax.mlip),
            mlip_rank_file=None if relax.mlip_rank is None else files.of(relax.mlip_rank),
            threads=min(parameters["relax_cpus"]["default"], len(os.sched_getaffinity(0))),
        ),
        models=_weights(given.get("model")),
    )


def _weights(model: str | None) -> tuple[Path, ...]:
    """Return the paths of weights, which commas separate."""
    paths = tuple(Path(name.strip()) for name in (model or "").split(",") if name.strip())
    for path in paths:
        if not path.exists():
            raise ConfigError(f"model '{path}' does not exist; name a file or folder of weights")
    return paths


def _in_full(parameters: Mapping[str, Mapping[str, Any]], given: dict[str, Any]) -> dict[str, Any]:
    """Return what the schema's `words` stand for; what is given beside them counts."""
    for name, spec in parameters.items():
        meant = spec.get("words", {}).get(str(given.get(name)), {})
        given = meant | given | {key: meant[key] for key in meant if key == name}
    return given


def pipeline_parameters() -> dict[str, dict[str, Any]]:
    """Return the parameters of the pipeline: name -> what the schema says of it.

    Raises:
        ConfigError: The schema is not beside the package.
    """
    if not SCHEMA.is_file():
        raise ConfigError(f"{SCHEMA}: no such file; install xtalfill from its whole checkout")
    groups = read_json(SCHEMA)["$defs"].values()
    return {name: spec for group in groups for name, spec in group["properties"].items()}


def _of_stage(
    stage: str,
    kind: type[T],
    parameters: Mapping[str, Mapping[str, Any]],
    given: Mapping[str, Any],
) -> T:
    """Return the settings of one stage: the defaults with the given values."""
    own = {name: spec for name, spec in parameters.items() if stage in spec["stages"]}
    values = {name: given.get(name, spec.get("default")) for name, spec in own.items()}
    return make_settings(values, kind, source=SCHEMA.name)


def _check_methods(methods: tuple[str, ...]) -> None:
    for name in known_methods(list(methods)):
        if METHODS[name].stage != "inpaint":
            raise ConfigError(f"method {name} runs pw.x; use it with nextflow run main.nf")


def _plain(value: Any) -> Any:
    """Return a number of numpy as one of Python, and a path as text."""
    if isinstance(value, np.generic):
        return value.item()
    return str(value) if isinstance(value, Path) else value
