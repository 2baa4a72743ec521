"""Reader of MatterGen and XtalPaint checkpoints in their published format.

A checkpoint is a folder with ``config.yaml`` and a Lightning ``.ckpt``. No code of either file is
run: `xtalfill.models.archive` reads the tensors, and the configuration is plain YAML whose
``${...}`` are not resolved. Sizes are taken from the tensor shapes, all other settings from the
configuration.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor

from xtalfill.core.errors import ConfigError
from xtalfill.models.archive import StoredTensor, open_archive
from xtalfill.models.gemnet import GemNetConfig, GemNetScore, config_from_shapes

_PREFIX = "diffusion_module.model."
_LARGEST_CONFIG = 4 << 20  # bytes
_NAMED = 3  # tensor names in a message
# Defaults of mattergen 1.0.3 for optional settings that are not visible in the tensor shapes:
# common/gemnet/gemnet.py and common/diffusion/corruption.py.
_GEMNET_DEFAULTS: dict[str, float] = {
    "cutoff": 6.0,
    "max_neighbors": 50,
    "max_cell_images_per_dim": 5,
}
_NOISE_DEFAULTS: dict[str, float] = {"sigma_min": 0.01, "sigma_max": 5.0}
# Settings that are not visible in the tensors and that this network supports with one value only.
_GEMNET_FIXED: dict[str, Any] = {
    "num_targets": 1,
    "activation": "swish",
    "rbf": {"name": "gaussian"},
    "envelope": {"name": "polynomial", "exponent": 5},
    "cbf": {"name": "spherical_harmonics"},
    "encoder_mode": False,
    "otf_graph": True,
}
_NOISE_FIXED: dict[str, Any] = {"wrapping_boundary": 1.0, "limit_info_key": "num_atoms"}
_DENOISER = "GemNetTDenoiser"
_NETWORKS = {"GemNetT": False, "TDGemNetT": True}  # -> whether each site has its own time
_NOISES = ("NumAtomsVarianceAdjustedWrappedVESDE", "TDNumAtomsVarianceAdjustedWrappedVESDE")


def load_gemnet(path: str | Path) -> GemNetScore:
    """Read an unconditional MatterGen or XtalPaint model, ready for inference on the CPU.

    As in the original code, the weights are those of ``state_dict``, not averaged weights that a
    callback may store elsewhere in the file.

    Args:
        path: Folder with ``config.yaml`` and one ``.ckpt`` at any depth (``last.ckpt`` if there
            are several), or a ``.ckpt`` with ``config.yaml`` in its folder or the parent folder.

    Raises:
        ConfigError: The checkpoint is missing, damaged, unsafe or of another network.
    """
    config_path, weights_path = _locate(Path(path))
    settings = _read_settings(config_path)
    state = _read_state(weights_path)
    config = _checked_config(config_path, settings, weights_path, state)
    model = GemNetScore(config)
    expected = {name: tensor.shape for name, tensor in model.state_dict().items()}
    _check_names(weights_path, set(state), set(expected))
    for name, shape in expected.items():
        if state[name].shape != shape:
            raise ConfigError(
                f"{weights_path}: {name} has shape {tuple(state[name].shape)}, not {tuple(shape)}"
            )
    model.load_state_dict(state)
    return model.eval().requires_grad_(requires_grad=False)


def checkpoint_file(path: str | Path) -> Path:
    """Return the weights file that `load_gemnet` reads for a path.

    Raises:
        ConfigError: The weights or the configuration are missing.
    """
    return _locate(Path(path))[1]


def _locate(path: Path) -> tuple[Path, Path]:
    """Return the configuration and the weights that belong to `path`."""
    if path.is_dir():
        weights = _one_checkpoint(path)
        folders = [path]
    elif path.is_file():
        weights = path
        # for a link, the configuration may be in the folder of the target
        folders = [folder for file in (path, path.resolve()) for folder in file.parents[:2]]
    else:
        raise ConfigError(f"{path}: no such file or folder; give the folder of a checkpoint")
    for folder in folders:
        if (folder / "config.yaml").is_file():
            return folder / "config.yaml", weights
    raise ConfigError(
        f"{path}: no config.yaml next to the checkpoint; copy it from the same source"
    )


def _one_checkpoint(folder: Path) -> Path:
    """Return the only .ckpt below a folder, else the only last.ckpt."""
    found = sorted(file for file in folder.rglob("*.ckpt") if file.is_file())
    if not found:
        raise ConfigError(f"{folder}: contains no .ckpt file; give the folder of the weights")
    chosen = found if len(found) == 1 else [file for file in found if file.name == "last.ckpt"]
    if len(chosen) != 1:
        raise ConfigError(
            f"{folder}: contains {len(found)} .ckpt files, {len(chosen)} of them last.ckpt; "
            "give the path of one file"
        )
    return chosen[0]


def _read_settings(path: Path) -> dict[str, Any]:
    """Return the section of a configuration that describes the diffusion module."""
    try:
        if path.stat().st_size > _LARGEST_CONFIG:
            raise ConfigError(f"{path}: too large for a configuration")
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError, RecursionError) as error:
        raise ConfigError(f"{path}: not readable YAML ({_first_line(error)})") from error
    module = _section(content, "lightning_module", "diffusion_module")
    if not _section(module, "model", "gemnet"):
        raise ConfigError(
            f"{path}: has no section lightning_module.diffusion_module.model.gemnet; give the "
            "config.yaml written by MatterGen's training"
        )
    return module


def _read_state(path: Path) -> dict[str, Tensor]:
    """Return the tensors in single precision, with their names in the network."""
    with open_archive(path) as archive:
        content = archive.content
        stored = content.get("state_dict") if isinstance(content, dict) else None
        if not isinstance(stored, dict) or not stored:
            raise ConfigError(f"{path}: not a Lightning checkpoint (no state_dict)")
        foreign = [str(name) for name in stored if not str(name).startswith(_PREFIX)]
        if foreign:
            raise ConfigError(
                f"{path}: state_dict contains {_some(foreign)}, not part of MatterGen's GemNet"
            )
        state = {}
        for name, tensor in stored.items():
            if not isinstance(tensor, StoredTensor):
                raise ConfigError(f"{path}: {name} is not a tensor")
            value = archive.tensor(tensor).float()
            if not torch.isfinite(value).all():
                raise ConfigError(f"{path}: {name} contains NaN or infinity")
            state[name.removeprefix(_PREFIX)] = value
    return state


def _checked_config(
    config_path: Path, settings: dict[str, Any], weights_path: Path, state: Mapping[str, Tensor]
) -> GemNetConfig:
    """Return the configuration of the network after checking that tensors and YAML agree."""
    conditions = sorted({name.split(".")[1] for name in state if name.startswith("property_embed")})
    if conditions:
        raise ConfigError(
            f"{weights_path}: conditioned on {', '.join(conditions)}; give an unconditional model"
        )
    try:
        sizes: dict[str, Any] = dict(config_from_shapes(state))
    except (KeyError, ValueError) as error:
        raise ConfigError(
            f"{weights_path}: not MatterGen's GemNet ({_first_line(error)}: missing or wrong shape)"
        ) from error
    model, gemnet = settings["model"], settings["model"]["gemnet"]
    noise = _section(settings, "corruption", "sdes", "pos")
    try:
        _check_target(model, "model", (_DENOISER,))
        _check_target(noise, "corruption.sdes.pos", _NOISES)
        _check_fixed(gemnet, _GEMNET_FIXED)
        _check_fixed(noise, _NOISE_FIXED)
        _check_sizes(model, gemnet, sizes)
        network = _check_target(gemnet, "gemnet", tuple(_NETWORKS)) or "GemNetT"
        per_site = _NETWORKS[network]
        if _target(settings) == "TDDiffusionModule" and not per_site:
            raise ValueError("TDDiffusionModule with GemNetT, which has no time for each site")
        numbers = _plain_numbers(gemnet, _GEMNET_DEFAULTS) | _plain_numbers(noise, _NOISE_DEFAULTS)
    except ValueError as error:
        raise ConfigError(f"{config_path}: {error}") from error
    return GemNetConfig(**sizes, **numbers, per_site_times=per_site)


def _target(section: Mapping[str, Any]) -> str:
    """Return the class name in a section's ``_target_``; empty if there is none."""
    return str(section.get("_target_", "")).rpartition(".")[2]


