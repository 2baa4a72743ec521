"""The Nequix network: agreement with the jax code of its authors, and physics."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from nequix_examples import TINY, recorded
from xtalfill.core.crystal import Crystal
from xtalfill.core.errors import ConfigError
from xtalfill.relax.interface import Evaluation
from xtalfill.relax.nequix import NequixNetwork
from xtalfill.relax.nqx_file import read_weights
from xtalfill.relax.potentials import NequixPotential, load_potential, neighbour_graph

PUBLISHED = ("nequix-oam-1", "nequix-oam-1-pft", "nequix-mp-1")


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def tiny() -> NequixPotential:
    """Return the network of random weights."""
    return load_potential(str(TINY), device="cpu")


def assert_agree(found: list[Evaluation], expected: list[Evaluation]) -> None:
    for one, other in zip(found, expected, strict=True):
        assert abs(one.energy - other.energy) / len(other.forces) < 1e-5
        np.testing.assert_allclose(one.forces, other.forces, atol=1e-4)


def test_agrees_with_the_authors_code(tiny: NequixPotential) -> None:
    reference = recorded("tiny.npz")
    assert len(reference.crystals) >= 5
    assert max(np.abs(one.forces).max() for one in reference.expected) > 0.1
    assert_agree(tiny.evaluate(reference.crystals), reference.expected)


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_weights_agree_with_the_authors_code(name: str) -> None:
    path = Path(os.environ.get("XTALFILL_POTENTIAL_DIR", "")) / f"{name}.nqx"
    if not path.is_file():
        pytest.skip(f"XTALFILL_POTENTIAL_DIR names no folder with {name}.nqx")
    reference = recorded("published.npz", f" {name}")
    assert len(reference.crystals) == 50
    assert len({int(z) for crystal in reference.crystals for z in crystal.numbers}) >= 20
    potential = load_potential(str(path), device="cpu")
    assert_agree(potential.evaluate(reference.crystals), reference.expected)


def test_plain_network_agrees_with_the_kernels(tiny: NequixPotential) -> None:
    crystals = recorded("tiny.npz").crystals
    pairs, edges = neighbour_graph(crystals, tiny._network.config.cutoff)
    plain = NequixNetwork(read_weights(TINY), fused=False).requires_grad_(False)
    numbers = torch.as_tensor(np.concatenate([crystal.numbers for crystal in crystals]))
    results = []
    for network in (plain, tiny._network):
        vectors = torch.tensor(edges, dtype=torch.float32, requires_grad=True)
        energies = network(numbers, torch.from_numpy(pairs), vectors)
        results.append((energies.detach(), torch.autograd.grad(energies.sum(), vectors)[0]))
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_tables_are_as_exact_as_single_precision() -> None:
    crystals = recorded("tiny.npz").crystals
    weights = read_weights(TINY)
    pairs, edges = neighbour_graph(crystals, weights.config.cutoff)
    numbers = torch.as_tensor(np.concatenate([crystal.numbers for crystal in crystals]))

    def slopes(*, fused: bool, dtype: torch.dtype) -> torch.Tensor:
        network = NequixNetwork(weights, fused=fused).requires_grad_(False).to(dtype)
        vectors = torch.tensor(edges, dtype=dtype, requires_grad=True)
        energies = network(numbers, torch.from_numpy(pairs), vectors)
        return torch.autograd.grad(energies.sum(), vectors)[0].double()

    exact = slopes(fused=False, dtype=torch.float64)
    plain = (slopes(fused=False, dtype=torch.float32) - exact).square().mean().sqrt()
    table = (slopes(fused=True, dtype=torch.float32) - exact).square().mean().sqrt()
    assert 0.0 < table < 2.0 * plain


def test_forces_are_the_gradient_of_the_energy(tiny: NequixPotential) -> None:
    crystal = max(recorded("tiny.npz").crystals, key=lambda one: len(one.numbers))
    moved = []
    moves = [(atom, axis) for atom in range(len(crystal.numbers)) for axis in range(3)]
    for atom, axis in moves:
        for sign in (1, -1):
            positions = crystal.positions.copy()
            positions[atom, axis] += sign * 0.01
            moved.append(Crystal(crystal.numbers, positions, crystal.cell))
    *found, here = tiny.evaluate([*moved, crystal])
    energies = np.array([one.energy for one in found]).reshape(-1, 3, 2)
    slopes = (energies[..., 0] - energies[..., 1]) / 0.02
    np.testing.assert_allclose(-slopes, here.forces, atol=2e-3)
    np.testing.assert_allclose(here.forces.sum(axis=0), 0.0, atol=1e-5)


def test_rotation_and_permutation(tiny: NequixPotential) -> None:
    for crystal in recorded("tiny.npz").crystals:
        turn = Rotation.random(rng=np.random.default_rng(2)).as_matrix()
        order = np.random.default_rng(3).permutation(len(crystal.numbers))
        turned = Crystal(crystal.numbers, crystal.positions @ turn.T, crystal.cell @ turn.T)
        mirrored = Crystal(crystal.numbers, -crystal.positions, -crystal.cell)
        permuted = Crystal(crystal.numbers[order], crystal.positions[order], crystal.cell)
        here, *others = tiny.evaluate([crystal, turned, mirrored, permuted])
        expected = (here.forces @ turn.T, -here.forces, here.forces[order])
        for one, forces in zip(others, expected, strict=True):
            assert one.energy == pytest.approx(here.energy, abs=1e-5 * len(order))
            np.testing.assert_allclose(one.forces, forces, atol=1e-4)


def test_batch_equals_singles(tiny: NequixPotential) -> None:
    crystals = recorded("tiny.npz").crystals
    together = tiny.evaluate(crystals)
    assert_agree(together, [tiny.evaluate([crystal])[0] for crystal in crystals])


def test_failing_crystal_does_not_affect_others(tiny: NequixPotential) -> None:
    healthy = recorded("tiny.npz").crystals[-1]
    positions = np.zeros((2, 3))  # the direction between coinciding atoms is undefined
    sick = Crystal(np.array([1, 8]), positions, 4.0 * np.eye(3))
    first, ill, last = tiny.evaluate([healthy, sick, healthy])
    assert not np.isfinite(ill.energy)
    assert_agree([first, last], tiny.evaluate([healthy]) * 2)


def test_atoms_beyond_the_cutoff(tiny: NequixPotential) -> None:
    lonely = Crystal(np.array([1]), np.zeros((1, 3)), np.eye(3) * 20.0)
    found = tiny.evaluate([lonely])[0]
    assert np.isfinite(found.energy)
    assert not found.forces.any()


def test_energy_is_smooth_at_the_cutoff(tiny: NequixPotential) -> None:
    cutoff = tiny._network.config.cutoff
    ends = [
        Crystal(np.array([1, 8]), np.array([[0, 0, 0], [0, 0, d]]), 20.0 * np.eye(3))
        for d in (cutoff - 1e-3, cutoff + 1e-3)
    ]
    inside, outside = tiny.evaluate(ends)
    assert inside.energy == pytest.approx(outside.energy, abs=1e-5)
    np.testing.assert_allclose(inside.forces, 0.0, atol=1e-4)


def test_independent_of_the_default_dtype(tiny: NequixPotential) -> None:
    crystals = recorded("tiny.npz").crystals[:2]
    torch.set_default_dtype(torch.float64)
    try:
        found = load_potential(str(TINY), device="cpu").evaluate(crystals)
        assert_agree(tiny.evaluate(crystals), found)
    finally:
        torch.set_default_dtype(torch.float32)


def test_what_the_potential_tells(tiny: NequixPotential) -> None:
    assert tiny.name == "tiny.nqx"
    assert tiny.elements == {1, 3, 8, 12, 13}
    assert tiny.weights == {"tiny.nqx": hashlib.sha256(TINY.read_bytes()).hexdigest()}


def test_damaged_or_missing_file_gives_one_line(tmp_path: Path) -> None:
    path = tmp_path / "broken.nqx"
    path.write_bytes(b"not a model")
    for name, says in ((path, "not a usable .nqx file"), (tmp_path / "no.nqx", "there is no file")):
        with pytest.raises(ConfigError, match=says) as caught:
            load_potential(str(name), device="cpu")
        assert "\n" not in str(caught.value)
