"""Checkpoints in the format of MatterGen and XtalPaint, of networks with known weights."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from omegaconf import OmegaConf
from torch import nn

from xtalfill.core.errors import ConfigError
from xtalfill.models.checkpoints import load_gemnet
from xtalfill.models.gemnet import GemNetConfig, GemNetScore


def settings(config: GemNetConfig) -> dict[str, Any]:
    """Return the content of config.yaml as written by MatterGen's training, resolved."""
    prefix = "TD" if config.per_site_times else ""
    home = "xtalpaint.time_dependent" if prefix else "mattergen"
    gemnet = {
        "_target_": f"{home}.gemnet.{prefix}GemNetT",
        "atom_embedding": {
            "_target_": "mattergen.common.gemnet.layers.embedding_block.AtomEmbedding",
            "emb_size": config.hidden_dim,
            "with_mask_type": config.three_fields,
        },
        "cutoff": config.cutoff,
        "emb_size_atom": config.hidden_dim,
        "emb_size_edge": config.emb_size_edge,
        "latent_dim": config.hidden_dim,
        "max_cell_images_per_dim": config.max_cell_images_per_dim,
        "max_neighbors": config.max_neighbors,
        "num_blocks": config.num_blocks,
        "num_targets": 1,
        "otf_graph": True,
        "regress_stress": True,
        "scale_file": "/somewhere/else/gemnet-dT.json",
    }
    noise = {
        "_target_": f"{home}.corruption.{prefix}NumAtomsVarianceAdjustedWrappedVESDE",
        "limit_info_key": "num_atoms",
        "sigma_max": config.sigma_max,
        "wrapping_boundary": 1.0,
    }
    module = {
        "_target_": f"{home}.diffusion_module.{prefix}DiffusionModule",
        "corruption": {"_target_": "mattergen.MultiCorruption", "sdes": {"pos": noise}},
        "model": {
            "_target_": "mattergen.denoiser.GemNetTDenoiser",
            "atom_type_diffusion": "mask",
            "denoise_atom_types": config.three_fields,
            "gemnet": gemnet,
            "hidden_dim": config.hidden_dim,
            "property_embeddings": {},
        },
    }
    return {"auto_resume": False, "lightning_module": {"diffusion_module": module}}


def lightning(model: nn.Module, config: GemNetConfig) -> dict[str, Any]:
    """Return the content of a Lightning checkpoint, with objects that weights_only refuses."""
    state = nn.ModuleDict({"diffusion_module": nn.ModuleDict({"model": model})}).state_dict()
    moments = {0: {"step": torch.tensor(3.0), "exp_avg": torch.zeros(2)}}
    return {
        "epoch": 7,
        "global_step": np.int64(90),
        "pytorch-lightning_version": "2.0.6",
        "state_dict": state,
        "loops": {"fit_loop": {"state_dict": {}}},
        "callbacks": {"ModelCheckpoint": {"best_model_path": Path("x") / "last.ckpt"}},
        "optimizer_states": [{"state": moments, "param_groups": [{"lr": 1e-4, "params": [0]}]}],
        "lr_schedulers": [{"make": functools.partial(torch.optim.Adam, lr=1e-4)}],
        "hyper_parameters": OmegaConf.create(settings(config)),
        "config": {"kinds": {nn.Identity, float}, "slice": slice(3)},
    }


def write(folder: Path, model: GemNetScore, **changes: Any) -> Path:
    """Write the folder of a checkpoint; `changes` are entries of the .ckpt."""
    weights = folder / "checkpoints" / "last.ckpt"
    weights.parent.mkdir(parents=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(settings(model.config)))
    torch.save({**lightning(model, model.config), **changes}, weights)
    return folder


def edit_state(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Change the state dict of the checkpoint in a folder."""
    path = folder / "checkpoints" / "last.ckpt"
    content = torch.load(path, weights_only=False)
    change(content["state_dict"])
    torch.save(content, path)


def refusal(path: Path) -> str:
    """Return the error message for a checkpoint."""
    with pytest.raises(ConfigError) as error:
        load_gemnet(path)
    assert "\n" not in str(error.value)
    return str(error.value)


def assert_loaded(path: Path, original: GemNetScore) -> None:
    loaded = load_gemnet(path)
    assert loaded.config == original.config
    assert not loaded.training
    assert not any(weight.requires_grad for weight in loaded.parameters())
    for name, value in original.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value)
