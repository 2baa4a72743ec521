"""Weights files: tensors and plain values only, checked before they are trusted."""

from __future__ import annotations

import pickle
import zipfile
from pathlib import Path
from typing import Any

import torch

from xtalfill.errors import ConfigError
from xtalfill.model.hostnet import HostNet, HostNetConfig
from xtalfill.record import file_sha256

FORMAT = "xtalfill-hostnet"
VERSION = 1
_LARGEST_VALUE = 4096  # of any number in a configuration; keeps a forged file from eating memory


def save_weights(model: HostNet, path: str | Path, *, training: dict[str, Any]) -> None:
    """Write a model in half precision.

    Args:
        model: The network.
        path: The file to write.
        training: How it was trained; plain values only.
    """
    state = {name: tensor.half().contiguous() for name, tensor in model.state_dict().items()}
    content = {
        "format": FORMAT,
        "version": VERSION,
        "config": model.config.to_dict(),
        "training": training,
        "state": state,
    }
    torch.save(content, path)


def load_weights(path: str | Path) -> HostNet:
    """Read a model, ready for inference on the CPU in single precision.

    Args:
        path: A file that `save_weights` wrote.

    Raises:
        ConfigError: The file is missing, damaged, foreign or does not fit the network.
    """
    checksum = file_sha256(path)
    # Nextflow stages a link: the checksums lie beside what it points to
    _check_recorded_checksum(Path(path).resolve(), checksum)
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile,
            pickle.UnpicklingError) as error:  # fmt: skip
        reason = str(error).split("\n")[0][:120] or "empty or cut off"
        raise ConfigError(f"{path}: not a readable weights file ({reason})") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise ConfigError(
            f"{path}: not an {FORMAT} file; give --model one that `xtalfill train` wrote"
        )
    if content.get("version") != VERSION:
        raise ConfigError(f"{path}: weights version {content.get('version')}, expected {VERSION}")
    try:
        model = HostNet(_checked_config(content.get("config")))
    except ValueError as error:
        raise ConfigError(f"{path}: its configuration fits no network ({error})") from error
    try:
        model.load_state_dict({name: value.float() for name, value in content["state"].items()})
    except (RuntimeError, KeyError, AttributeError) as error:
        raise ConfigError(f"{path}: its tensors do not fit the network it describes") from error
    return model.eval()


def _checked_config(config: Any) -> HostNetConfig:
    """Return a configuration whose every value has its type and a sane size.

    Raises:
        ValueError: Which value does not.
    """
    defaults = HostNetConfig().to_dict()
    if not isinstance(config, dict) or set(config) != set(defaults):
        raise ValueError("its names are not those of HostNetConfig")
    for name, default in defaults.items():
        value = config[name]
        if type(value) is not type(default) or not 0 <= value <= _LARGEST_VALUE:
            raise ValueError(f"{name} is {value!r}")
    return HostNetConfig(**config)


def _check_recorded_checksum(path: Path, checksum: str) -> None:
    """Compare with the SHA256SUMS beside the file, where there is one that names it."""
    sums = path.with_name("SHA256SUMS")
    if not sums.is_file():
        return
    recorded: dict[str, str] = {}
    for line in sums.read_text().splitlines():
        digest, _, name = line.partition("  ")
        recorded[name.strip()] = digest
    expected = recorded.get(path.name)
    if expected is not None and expected != checksum:
        raise ConfigError(
            f"{path}: sha256 is not the one in {sums.name}; the weights are damaged or were "
            "replaced: restore the file, or give your own from another folder"
        )
