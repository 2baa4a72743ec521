"""Weights files: round trip, and refusal of invalid files."""

import hashlib
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from xtalfill.core.errors import ConfigError
from xtalfill.models.hostnet import HostNet, HostNetConfig
from xtalfill.models.weights import load_weights, save_weights

CONFIG = HostNetConfig(width=8, host_layers=1, site_layers=1, n_radial=4)


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    path = tmp_path / "host.pt"
    save_weights(HostNet(CONFIG), path, training={"steps": 3})
    return path


def test_round_trip_in_half_precision(weights: Path) -> None:
    torch.manual_seed(0)
    original, loaded = HostNet(CONFIG), load_weights(weights)
    assert loaded.config == CONFIG
    assert not loaded.training
    for (name, value), (other, half) in zip(
        original.state_dict().items(), loaded.state_dict().items(), strict=True
    ):
        assert name == other
        torch.testing.assert_close(half, value, rtol=1e-3, atol=1e-4)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"absent\.pt.*give"):
        load_weights(tmp_path / "absent.pt")


@pytest.mark.parametrize("keep", [0, 10, 1000])
def test_truncated_file(weights: Path, keep: int) -> None:
    weights.write_bytes(weights.read_bytes()[:keep])
    with pytest.raises(ConfigError, match="not a readable weights file"):
        load_weights(weights)


def test_pickle_is_not_executed(tmp_path: Path) -> None:
    class Attack:
        def __reduce__(self) -> tuple:
            return (Path.touch, (tmp_path / "owned",))

    path = tmp_path / "attack.pt"
    torch.save({"format": "xtalfill-hostnet", "state": Attack()}, path)
    with pytest.raises(ConfigError, match="not a readable weights file"):
        load_weights(path)
    (tmp_path / "plain.pt").write_bytes(pickle.dumps(Attack()))
    with pytest.raises(ConfigError, match="not a readable weights file"):
        load_weights(tmp_path / "plain.pt")
    assert not (tmp_path / "owned").exists()


def test_file_of_another_format(tmp_path: Path) -> None:
    torch.save({"state_dict": {"w": torch.zeros(2)}}, tmp_path / "foreign.pt")
    with pytest.raises(ConfigError, match="neither an xtalfill-hostnet file"):
        load_weights(tmp_path / "foreign.pt")


def test_inconsistent_content(weights: Path) -> None:
    content = torch.load(weights, weights_only=True)
    cases = [
        ({"version": 99}, "version 99"),
        ({"config": {"breadth": 8}}, "configuration"),
        ({"config": {"width": 8}}, "tensors"),
        ({"config": {**content["config"], "width": 16}}, "tensors"),
        ({"config": {**content["config"], "width": "8"}}, "configuration"),
        ({"config": {**content["config"], "width": 10**9}}, "configuration"),
        ({"state": None}, "tensors"),
    ]
    for change, message in cases:
        torch.save({**content, **change}, weights)
        with pytest.raises(ConfigError, match=message):
            load_weights(weights)


def test_checksum_file_is_used(weights: Path) -> None:
    sums = weights.with_name("SHA256SUMS")
    sums.write_text(f"{hashlib.sha256(weights.read_bytes()).hexdigest()}  host.pt\n")
    load_weights(weights)
    torch.save({**torch.load(weights, weights_only=True), "training": {"steps": 4}}, weights)
    with pytest.raises(ConfigError, match="sha256 differs from"):
        load_weights(weights)
    link = weights.parent / "staged" / "host.pt"
    link.parent.mkdir()
    link.symlink_to(weights)
    with pytest.raises(ConfigError, match="sha256 differs from"):
        load_weights(link)


def test_loaded_weights_are_usable(weights: Path) -> None:
    model = load_weights(weights)
    scale = model.output_scale(torch.tensor([1e-3, 100.0])).numpy()
    np.testing.assert_allclose(scale, [1e-3, CONFIG.sigma_data], rtol=1e-3)
