"""Load the weights of the proposal methods."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from xtalfill.core.errors import ConfigError
from xtalfill.core.record import file_sha256
from xtalfill.models.checkpoints import checkpoint_file, load_gemnet
from xtalfill.models.hostnet import HostNet
from xtalfill.models.weights import ScoreNetwork, load_weights
from xtalfill.proposals.diffusion.wrapped_sde import SIGMA_MAX, SIGMA_MIN
from xtalfill.registry.methods import METHODS

# Method -> the kind of model it samples with, for the methods that have one.
KIND_OF_METHOD = {name: one.weights for name, one in METHODS.items() if one.weights is not None}
_OWN_SUFFIX = ".pt"


@dataclass
class ScoreModels:
    """The score models of a run.

    Attributes:
        networks: Kind (host, td, pos, mattergen) -> network.
        checksums: Name of the file -> sha256 of the weights in use.
    """

    networks: dict[str, ScoreNetwork] = field(default_factory=dict)
    checksums: dict[str, str] = field(default_factory=dict)

    def of_method(self, method: str) -> ScoreNetwork | None:
        """Return the network of a method; None if it needs none."""
        kind = KIND_OF_METHOD.get(method)
        return None if kind is None else self.networks[kind]

    def to(self, device: torch.device) -> None:
        """Move all networks to a device."""
        for network in self.networks.values():
            network.to(device)


def load_models(
    methods: Iterable[str], *, given: Sequence[Path], bundled: Sequence[Path]
) -> ScoreModels:
    """Load the weights that the methods need.

    Args:
        methods: The methods of the run.
        given: Files and folders from the user; each is used for the methods of its kind.
        bundled: Files bundled with xtalfill, named after their kind; used if none is given.

    Raises:
        ConfigError: Weights are unreadable, unused, duplicate or missing.
    """
    needed = {KIND_OF_METHOD[method]: method for method in methods if method in KIND_OF_METHOD}
    models = ScoreModels()
    for path in given:
        network = load_network(path)
        kind = kind_of(network)
        if kind not in needed:
            raise ConfigError(
                f"{path}: weights of kind {kind}, which no method of this run uses; "
                "give them with their method or leave them out"
            )
        if kind in models.networks:
            raise ConfigError(f"{path}: a second file of kind {kind}; give one of each kind")
        _add(models, kind, network, path)
    for path in bundled:
        kind = path.stem
        if kind in needed and kind not in models.networks:
            _add(models, kind, load_network(path), path)
    for kind, method in needed.items():
        if kind not in models.networks:
            raise ConfigError(f"method {method} needs weights of kind {kind}; name them by --model")
    return models


def load_network(path: Path) -> ScoreNetwork:
    """Load weights of xtalfill, MatterGen or XtalPaint.

    Raises:
        ConfigError: They are unreadable, or were trained with another noise range.
    """
    own = _is_own(path)
    if path.is_file() and not own and path.suffix != ".ckpt":
        raise ConfigError(
            f"{path}: not weights; give a .pt file of `xtalfill train`, a .ckpt file with its "
            "config.yaml, or the folder of both"
        )
    network = load_weights(path) if own else load_gemnet(path)
    if not isinstance(network, HostNet):
        config = network.config
        if (config.sigma_min, config.sigma_max) != (SIGMA_MIN, SIGMA_MAX):
            raise ConfigError(
                f"{path}: trained with noise from {config.sigma_min} to {config.sigma_max}, "
                f"sampled is from {SIGMA_MIN} to {SIGMA_MAX}; give other weights"
            )
    return network


def kind_of(network: ScoreNetwork) -> str:
    """Return the kind of a network: host, td, pos or mattergen."""
    if isinstance(network, HostNet):
        return "host"
    if network.config.three_fields:
        return "mattergen"
    return "td" if network.per_site_times else "pos"


def _is_own(path: Path) -> bool:
    return path.suffix == _OWN_SUFFIX and path.is_file()


def _add(models: ScoreModels, kind: str, network: ScoreNetwork, path: Path) -> None:
    file = path if _is_own(path) else checkpoint_file(path)
    models.networks[kind] = network
    name = path.name if file == path else f"{path.name}/{file.name}"
    models.checksums[name] = file_sha256(file)
