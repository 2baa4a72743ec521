"""The network: neighbour lists, messages, symmetry."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from matscipy.neighbours import neighbour_list
from scipy.spatial.transform import Rotation

from xtalfill.models.edges import periodic_edges
from xtalfill.models.graphs import Draw, Host, host_graph, site_graph
from xtalfill.models.hostnet import HostNet, HostNetConfig, global_features
from xtalfill.models.messages import sum_messages, torch_messages

CONFIG = HostNetConfig(width=16, host_layers=2, site_layers=2, n_radial=8)
ANSWERING = replace(CONFIG, site_layers=3, answers=2)


def make_host(seed: int, *, n_host: int = 6, n_sites: int = 3) -> Host:
    rng = np.random.default_rng(seed)
    cell = np.diag([4.1, 4.8, 5.3]) + rng.normal(scale=0.4, size=(3, 3))
    return Host(
        numbers=rng.integers(3, 60, n_host),
        positions=rng.random((n_host, 3)) @ cell,
        cell=cell,
        element=1,
        n_sites=n_sites,
    )


def make_model(config: HostNetConfig = CONFIG) -> HostNet:
    """Return a network with random weights in all parts, including feedback (initially zero)."""
    torch.manual_seed(0)
    network = HostNet(config).eval()
    for parameter in network.answers.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return network


@pytest.fixture(params=[CONFIG, ANSWERING], ids=["plain", "answering"])
def model(request: pytest.FixtureRequest) -> HostNet:
    return make_model(request.param)


def displacement(model: HostNet, hosts: list[Host], draws: list[Draw]) -> np.ndarray:
    with torch.inference_mode():
        encoding = model.encode(host_graph(hosts, model.config))
        return model.denoise(encoding, site_graph(hosts, draws, model.config)).numpy()


@given(seed=st.integers(0, 10_000), cutoff=st.floats(0.5, 8.0))
@settings(max_examples=25)
def test_edges_agree_with_matscipy(seed: int, cutoff: float) -> None:
    host = make_host(seed, n_host=4)
    edges = periodic_edges(host.positions, host.positions, host.cell, cutoff, same=True)
    i, j, vectors = neighbour_list(
        "ijD", cutoff=cutoff, positions=host.positions, cell=host.cell, pbc=[True] * 3
    )

    assert len(edges.receiver) == len(i)
    np.testing.assert_allclose(
        np.sort(np.linalg.norm(edges.vector, axis=1)),
        np.sort(np.linalg.norm(vectors, axis=1)),
        atol=1e-5,
    )
    counted = np.bincount(edges.receiver * 4 + edges.sender, minlength=16)
    np.testing.assert_array_equal(counted, np.bincount(i * 4 + j, minlength=16))


def test_edges_between_two_sets() -> None:
    cell = np.eye(3) * 2.0
    edges = periodic_edges(np.zeros((1, 3)), np.full((1, 3), 1.0), cell, 1.8, same=False)
    assert len(edges.receiver) == 8
    np.testing.assert_allclose(np.abs(edges.vector), 1.0)
    again = periodic_edges(np.zeros((1, 3)), np.full((1, 3), 1.0), cell, 1.8, same=False)
    np.testing.assert_array_equal(edges.vector, again.vector)


def test_edges_to_own_images_but_not_to_itself() -> None:
    edges = periodic_edges(np.zeros((1, 3)), np.zeros((1, 3)), np.eye(3) * 2.0, 2.1, same=True)
    assert len(edges.receiver) == 6


@pytest.mark.parametrize("n_edges", [0, 1, 200])
def test_fused_messages_and_gradients_agree_with_torch(n_edges: int) -> None:
    generator = torch.Generator().manual_seed(3)
    width, n_senders, n_receivers = 8, 7, 5

    def leaf(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator).requires_grad_()

    phi, vectors = leaf(n_senders, 3 * width), leaf(n_senders, 3, width)
    filters, unit = leaf(n_edges, 3 * width), torch.randn(n_edges, 3, generator=generator)
    edges = torch.stack(
        [
            torch.randint(n_receivers, (n_edges,), generator=generator),
            torch.randint(n_senders, (n_edges,), generator=generator),
        ]
    )
    results = []
    for function in (sum_messages, torch_messages):
        scalars, sums = function(phi, vectors, filters, unit, edges, n_receivers)
        loss = (scalars**2).sum() + (sums**3).sum()
        gradients = torch.autograd.grad(loss, [phi, vectors, filters])
        results.append([scalars, sums, *gradients])
    for fused, plain in zip(*results, strict=True):
        torch.testing.assert_close(fused, plain, rtol=2e-5, atol=2e-4)


def test_displacement_rotates_with_the_crystal(model: HostNet) -> None:
    host = make_host(1)
    sites = np.random.default_rng(2).random((3, 3)) @ host.cell
    turn = Rotation.from_euler("xyz", [0.3, -1.1, 2.0]).as_matrix()
    turned = Host(host.numbers, host.positions @ turn, host.cell @ turn, 1, 3)
    here = displacement(model, [host], [Draw(0, sites, 0.7)])
    there = displacement(model, [turned], [Draw(0, sites @ turn, 0.7)])
    assert np.abs(here).max() > 1e-4
    np.testing.assert_allclose(there, here @ turn, atol=2e-5)


def test_displacement_is_mirrored_with_the_crystal(model: HostNet) -> None:
    host = make_host(1)
    sites = np.random.default_rng(2).random((3, 3)) @ host.cell
    mirror = np.diag([1.0, 1.0, -1.0])
    mirrored = Host(host.numbers, host.positions @ mirror, host.cell @ mirror, 1, 3)
    here = displacement(model, [host], [Draw(0, sites, 0.7)])
    there = displacement(model, [mirrored], [Draw(0, sites @ mirror, 0.7)])
    np.testing.assert_allclose(there, here @ mirror, atol=2e-5)


def test_displacement_is_invariant_under_translation(model: HostNet) -> None:
    host = make_host(4)
    rng = np.random.default_rng(5)
    sites = rng.random((3, 3)) @ host.cell
    images = rng.integers(-2, 3, (len(host.positions), 3)) @ host.cell
    moved = Host(host.numbers, host.positions + images + 0.37, host.cell, 1, 3)
    here = displacement(model, [host], [Draw(0, sites, 0.4)])
    there = displacement(model, [moved], [Draw(0, sites + 0.37, 0.4)])
    np.testing.assert_allclose(there, here, atol=2e-5)


def test_displacement_follows_permutations(model: HostNet) -> None:
    host = make_host(6)
    sites = np.random.default_rng(7).random((3, 3)) @ host.cell
    order = [2, 0, 1]
    here = displacement(model, [host], [Draw(0, sites, 0.4)])
    there = displacement(model, [host], [Draw(0, sites[order], 0.4)])
    np.testing.assert_allclose(there, here[order], atol=2e-5)


def test_batched_graph_agrees_with_its_parts(model: HostNet) -> None:
    hosts = [make_host(8), make_host(9, n_host=4, n_sites=2), make_host(10, n_sites=1)]
    rng = np.random.default_rng(11)
    draws = [
        Draw(k, rng.random((hosts[k].n_sites, 3)) @ hosts[k].cell, float(sigma))
        for k, sigma in [(0, 0.1), (0, 2.0), (1, 0.5), (2, 1.0)]
    ]
    joined = displacement(model, hosts, draws)
    parts = [
        displacement(model, [hosts[d.structure]], [Draw(0, d.positions, d.sigma)]) for d in draws
    ]
    np.testing.assert_allclose(joined, np.concatenate(parts), atol=2e-5)


def test_feedback_transmits_through_the_host() -> None:
    """Two sites beyond the cutoff of each other, with a host site between them."""
    quiet = replace(ANSWERING, site_site_cutoff=1.0)
    cell = np.eye(3) * 30.0
    host = Host(np.array([8]), np.array([[15.0, 15.0, 15.0]]), cell, 1, 2)
    for config, expected in ((quiet, True), (replace(quiet, answers=0), False)):
        moves = [
            displacement(
                make_model(config),
                [host],
                [Draw(0, host.positions + np.array([[1.2, 0.0, 0.0], [0.0, y, 0.0]]), 0.5)],
            )[0]
            for y in (1.4, 2.4)
        ]
        assert bool(np.abs(moves[0] - moves[1]).max() > 1e-4) is expected


def test_new_feedback_layers_are_the_identity() -> None:
    host = make_host(3)
    draws = [Draw(0, np.random.default_rng(4).random((3, 3)) @ host.cell, 0.6)]
    plain = make_model(replace(CONFIG, site_layers=3))
    answering = HostNet(ANSWERING).eval()
    answering.load_state_dict({**answering.state_dict(), **plain.state_dict()})
    np.testing.assert_allclose(
        displacement(answering, [host], draws), displacement(plain, [host], draws), atol=1e-5
    )


def test_independent_of_the_default_dtype() -> None:
    """A potential in the same process may set it to double precision."""
    host = make_host(12)
    draws = [Draw(0, np.random.default_rng(0).random((3, 3)) @ host.cell, 0.7)]
    state = make_model().state_dict()
    before = displacement(make_model(), [host], draws)
    torch.set_default_dtype(torch.float64)
    try:
        model = HostNet(CONFIG).eval()
        model.load_state_dict(state)
        after = displacement(model, [host], draws)
    finally:
        torch.set_default_dtype(torch.float32)
    assert after.dtype == np.float32
    np.testing.assert_allclose(after, before, atol=1e-6)


def test_messages_vanish_at_the_cutoff(model: HostNet) -> None:
    """The output is continuous when a neighbour crosses the cutoff."""
    cell = np.eye(3) * 40.0
    host = Host(np.array([8]), np.array([[20.0, 20.0, 20.0]]), cell, 1, 1)
    values = [
        displacement(model, [host], [Draw(0, host.positions + np.array([d, 0.0, 0.0]), 0.5)])
        for d in (CONFIG.site_host_cutoff - 1e-3, CONFIG.site_host_cutoff + 1e-3)
    ]
    np.testing.assert_allclose(values[0], values[1], atol=1e-5)


def test_global_features() -> None:
    one = global_features(volume=60.0, n_host=4, n_sites=2)
    double = global_features(volume=120.0, n_host=8, n_sites=4)
    np.testing.assert_allclose(one[:2], double[:2])
    assert np.isfinite(one).all()
    assert double[3] > one[3]
