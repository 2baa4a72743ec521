"""Training with whole crystals: exact targets, times, weights usable for sampling."""

import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from test_inpaint_models import ASSETS, small
from test_training import RUN, read_log, write_crystals
from xtalfill.models.hostnet import HostNet
from xtalfill.models.weights import load_weights
from xtalfill.proposals.diffusion.settings import TRAINED_KNOWN_TIME
from xtalfill.proposals.diffusion.wrapped_sde import noise_std
from xtalfill.proposals.score_models import kind_of
from xtalfill.training.crystal import (
    CrystalObjective,
    CrystalTasks,
    draw_time,
    indistinguishable_groups,
    join_tasks,
    mixture_score,
    noised_micro_batch,
    scaled_wrapped_score,
)
from xtalfill.training.data import CrystalSet, remove_sublattice
from xtalfill.training.loop import train
from xtalfill.training.objective import MicroBatchSize

TASKS = CrystalTasks(MicroBatchSize(crystals=3), max_sites=4, validation_count=2)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_crystals(tmp_path / "data.h5", kinds=8)


def objective(path: Path, method: str, *, tasks: CrystalTasks = TASKS) -> CrystalObjective:
    torch.set_num_threads(1)
    return CrystalObjective(
        CrystalSet([path]), tasks, small(method).config, method=method,
        scale_file=ASSETS / "gemnet-dT.json", seed=5,
    )  # fmt: skip


@given(seed=st.integers(0, 1000), std=st.floats(0.01, 5.0))
@settings(max_examples=40)
def test_target_is_the_score_of_the_wrapped_density(seed: int, std: float) -> None:
    place = np.random.default_rng(seed).uniform(-0.5, 0.5, (1, 3))

    def log_density(x: np.ndarray) -> float:
        images = x[0, :, None] + np.arange(-40, 41)
        exponent = -0.5 * (images / std) ** 2
        top = exponent.max(-1, keepdims=True)
        return float((np.log(np.exp(exponent - top).sum(-1)) + top[:, 0]).sum())

    step = 1e-5 * min(1.0, std)
    moves = step * np.eye(3)[:, None]
    slope = np.array([log_density(place + m) - log_density(place - m) for m in moves]) / (2 * step)
    found = scaled_wrapped_score(place, np.array([std]))[0][0]
    np.testing.assert_allclose(found, std * slope, atol=2e-4)


def test_target_agrees_with_mattergen() -> None:
    small("pos")  # makes mattergen importable
    from mattergen.diffusion.wrapped.wrapped_normal_loss import wrapped_normal_score

    rng = np.random.default_rng(0)
    std = rng.uniform(0.01, 0.5, 50)
    mean = rng.random((50, 3))
    noised = (mean + std[:, None] * rng.normal(size=(50, 3))) % 1.0
    theirs = wrapped_normal_score(
        x=torch.from_numpy(noised),
        mean=torch.from_numpy(mean),
        wrapping_boundary=torch.eye(3, dtype=torch.float64)[None],
        variance_diag=torch.from_numpy(std**2),
        batch=torch.zeros(50, dtype=torch.int64),
        max_offset_integer=4,
    )
    ours = scaled_wrapped_score(noised - mean, std)[0]
    np.testing.assert_allclose(ours, std[:, None] * theirs.numpy(), atol=1e-5)


def test_target_vanishes_at_time_one() -> None:
    place = np.random.default_rng(1).random((20, 3))
    assert np.abs(scaled_wrapped_score(place, np.full(20, 1.5))[0]).max() < 1e-10


@pytest.mark.parametrize("std", [0.03, 0.15, 0.5])
def test_target_of_indistinguishable_sites(std: float) -> None:
    rng = np.random.default_rng(2)
    true = rng.random((3, 3))
    displacement = std * rng.normal(size=(3, 3))

    def log_density(noised: np.ndarray) -> float:
        ways = noised[:, None, :, None] - true[:, :, None] + np.arange(-9, 10)
        pair = np.log(np.exp(-0.5 * (ways / std) ** 2).sum(-1)).sum(-1)
        orders = itertools.permutations(range(3))
        return float(np.logaddexp.reduce([pair[range(3), list(order)].sum() for order in orders]))

    step = 1e-5 * std
    slope = np.zeros((3, 3))
    for site, axis in np.ndindex(3, 3):
        move = np.zeros((3, 3))
        move[site, axis] = step
        noised = true + displacement
        slope[site, axis] = (log_density(noised + move) - log_density(noised - move)) / (2 * step)
    found = mixture_score(true, displacement, std, 5.0 * np.eye(3))
    np.testing.assert_allclose(found, std * slope, atol=1e-4)


def test_indistinguishable_groups() -> None:
    groups = indistinguishable_groups(
        np.array([1, 8, 1, 1, 8, 3]), np.array([0.5, 0.5, 0.5, 0.001, 0.5, 0.5])
    )
    assert [group.tolist() for group in groups] == [[0, 2], [1, 4]]


def test_target_of_a_micro_batch(data: Path) -> None:
    numbers, positions, cell = CrystalSet([data]).crystal(1)
    task = remove_sublattice(numbers, positions, cell, numbers == 1)
    times = np.array([0.001, 0.001, 0.001, 0.6, 0.6])
    part = noised_micro_batch(
        [task, task], [times, times], np.random.default_rng(0), small("td").config
    )
    true = join_tasks([task]).fractions.double().numpy()
    noised = part.crystals.fractions.double().numpy()
    std = noise_std(torch.from_numpy(times), torch.full((5,), 5)).numpy()
    for first in (0, 5):
        moved = noised[first + 3 : first + 5] - true[3:]
        expected = mixture_score(true[3:], moved, float(std[3]), cell)
        np.testing.assert_allclose(part.target[first + 3 : first + 5], expected, atol=1e-4)
        known = scaled_wrapped_score(noised[first : first + 3] - true[:3], std[:3])[0]
        np.testing.assert_allclose(part.target[first : first + 3], known, atol=1e-2)


