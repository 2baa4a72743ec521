"""Small GemNets and crystals, and results of mattergen's denoiser for them."""

from copy import deepcopy
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tool_runs import tool_module
from xtalfill.models.crystals import Crystals
from xtalfill.models.gemnet import GemNetConfig, GemNetScore, _DoublePrecision

_UPSTREAM = tool_module("upstream_gemnet")
SCALE_FILE = _UPSTREAM.SCALE_FILE
upstream_denoiser = _UPSTREAM.upstream_denoiser
upstream_batch = _UPSTREAM.upstream_batch
SMALL = GemNetConfig(
    hidden_dim=32,
    emb_size_edge=24,
    emb_size_trip=12,
    emb_size_rbf=8,
    emb_size_cbf=6,
    emb_size_bil_trip=10,
    num_radial=16,
    num_spherical=5,
    num_blocks=2,
    cutoff=5.0,
    max_neighbors=200,  # truncates no neighbour list
)


def fill(model: nn.Module, *, seed: int = 0) -> None:
    """Fill a model with reproducible weights of the size of trained ones."""
    rng = np.random.default_rng(seed)
    with torch.no_grad():
        for _, weight in sorted(model.named_parameters()):
            spread = 1.0 if weight.ndim < 2 else np.prod(weight.shape[1:]) ** -0.5
            centre = 1.0 if weight.ndim == 0 else 0.0  # scale factors are positive
            values = rng.normal(centre, 0.8 * spread, size=weight.shape)
            weight.copy_(torch.tensor(values, dtype=torch.float32))


@cache  # building one takes seconds
def _built(config: GemNetConfig) -> GemNetScore:
    model = GemNetScore(config, scale_file=SCALE_FILE).double().eval()
    fill(model)
    return model.requires_grad_(requires_grad=False)


def small_score(**changes: Any) -> GemNetScore:
    """Return a small network in double precision, for the caller alone."""
    return deepcopy(_built(replace(SMALL, **changes)))


def random_crystals(*sizes: int, seed: int = 1, n_elements: int = 30) -> Crystals:
    """Return crystals of low symmetry without equal distances, in double precision."""
    rng = np.random.default_rng(seed)
    cell = 4.2 * np.eye(3) + rng.normal(scale=0.4, size=(len(sizes), 3, 3))
    return Crystals(
        fractions=torch.tensor(rng.uniform(size=(sum(sizes), 3))),
        cell=torch.tensor(cell),
        numbers=torch.tensor(rng.integers(1, n_elements, size=sum(sizes))),
        structure=torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes)),
    )


def upstream_score(denoiser: nn.Module, crystals: Crystals, times: Tensor) -> Tensor:
    """Return the score of the positions from mattergen's denoiser, in double precision.

    Args:
        denoiser: mattergen's GemNetTDenoiser.
        crystals: Crystals in double precision.
        times: Time of each crystal, or of each site if the network supports it.
    """
    default = torch.get_default_dtype()
    # mattergen's time encoding has the default dtype
    torch.set_default_dtype(torch.float64)
    try:
        with _DoublePrecision(), torch.no_grad():
            return denoiser.double().eval()(upstream_batch(crystals), times).pos
    finally:
        torch.set_default_dtype(default)