def _check_target(section: Mapping[str, Any], name: str, known: tuple[str, ...]) -> str:
    """Return the class name of a section, empty if none; raise ValueError if not supported."""
    target = _target(section)
    if target and target not in known:
        raise ValueError(f"{name} is {target}; supported: {' or '.join(known)}")
    return target


def _check_fixed(section: Mapping[str, Any], fixed: Mapping[str, Any]) -> None:
    """Raise ValueError if a section requests a variant that is not supported."""
    for name, value in fixed.items():
        if section.get(name, value) != value:
            raise ValueError(f"{name} is {section[name]!r}; supported: {value!r}")


def _check_sizes(
    model: Mapping[str, Any], gemnet: Mapping[str, Any], sizes: Mapping[str, Any]
) -> None:
    """Raise ValueError if a number in the configuration differs from the tensor shapes."""
    embedding = _section(gemnet, "atom_embedding")
    told = dict(gemnet) | {"hidden_dim": model.get("hidden_dim")}
    told["three_fields"] = embedding.get("with_mask_type")
    pairs = [(name, told.get(name), size) for name, size in sizes.items()]
    pairs += [("latent_dim", gemnet.get("latent_dim"), sizes["hidden_dim"])]
    pairs += [("emb_size_atom", gemnet.get("emb_size_atom"), sizes["hidden_dim"])]
    pairs += [("atom_embedding.emb_size", embedding.get("emb_size"), sizes["hidden_dim"])]
    for name, value, size in pairs:
        if isinstance(value, int | float) and value != size:
            raise ValueError(f"{name} is {value} but {size} in the weights; check the file pair")


def _plain_numbers(section: Mapping[str, Any], defaults: Mapping[str, float]) -> dict[str, Any]:
    """Return positive numbers of a section, with the types of their defaults."""
    numbers = {}
    for name, default in defaults.items():
        value = section.get(name, default)
        plain = isinstance(value, int | float) and not isinstance(value, bool)
        if not plain or not 0 < value <= 1000 or type(default)(value) != value:
            raise ValueError(f"{name} is {value!r}; give a positive number")
        numbers[name] = type(default)(value)
    return numbers


def _check_names(path: Path, names: set[str], expected: set[str]) -> None:
    """Raise ConfigError if tensors are missing or unexpected."""
    missing, unexpected = sorted(expected - names), sorted(names - expected)
    if missing or unexpected:
        parts = [f"{_some(missing)} missing"] * bool(missing)
        parts += [f"{_some(unexpected)} not expected"] * bool(unexpected)
        raise ConfigError(f"{path}: not MatterGen's GemNet ({'; '.join(parts)})")


def _section(content: Any, *names: str) -> dict[str, Any]:
    """Return a nested mapping; empty if it does not exist."""
    for name in names:
        content = content.get(name) if isinstance(content, dict) else None
    return content if isinstance(content, dict) else {}


def _some(names: list[str]) -> str:
    """Return a list of names in words, shortened."""
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more


def _first_line(error: Exception) -> str:
    """Return the first line of an error message."""
    return str(error).split("\n")[0][:160]