def test_noise_follows_the_times(data: Path) -> None:
    numbers, positions, cell = CrystalSet([data]).crystal(1)
    task = remove_sublattice(numbers, positions, cell, numbers == 1)
    times = np.array([0.001, 0.001, 0.001, 0.6, 0.6])
    part = noised_micro_batch(
        [task] * 400, [times] * 400, np.random.default_rng(0), small("td").config
    )
    move = part.crystals.fractions - join_tasks([task] * 400).fractions
    moves = (move - move.round()).numpy().reshape(400, 5, 3)
    spread = moves.std((0, 2))
    expected = noise_std(torch.from_numpy(times), torch.full((5,), 5)).numpy()
    np.testing.assert_allclose(spread, expected, rtol=0.1)
    assert part.times.tolist() == pytest.approx(times.tolist() * 400)
    assert ((part.crystals.fractions >= 0) & (part.crystals.fractions < 1)).all()


def test_times_of_pos(data: Path) -> None:
    part = objective(data, "pos").draw(np.random.default_rng(0))
    for structure in range(3):
        here = part.times[part.crystals.structure == structure]
        assert (here == here[0]).all()


def test_times_of_td(data: Path) -> None:
    rng = np.random.default_rng(0)
    sublattice = objective(data, "td", tasks=replace(TASKS, sublattice_fraction=1.0))
    for _ in range(10):
        part = sublattice.draw(rng)
        for structure in range(3):
            here = part.crystals.structure == structure
            missing = part.times[here] != np.float32(TRAINED_KNOWN_TIME)
            assert 0 < missing.sum() < here.sum()
            assert len(set(part.crystals.numbers[here][missing].tolist())) == 1
    scattered = objective(data, "td", tasks=replace(TASKS, sublattice_fraction=0.0))
    known = [
        (scattered.draw(rng).times == np.float32(TRAINED_KNOWN_TIME)).float().mean().item()
        for _ in range(150)
    ]
    assert np.mean(known) == pytest.approx(TASKS.known_fraction, abs=0.03)


def test_loss_is_zero_for_the_exact_score_and_sums_over_sites(data: Path) -> None:
    made = objective(data, "pos")
    part = made.draw(np.random.default_rng(0))
    network = made.new_network()
    network.scaled_score = lambda _crystals, _times, _graph: part.target
    assert made.loss(network, part).item() == 0.0
    network.scaled_score = lambda _crystals, _times, _graph: part.target + 2.0
    assert made.loss(network, part).item() == pytest.approx(4.0 * len(part.times) / 3)


def test_known_sites_have_no_loss(data: Path) -> None:
    made = objective(data, "td", tasks=replace(TASKS, sublattice_fraction=1.0))
    part = made.draw(np.random.default_rng(0))
    network = made.new_network()
    known = part.times == np.float32(TRAINED_KNOWN_TIME)
    wrong = part.target + 5.0 * known[:, None]
    network.scaled_score = lambda _crystals, _times, _graph: wrong
    assert made.loss(network, part).item() == 0.0


def test_range_of_drawn_times() -> None:
    rng = np.random.default_rng(0)
    times = np.array([draw_time(rng) for _ in range(4000)])
    assert times.min() >= TRAINED_KNOWN_TIME
    assert times.min() < 0.01
    assert times.max() > 0.99
    assert (times > 0.7).mean() == pytest.approx(0.15, abs=0.03)


def test_wrong_architecture_is_refused(data: Path) -> None:
    made = objective(data, "pos")
    with pytest.raises(TypeError, match="HostNet is not a GemNet"):
        made.loss(small("host"), made.draw(np.random.default_rng(0)))
    assert isinstance(small("host"), HostNet)


@pytest.mark.parametrize("method", ["td", "pos"])
def test_training_lowers_the_loss_and_writes_weights(
    tmp_path: Path, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("xtalfill.training.crystal._VALIDATION_STEPS", 3)
    data = write_crystals(tmp_path / "data.h5", kinds=2)
    run = replace(RUN, steps=30, warmup=5, validate_every=15, learning_rate=1e-2)
    made = objective(data, method)
    train(made, run, tmp_path / "run", source={})
    assert [row["step"] for row in read_log(tmp_path / "run")] == ["15", "30"]
    trained = load_weights(tmp_path / "run" / "last.pt")
    assert kind_of(trained) == method
    torch.manual_seed(run.seed)
    parts = [made.draw(np.random.default_rng([1, number])) for number in range(20)]
    losses = []
    for network in (trained, made.new_network()):
        with torch.inference_mode():
            losses.append(sum(made.loss(network, part).item() for part in parts))
    assert losses[0] < 0.97 * losses[1]


def test_weights_of_td_can_initialise_pos(data: Path, tmp_path: Path) -> None:
    frozen = replace(RUN, steps=1, warmup=1, validate_every=5, learning_rate=0.0)
    td, pos = tmp_path / "td", tmp_path / "pos"
    train(objective(data, "td"), frozen, td, source={})
    train(objective(data, "pos"), frozen, pos, source={}, start=td / "last.pt")
    begun = load_weights(pos / "last.pt")
    assert kind_of(begun) == "pos"
    for name, value in load_weights(td / "last.pt").state_dict().items():
        torch.testing.assert_close(begun.state_dict()[name], value)
