"""Training of a small potential: second derivatives, labels, batches, resumption."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import ase.io
import numpy as np
import pytest
import torch
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator

from nequix_examples import TINY, recorded
from xtalfill.core.checkpoint import Checkpoint
from xtalfill.core.crystal import Crystal
from xtalfill.core.errors import ConfigError
from xtalfill.relax.convolution import EdgeConvolution
from xtalfill.relax.nequix import NequixNetwork, tensor_product
from xtalfill.relax.nqx_file import NequixConfig, NequixWeights, read_config, read_weights
from xtalfill.relax.nqx_writer import random_weights, write_weights
from xtalfill.relax.potentials import load_potential
from xtalfill.relax.radial import DEGREE, RadialTable
from xtalfill.training.labels import (
    Labelled,
    LabelSampler,
    collate,
    read_labels,
    usual_elements,
)
from xtalfill.training.potential import (
    LossWeights,
    PotentialTrainer,
    PotentialTraining,
    _orders,
    ends_of_ways,
    held_out_errors,
    loss_of,
    predict,
    train_potential,
)

pytestmark = pytest.mark.usefixtures("one_thread")

SMALL = NequixConfig((1, 3, 8), {0: 8, 1: 4, 2: 4}, 2, 4.0, 2, 4, 8, 1, 6.0, 10.0, 1.0, 0.0)


def frames(n_hosts: int, *, seed: int = 0) -> list[Labelled]:
    """Return two relaxations of two steps of each host, labelled by a sum over pairs."""
    rng = np.random.default_rng(seed)
    found = []
    for host in range(n_hosts):
        cell = np.diag(rng.uniform(3.0, 4.0, 3))
        for way in range(2):
            for step in (0, 9):
                crystal = Crystal(np.array([1, 3, 8]), rng.random((3, 3)) @ cell, cell)
                forces = rng.normal(size=(3, 3))
                atomic = rng.normal(-3.0, 0.5, size=3)
                energy = float(atomic.sum())
                found.append(Labelled(crystal, energy, forces, host, way, step, atomic))
    return found


def small_weights(seed: int = 1) -> NequixWeights:
    return random_weights(
        SMALL, np.array([-1.0, -2.0, -5.0]), generator=np.random.default_rng(seed)
    )


def test_second_derivatives_of_the_kernels() -> None:
    product = tensor_product(read_weights(TINY).config, 1)
    convolution = EdgeConvolution(product, component_first=True)
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(shape, dtype=torch.float64, generator=generator, requires_grad=True)

    inputs = (
        draw(2, product.irreps_in1.dim), draw(3, product.irreps_in2.dim),
        draw(3, product.weight_numel),
    )  # fmt: skip
    # two edges from one site, two to one site
    edges = (torch.tensor([0, 1, 0]), torch.tensor([1, 1, 0]))
    assert torch.autograd.gradcheck(lambda *a: convolution(*a, *edges), inputs)
    assert torch.autograd.gradgradcheck(lambda *a: convolution(*a, *edges), inputs)


def test_second_derivative_with_a_table_is_refused() -> None:
    product = tensor_product(read_weights(TINY).config, 0)
    table = RadialTable(np.ones((1, DEGREE + 1, product.weight_numel), np.float32), 0.5, 1.0)
    convolution = EdgeConvolution(product, table)
    x = torch.ones(1, product.irreps_in1.dim, requires_grad=True)
    here = torch.tensor([0])
    out = convolution(x, torch.ones(1, product.irreps_in2.dim), torch.ones(1), here, here)
    slope = torch.autograd.grad(out.square().sum(), x, create_graph=True)[0]
    with pytest.raises(NotImplementedError, match="table"):
        slope.sum().backward()


def test_gradient_of_the_loss_agrees_with_e3nn() -> None:
    batch = collate(frames(3), cutoff=SMALL.cutoff)
    results = []
    for fused in (True, False):
        network = NequixNetwork(small_weights(), fused=fused, trainable=True)
        loss = loss_of(network, batch, LossWeights())
        results.append(torch.autograd.grad(loss, list(network.parameters())))
    assert any(one.abs().max() > 1e-3 for one in results[0])
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-5)


def test_written_weights_are_read_again(tmp_path: Path) -> None:
    network = NequixNetwork(small_weights(), fused=True, trainable=True)
    path = tmp_path / "small.nqx"
    write_weights(path, network.weights(), about={"labels": "teacher"})
    assert read_config(path) == SMALL
    labels = frames(2)
    potential = load_potential(str(path), device="cpu")
    energies, _, forces = predict(network, collate(labels, cutoff=SMALL.cutoff), train=False)
    found = potential.evaluate([one.crystal for one in labels])
    np.testing.assert_allclose([one.energy for one in found], energies.numpy(force=True), atol=1e-5)
    np.testing.assert_allclose(
        np.concatenate([one.forces for one in found]), forces.numpy(force=True), atol=1e-5
    )


def test_published_layout_survives_the_writer(tmp_path: Path) -> None:
    network = NequixNetwork(read_weights(TINY), fused=True, trainable=True)
    write_weights(tmp_path / "tiny.nqx", network.weights(), about={})
    crystals = recorded("tiny.npz").crystals
    one, other = (
        load_potential(str(path), device="cpu").evaluate(crystals)
        for path in (TINY, tmp_path / "tiny.nqx")
    )
    for first, second in zip(one, other, strict=True):
        assert first.energy == pytest.approx(second.energy, abs=1e-5)


def test_batches_hold_two_relaxations_of_a_host() -> None:
    sampler = LabelSampler(frames(6), hosts=4, seed=3)
    batch = sampler.batch(5, cutoff=SMALL.cutoff)
    assert len(batch.energies) == 8
    assert batch.couples.T.tolist() == [[0, 1], [2, 3], [4, 5], [6, 7]]
    again = sampler.batch(5, cutoff=SMALL.cutoff)
    torch.testing.assert_close(again.energies, batch.energies, rtol=0, atol=0)
    assert not torch.equal(sampler.batch(6, cutoff=SMALL.cutoff).energies, batch.energies)


def test_single_relaxations_make_no_couples() -> None:
    alone = [one for one in frames(6) if one.way == 0]
    batch = LabelSampler(alone, hosts=4, seed=3).batch(0, cutoff=SMALL.cutoff)
    assert len(batch.energies) == 4
    assert batch.couples.shape == (2, 0)


def test_offsets_of_a_host_do_not_count_as_a_difference() -> None:
    network = NequixNetwork(small_weights(), fused=True, trainable=True)
    batch = collate(frames(2), cutoff=SMALL.cutoff)
    only_difference = LossWeights(energy=0.0, forces=0.0)
    loss = loss_of(network, batch, only_difference)
    shifted = replace(batch, energies=batch.energies + 3.0)
    torch.testing.assert_close(loss_of(network, shifted, only_difference), loss)
    assert loss.item() > 0.0
    only_energy = LossWeights(difference=0.0, forces=0.0)
    assert not torch.isclose(
        loss_of(network, shifted, only_energy), loss_of(network, batch, only_energy)
    )


def test_order_of_the_ends_of_relaxations() -> None:
    def end(host: int, way: int, step: int, energy: float, force: float = 0.1) -> Labelled:
        crystal = Crystal(np.array([1]), np.zeros((1, 3)), np.eye(3))
        atomic = np.array([energy])
        return Labelled(crystal, energy, np.full((1, 3), force), host, way, step, atomic)

    labels = [
        end(0, 0, 0, 5.0), end(0, 0, 9, -1.000),  # of a relaxation, only the end counts
        end(0, 1, 9, -1.010), end(0, 2, 9, -1.002),  # 2 of 3 pairs are more than 5 meV apart
        end(0, 3, 9, -3.0, force=0.5),  # not near a minimum
        end(1, 0, 9, -2.0), end(1, 1, 9, -2.1),
        end(2, 0, 0, -2.0), end(2, 1, 0, -9.0),  # not relaxed
    ]  # fmt: skip
    predicted = [0.0, -1.1, -1.2, -0.5, 0.0, -2.0, -1.9, 0.0, 0.0]
    assert sorted(_orders(ends_of_ways(labels, predicted))) == [False, True, True]


def test_training_learns_and_continues_bit_identically(tmp_path: Path) -> None:
    labels, held_out = frames(8), frames(2, seed=9)
    config = PotentialTraining(steps=30, hosts=4, warmup=5, validate_every=15)

    def run(folder: Path, *, until: int) -> PotentialTrainer:
        folder.mkdir(exist_ok=True)
        settings = config if until == config.steps else _same_rates(config, until)
        trainer = PotentialTrainer(small_weights(), settings)
        checkpoint = Checkpoint(folder, key="potential", previous=folder)
        sampler = LabelSampler(labels, hosts=4, seed=1)
        train_potential(
            trainer, sampler, held_out, folder, about={"labels": "x"}, checkpoint=checkpoint
        )
        return trainer

    whole = run(tmp_path / "whole", until=30)
    run(tmp_path / "parts", until=17)
    parts = run(tmp_path / "parts", until=30)
    for one, other in zip(whole.parameters, parts.parameters, strict=True):
        assert torch.equal(one, other)
    first, second = ((tmp_path / name / "last.nqx").read_bytes() for name in ("whole", "parts"))
    assert first == second
    batch = collate(labels, cutoff=SMALL.cutoff)
    before = NequixNetwork(small_weights(), fused=True, trainable=True)
    assert loss_of(whole.network, batch, config.loss) < loss_of(before, batch, config.loss)
    assert held_out_errors(whole.averaged, held_out).energy_all > 0.0


def _same_rates(config: PotentialTraining, until: int) -> PotentialTraining:
    """Return settings that stop early with the learning rates of the whole run."""

    class Shorter(PotentialTraining):
        def rate(self, step: int) -> float:
            return config.rate(step)

    return Shorter(steps=until, hosts=config.hosts, warmup=config.warmup)


def test_labels_of_several_folders(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        atoms = Atoms("LiH", [[0, 0, 0], [0, 0, 1.6]], cell=np.eye(3) * 4, pbc=True)
        atoms.info |= {"host": 0, "way": 1, "step": 2}
        atoms.calc = SinglePointCalculator(atoms, energy=-3.5, forces=np.ones((2, 3)))
        if name == "b":
            atoms.calc.results["energies"] = np.array([-2.5, -1.0])
        ase.io.write(tmp_path / name / "part_0000.extxyz", [atoms])
    labels = read_labels([tmp_path / "a", tmp_path / "b"])
    assert [one.host for one in labels] == [0, 1]
    assert labels[0].energy == -3.5
    assert np.isnan(labels[0].atomic).all()
    np.testing.assert_array_equal(labels[1].atomic, [-2.5, -1.0])
    with pytest.raises(ConfigError, match="no labelled structures"):
        read_labels([tmp_path / "c"])


def test_atom_energies_are_fitted_without_rare_elements() -> None:
    exact = {1: -2.5, 3: -1.75, 8: -7.0}

    def labelled(numbers: list[int]) -> Labelled:
        energy = sum(exact.get(number, -20.0) for number in numbers)
        crystal = Crystal(np.array(numbers), np.zeros((len(numbers), 3)), np.eye(3))
        unknown = np.full(len(numbers), np.nan)
        return Labelled(crystal, energy, np.zeros((len(numbers), 3)), 0, 0, 0, unknown)

    labels = [labelled(n) for n in ([3, 1], [3, 3, 8], [1, 1, 8], [3, 8, 1], [1, 1], [3, 54])]
    found = usual_elements(labels, least=2)
    assert found == pytest.approx(exact, abs=0.05)
    told = [
        replace(one, atomic=np.array([exact.get(number, -20.0) for number in one.crystal.numbers]))
        for one in labels
    ]
    assert usual_elements(told, least=2) == pytest.approx(exact)
