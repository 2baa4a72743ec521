"""The compiled denoiser for the CPU gives what HostNet gives."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from test_model import ANSWERING, CONFIG, make_host, make_model
from xtalfill.models.compiled_host import CompiledHostNet
from xtalfill.models.graphs import Draw, host_graph, site_graph
from xtalfill.models.host_kernels import WINDOW, expand, product
from xtalfill.models.hostnet import HostNet, HostNetConfig
from xtalfill.models.painn import RadialFilter
from xtalfill.proposals.diffusion import site_sampler
from xtalfill.proposals.diffusion.settings import SamplerSettings
from xtalfill.proposals.diffusion.site_sampler import candidate_generator, sample_sites

CONFIGS = {
    "plain": CONFIG,  # fewer Gaussians than the window
    "answering": ANSWERING,
    "many Gaussians": replace(ANSWERING, n_radial=WINDOW + 5),
    "window": replace(ANSWERING, n_radial=WINDOW),
}


def both(config: HostNetConfig, seed: int, *, n_sites: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """Return the displacements of both for five draws of two hosts."""
    model = make_model(config)
    random = np.random.default_rng(seed)
    hosts = [make_host(seed, n_sites=n_sites), make_host(seed + 1, n_host=2, n_sites=1)]
    draws = [
        Draw(number % 2, random.random((hosts[number % 2].n_sites, 3)) @ hosts[0].cell, sigma)
        for number, sigma in enumerate((3.0, 0.9, 0.3, 0.1, 0.05))
    ]
    with torch.inference_mode():
        encoding = model.encode(host_graph(hosts, config))
        graph = site_graph(hosts, draws, config)
        plain, compiled = model.denoise, CompiledHostNet(model).denoise
        return plain(encoding, graph).numpy(), compiled(encoding, graph).numpy()


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
@given(seed=st.integers(0, 10_000))
@settings(max_examples=10, deadline=None)
def test_displacements_are_those_of_the_network(config: HostNetConfig, seed: int) -> None:
    plain, compiled = both(config, seed)
    assert np.abs(plain).max() > 1e-3
    np.testing.assert_allclose(compiled, plain, rtol=1e-4, atol=2e-6)


def test_without_edges() -> None:
    config = replace(ANSWERING, site_host_cutoff=1e-3, site_site_cutoff=1e-3)
    plain, compiled = both(config, 3)
    np.testing.assert_allclose(compiled, plain, rtol=1e-4, atol=2e-6)


@pytest.mark.parametrize("n_radial", [2, WINDOW - 1, WINDOW, WINDOW + 1, 24, 60])
def test_filters_are_those_of_all_gaussians(n_radial: int) -> None:
    cutoff = 5.0
    filters = RadialFilter(cutoff, n_radial, 7)
    distance = np.linspace(0.0, cutoff, 400, dtype=np.float32)
    values, first = expand(distance, cutoff, n_radial)
    weight = filters.weight.detach().numpy()
    padded = np.concatenate([weight[:-1], np.zeros((WINDOW, 7), np.float32)])
    rows = first[:, None] + np.arange(WINDOW)
    found = np.einsum("ek,ekf->ef", values[:, :-1], padded[rows]) + values[:, -1:] * weight[-1]
    with torch.no_grad():
        expected = filters(filters.expand(torch.from_numpy(distance))).numpy()
    np.testing.assert_allclose(found, expected, atol=3e-6)


@pytest.mark.parametrize("n_in", [1, 3, 4, 10, 96])
@pytest.mark.parametrize("n", [0, 1, 2, 5])
def test_products_of_matrices(n: int, n_in: int) -> None:
    random = np.random.default_rng(n_in)
    x = random.normal(size=(n, n_in)).astype(np.float32)
    weight = random.normal(size=(n_in, 7)).astype(np.float32)
    found = product(x, weight)
    assert found.shape == (n, 7)
    np.testing.assert_allclose(found, x @ weight, atol=1e-5)


class OfTorch:
    """The network itself in place of `CompiledHostNet`."""

    def __init__(self, model: HostNet) -> None:
        self.denoise = model.denoise


def test_candidates_of_both_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    model, host = make_model(ANSWERING), make_host(5)
    # the corrector divides by the score, which multiplies the rounding
    few = SamplerSettings(steps=10, corrector_steps=0)

    def sites() -> np.ndarray:
        generator = candidate_generator(seed=1, structure_id="x", sample=0)
        return sample_sites(model, [host], [generator], settings=few)[0]

    compiled = sites()
    monkeypatch.setattr(site_sampler, "CompiledHostNet", OfTorch)
    np.testing.assert_allclose(compiled, sites(), atol=1e-5)
