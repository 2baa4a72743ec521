"""Weights files: tensors and plain values only, checked before they are trusted."""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from xtalfill.core.checksums import check_file
from xtalfill.core.errors import ConfigError
from xtalfill.core.io import replacing
from xtalfill.models.gemnet import GemNetConfig, GemNetScore, config_from_shapes
from xtalfill.models.hostnet import HostNet, HostNetConfig

FORMAT = "xtalfill-hostnet"
GEMNET_FORMAT = "xtalfill-gemnet"
VERSION = 1
ScoreNetwork = HostNet | GemNetScore
_LARGEST_VALUE = 4096  # of any number in a configuration; keeps a forged file from eating memory


def save_weights(
    model: ScoreNetwork, path: str | Path, *, training: dict[str, Any], half: bool = True
) -> None:
    """Write a model; the format in the file names its architecture.

    Args:
        model: The network.
        path: The file to write.
        training: How it was trained; plain values only.
        half: Store what was trained in half precision, else in single.
    """
    content = {
        "format": FORMAT if isinstance(model, HostNet) else GEMNET_FORMAT,
        "version": VERSION,
        "config": model.config.to_dict(),
        "training": training,
        "state": _stored_state(model, half=half),
    }
    # An open file: torch writes the name of a path into the archive.
    with replacing(Path(path)) as temporary, temporary.open("wb") as file:
        torch.save(content, file)


def _stored_state(model: ScoreNetwork, *, half: bool) -> dict[str, Tensor]:
    """Return a state dict to write; what two names share is still shared."""
    constants = {name for name, _ in model.named_buffers()}
    stored: dict[tuple[int, torch.Size, bool], Tensor] = {}
    state = {}
    for name, value in model.state_dict().items():
        shorten = half and name not in constants
        key = (value.data_ptr(), value.shape, shorten)
        if key not in stored:
            stored[key] = (value.half() if shorten else value.float()).cpu().contiguous()
        state[name] = stored[key]
    return state


def load_weights(path: str | Path) -> ScoreNetwork:
    """Read a model of either architecture, ready for inference on the CPU in single precision.

    Args:
        path: A file that `save_weights` wrote.

    Raises:
        ConfigError: The file is missing, damaged, foreign or does not fit the network.
    """
    check_file(path)
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile,
            pickle.UnpicklingError) as error:  # fmt: skip
        reason = str(error).split("\n")[0][:120] or "empty or cut off"
        raise ConfigError(f"{path}: not a readable weights file ({reason})") from error
    if not isinstance(content, dict) or content.get("format") not in (FORMAT, GEMNET_FORMAT):
        raise ConfigError(
            f"{path}: not an {FORMAT} file nor an {GEMNET_FORMAT} file; give --model one that "
            "`xtalfill train` wrote"
        )
    make = _make_hostnet if content["format"] == FORMAT else _make_gemnet
    if content.get("version") != VERSION:
        raise ConfigError(f"{path}: weights version {content.get('version')}, expected {VERSION}")
    return _filled(make, content, path).eval()


def _filled(
    make: Callable[[Any, dict[str, Tensor]], ScoreNetwork],
    content: dict[str, Any],
    path: str | Path,
) -> ScoreNetwork:
    """Return the network that a file describes, with the tensors it holds."""
    try:
        state = {name: value.float() for name, value in content["state"].items()}
    except (KeyError, AttributeError) as error:
        raise ConfigError(f"{path}: its tensors do not fit the network it describes") from error
    broken = [name for name, value in state.items() if not torch.isfinite(value).all()]
    if broken:
        raise ConfigError(f"{path}: {broken[0]} holds numbers that are not finite")
    try:
        model = make(content.get("config"), state)
    except ValueError as error:
        raise ConfigError(f"{path}: its configuration fits no network ({error})") from error
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        raise ConfigError(f"{path}: its tensors do not fit the network it describes") from error
    return model


def _make_hostnet(config: Any, _state: dict[str, Tensor]) -> HostNet:
    """Return a HostNet of a configuration from a file."""
    return HostNet(HostNetConfig(**_checked_config(config, HostNetConfig().to_dict())))


def _make_gemnet(config: Any, state: dict[str, Tensor]) -> GemNetScore:
    """Return a GemNetScore of a configuration from a file; no larger than its tensors."""
    checked = _checked_config(config, GemNetConfig().to_dict())
    try:
        sizes = config_from_shapes(state)
    except (KeyError, ValueError) as error:
        raise ValueError(f"its tensors are no GemNet's: {error}") from error
    for name, size in sizes.items():
        if checked[name] != size:
            raise ValueError(f"{name} is {checked[name]}, its tensors have {size}")
    return GemNetScore(GemNetConfig(**checked))


def _checked_config(config: Any, defaults: dict[str, Any]) -> dict[str, Any]:
    """Return a configuration whose every value has its type and a sane size.

    What an older file does not name has its default.

    Raises:
        ValueError: Which value does not.
    """
    if not isinstance(config, dict) or not set(config) <= set(defaults):
        raise ValueError("its names are not those of the network")
    for name, default in defaults.items():
        value = config.get(name, default)
        if type(value) is not type(default) or not 0 <= value <= _LARGEST_VALUE:
            raise ValueError(f"{name} is {value!r}")
    return {**defaults, **config}
