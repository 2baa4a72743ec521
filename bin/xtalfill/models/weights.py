"""Weights files: tensors and plain values only, validated when read."""

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
_LARGEST_VALUE = 4096  # of a number in a configuration; limits the memory a forged file can use


def save_weights(
    model: ScoreNetwork, path: str | Path, *, training: dict[str, Any], half: bool = True
) -> None:
    """Write a model; the format field names its architecture.

    Args:
        model: Network.
        path: Output file.
        training: Description of the training; plain values only.
        half: Store trained parameters in half precision instead of single.
    """
    content = {
        "format": FORMAT if isinstance(model, HostNet) else GEMNET_FORMAT,
        "version": VERSION,
        "config": model.config.to_dict(),
        "training": training,
        "state": _stored_state(model, half=half),
    }
    # Pass an open file: with a path, torch writes the file name into the archive.
    with replacing(Path(path)) as temporary, temporary.open("wb") as file:
        torch.save(content, file)


def _stored_state(model: ScoreNetwork, *, half: bool) -> dict[str, Tensor]:
    """Return the state dict to write; shared tensors stay shared."""
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
        path: File written by `save_weights`.

    Raises:
        ConfigError: The file is missing, damaged, of another format, or inconsistent.
    """
    check_file(path)
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile,
            pickle.UnpicklingError) as error:  # fmt: skip
        reason = str(error).split("\n")[0][:120] or "empty or truncated"
        raise ConfigError(f"{path}: not a readable weights file ({reason})") from error
    if not isinstance(content, dict) or content.get("format") not in (FORMAT, GEMNET_FORMAT):
        raise ConfigError(
            f"{path}: neither an {FORMAT} file nor an {GEMNET_FORMAT} file; give --model a file "
            "written by `xtalfill train`"
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
    """Return the network described in a file, with its tensors loaded."""
    try:
        state = {name: value.float() for name, value in content["state"].items()}
    except (KeyError, AttributeError) as error:
        raise ConfigError(f"{path}: the tensors do not match the configuration") from error
    broken = [name for name, value in state.items() if not torch.isfinite(value).all()]
    if broken:
        raise ConfigError(f"{path}: {broken[0]} contains NaN or infinity")
    try:
        model = make(content.get("config"), state)
    except ValueError as error:
        raise ConfigError(f"{path}: invalid network configuration ({error})") from error
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        raise ConfigError(f"{path}: the tensors do not match the configuration") from error
    return model


def _make_hostnet(config: Any, _state: dict[str, Tensor]) -> HostNet:
    """Return a HostNet with the configuration of a file."""
    return HostNet(HostNetConfig(**_checked_config(config, HostNetConfig().to_dict())))


def _make_gemnet(config: Any, state: dict[str, Tensor]) -> GemNetScore:
    """Return a GemNetScore with the configuration of a file, checked against its tensors."""
    checked = _checked_config(config, GemNetConfig().to_dict())
    try:
        sizes = config_from_shapes(state)
    except (KeyError, ValueError) as error:
        raise ValueError(f"not the tensors of a GemNet: {error}") from error
    for name, size in sizes.items():
        if checked[name] != size:
            raise ValueError(f"{name} is {checked[name]} but {size} in the tensors")
    return GemNetScore(GemNetConfig(**checked))


def _checked_config(config: Any, defaults: dict[str, Any]) -> dict[str, Any]:
    """Return a configuration after checking the type and range of every value.

    Values missing in files of older releases have their defaults.

    Raises:
        ValueError: A name is unknown, or a value is invalid.
    """
    if not isinstance(config, dict) or not set(config) <= set(defaults):
        raise ValueError("unknown names")
    for name, default in defaults.items():
        value = config.get(name, default)
        if type(value) is not type(default) or not 0 <= value <= _LARGEST_VALUE:
            raise ValueError(f"{name} is {value!r}")
    return {**defaults, **config}
