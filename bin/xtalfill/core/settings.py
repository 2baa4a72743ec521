"""Read the settings of a stage: the values of the pipeline's parameters that the stage uses.

Nextflow writes them into one flat JSON file for each task, under the names of the parameters. Each
stage has one dataclass for them. A field is named after its parameter, or `parameter` gives the
parameter's name; a field that is a dataclass itself takes its values from the same file.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from xtalfill.core.errors import ConfigError

_KEY = "parameter"
_WORDS = {bool: "true or false", int: "an integer", float: "a number", str: "a text"}
T = TypeVar("T")


def parameter(name: str | None) -> Mapping[str, str | None]:
    """Return the metadata of a field with another name than its parameter.

    Args:
        name: Name of the parameter; None for a field that no parameter sets.
    """
    return {_KEY: name}


def parameters_of(kind: type) -> dict[str, Any]:
    """Return the parameters that a dataclass of settings needs: name -> type."""
    hints = get_type_hints(kind)
    found: dict[str, Any] = {}
    for item in fields(kind):
        name = item.metadata.get(_KEY, item.name)
        if is_dataclass(hints[item.name]):
            found |= parameters_of(hints[item.name])
        elif name is not None:
            found[name] = hints[item.name]
    return found


def read_settings(path: Path, kind: type[T]) -> T:
    """Read the settings of a stage.

    Args:
        path: JSON object that holds each parameter of `kind` and no other; null for one that has
            no value.
        kind: The dataclass of the stage's settings.

    Raises:
        ConfigError: The file cannot be read, a parameter is missing, unknown or of another type,
            or `kind` refuses a value.
    """
    try:
        given = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: not readable JSON ({' '.join(str(error).split())})") from error
    if not isinstance(given, dict):
        raise ConfigError(f"{path}: not a JSON object with the names of parameters")
    return make_settings(given, kind, source=str(path))


def make_settings(given: Mapping[str, Any], kind: type[T], *, source: str) -> T:
    """Return the settings of a stage from the values of its parameters.

    Args:
        given: Each parameter of `kind` and no other; None for one that has no value.
        kind: The dataclass of the stage's settings.
        source: Where the values are from, for messages.

    Raises:
        ConfigError: A parameter is missing, unknown or of another type, or `kind` refuses a value.
    """
    known = parameters_of(kind)
    for name in sorted(known.keys() - given.keys()):
        raise ConfigError(f"{source}: the parameter {name} is missing")
    for name in sorted(given.keys() - known.keys()):
        raise ConfigError(f"{source}: the parameter {name} is unknown to this stage")
    return _build(kind, {name: _value(name, given[name], known[name]) for name in known})


def _build(kind: type[T], values: Mapping[str, Any]) -> T:
    """Return the dataclass with its parameters, and with those of the dataclasses inside."""
    hints = get_type_hints(kind)
    arguments = {}
    for item in fields(kind):  # type: ignore[arg-type]
        name = item.metadata.get(_KEY, item.name)
        if is_dataclass(hints[item.name]):
            arguments[item.name] = _build(hints[item.name], values)
        elif name is not None:
            arguments[item.name] = values[name]
    return kind(**arguments)


def _value(name: str, value: Any, kind: Any) -> Any:
    """Return a value as its type wants it.

    Raises:
        ConfigError: It has another type.
    """
    if get_origin(kind) in (Union, UnionType):
        kinds = [one for one in get_args(kind) if one is not NoneType]
        if value is None or type(value) in kinds:
            return value
        kind = kinds[0]
    if get_origin(kind) is Literal:
        if value not in get_args(kind):
            raise ConfigError(f"{name} is {value!r}; choose from {', '.join(get_args(kind))}")
        return value
    if kind is float and type(value) is int:
        return float(value)
    if type(value) is not kind:
        raise ConfigError(f"{name} is {json.dumps(value)}; it must be {_WORDS[kind]}")
    return value
