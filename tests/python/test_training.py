"""Training: exact targets, splits without leakage, resumable runs."""

import csv
import itertools
import threading
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from xtalfill.core.checkpoint import Checkpoint
from xtalfill.core.errors import ConfigError, InputError, TryAgainError
from xtalfill.models.hostnet import HostNetConfig
from xtalfill.models.weights import ScoreNetwork, load_weights
from xtalfill.training.data import CrystalSet, TaskSampler, remove_sublattice
from xtalfill.training.files import write_training_file
from xtalfill.training.host import HostObjective, HostTasks, draw_sigma
from xtalfill.training.loop import Trainer, TrainingConfig, train
from xtalfill.training.objective import MicroBatch, MicroBatchSize
from xtalfill.training.plot import plot_log
from xtalfill.training.split import Split, read_split
from xtalfill.training.substitution import substitute_element
from xtalfill.training.target import expected_displacement
from xtalfill.training.validate import is_match, validate, validation_tasks

NETWORK = HostNetConfig(width=8, host_layers=1, site_layers=1, n_radial=4, host_cutoff=4.0)
RUN = TrainingConfig(steps=6, warmup=2, validate_every=3, seed=7)
TASKS = HostTasks(MicroBatchSize(crystals=2), sites=4, validation_count=2)


def host_objective(
    path: Path, *, tasks: HostTasks = TASKS, model: HostNetConfig = NETWORK
) -> HostObjective:
    return HostObjective(CrystalSet([path]), tasks, model, seed=RUN.seed)


def image_shifts(cell: np.ndarray, reach: int = 2) -> np.ndarray:
    return np.array(list(itertools.product(range(-reach, reach + 1), repeat=3))) @ cell


def exact_displacement(
    noised: np.ndarray, true: np.ndarray, cell: np.ndarray, sigma: float
) -> np.ndarray:
    """Sum over all assignments and images in plain numpy."""
    n = len(noised)
    ways = true[None, :, None] - noised[:, None, None] + image_shifts(cell)
    log_weight = -(ways**2).sum(-1) / (2 * sigma**2)
    pair = np.log(np.exp(log_weight - log_weight.max()).sum(-1)) + log_weight.max()
    share = np.exp(log_weight - pair[:, :, None])
    mean = (share[..., None] * ways).sum(2)
    orders = list(itertools.permutations(range(n)))
    total = np.array([sum(pair[i, o[i]] for i in range(n)) for o in orders])
    probability = np.exp(total - total.max())
    probability /= probability.sum()
    return sum(
        p * np.array([mean[i, o[i]] for i in range(n)])
        for p, o in zip(probability, orders, strict=True)
    )


CELL = np.array([[4.2, 0.0, 0.0], [0.5, 4.6, 0.0], [-0.3, 0.4, 5.1]])


@given(seed=st.integers(0, 10_000), sigma=st.floats(0.05, 2.0))
@settings(max_examples=20)
def test_target_of_one_site(seed: int, sigma: float) -> None:
    rng = np.random.default_rng(seed)
    true = rng.random((1, 3)) @ CELL
    noised = true + sigma * rng.normal(size=(1, 3))
    noised = noised - np.floor(noised @ np.linalg.inv(CELL)) @ CELL
    np.testing.assert_allclose(
        expected_displacement(noised, true, CELL, sigma),
        exact_displacement(noised, true, CELL, sigma),
        atol=0.02 * sigma,
    )


@pytest.mark.parametrize("sigma", [0.1, 0.4, 1.0])
def test_target_of_several_sites(sigma: float) -> None:
    rng = np.random.default_rng(0)
    without_exchange = []
    for _ in range(20):
        true = rng.random((4, 3)) @ CELL
        noised = true + sigma * rng.normal(size=(4, 3))
        noised = noised - np.floor(noised @ np.linalg.inv(CELL)) @ CELL
        exact = exact_displacement(noised, true, CELL, sigma)
        found = expected_displacement(noised, true, CELL, sigma)
        np.testing.assert_allclose(found, exact, atol=1e-9)
        own = [
            expected_displacement(noised[i : i + 1], true[i : i + 1], CELL, sigma)[0]
            for i in range(4)
        ]
        without_exchange.append(np.abs(own - exact).max())
    if sigma > 0.2:
        assert max(without_exchange) > 0.1


def test_target_is_independent_of_the_assignment() -> None:
    rng = np.random.default_rng(1)
    true = rng.random((3, 3)) @ CELL
    noised = true + 0.5 * rng.normal(size=(3, 3))
    swapped = expected_displacement(noised, true[[1, 2, 0]], CELL, 0.5)
    np.testing.assert_allclose(swapped, expected_displacement(noised, true, CELL, 0.5), atol=1e-6)


def write_crystals(path: Path, *, kinds: int) -> Path:
    """Write eight small crystals with `kinds` different geometries; the last two are held out."""
    numbers, fractions, cells = [], [], []
    for k in range(8):
        rng = np.random.default_rng(k % kinds)
        numbers.append(np.array([12, 8, 8, 1, 1] if k % 2 else [11, 3, 17, 17], np.uint8))
        fractions.append(rng.integers(0, 65536, (len(numbers[-1]), 3)).astype(np.uint16))
        cells.append(np.diag([4.0, 4.5, 5.0]).astype(np.float32))
    sizes = np.array([len(n) for n in numbers])
    with h5py.File(path, "w") as file:
        file["atomic_number"] = np.concatenate(numbers)
        file["frac_coords"] = np.concatenate(fractions)
        file["cell"] = np.stack(cells)
        file["n_atoms"] = sizes
        file["offset"] = np.cumsum(sizes) - sizes
        file["is_validation"] = np.arange(8) >= 6
    return path


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_crystals(tmp_path / "data.h5", kinds=8)


def test_crystals_of_two_files(data: Path) -> None:
    crystals = CrystalSet([data, data])
    assert len(crystals) == 16
    for index in range(8):
        for first, second in zip(crystals.crystal(index), crystals.crystal(index + 8), strict=True):
            np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(crystals.has_hydrogen, np.arange(16) % 2 == 1)


@pytest.mark.parametrize("content", [None, b"not hdf5"])
def test_unreadable_training_file(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "bad.h5"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"bad\.h5: not a training file"):
        CrystalSet([path])


@pytest.fixture
def named(data: Path) -> Path:
    """Return a training file with material ids m0 to m7."""
    with h5py.File(data, "r+") as file:
        file["material_id"] = np.array([f"m{k}".encode() for k in range(8)])
    return data


def write_list(path: Path, column: str, values: list[str]) -> Path:
    path.write_text("\n".join([f"other,{column}", *(f"x,{value}" for value in values)]) + "\n")
    return path


def test_excluded_crystals_and_held_out_systems(named: Path, tmp_path: Path) -> None:
    whole = CrystalSet([named])
    system = whole.chemical_system(1)
    backwards = "-".join(reversed(system.split("-")))
    split = read_split(
        exclude=write_list(tmp_path / "e.csv", "material_id", ["m0", "m3"]),
        hold_out=write_list(tmp_path / "h.csv", "chemical_system", [backwards]),
    )
    kept = CrystalSet([named], split=split)
    originals = [1, 2, 4, 5, 6, 7]
    assert len(kept) == 6
    for index, original in enumerate(originals):
        for one, other in zip(kept.crystal(index), whole.crystal(original), strict=True):
            np.testing.assert_array_equal(one, other)
        assert kept.has_hydrogen[index] == whole.has_hydrogen[original]
        expected = whole.is_validation[original] or whole.chemical_system(original) == system
        assert kept.is_validation[index] == expected
    assert kept.is_validation.sum() > whole.is_validation[originals].sum()


def test_lists_of_other_data_are_refused(named: Path, tmp_path: Path) -> None:
    split = read_split(exclude=write_list(tmp_path / "e.csv", "material_id", ["m0", "m9"]),
                       hold_out=None)  # fmt: skip
    with pytest.raises(ConfigError, match="1 of 2 ids are not in the training files"):
        CrystalSet([named], split=split)
    with pytest.raises(ConfigError, match="column 'chemical_system' is missing"):
        read_split(exclude=None, hold_out=write_list(tmp_path / "h.csv", "system", ["H-O"]))
    with pytest.raises(ConfigError, match="not a readable CSV"):
        read_split(exclude=tmp_path / "absent.csv", hold_out=None)
    assert read_split(exclude=None, hold_out=None) is None


def test_bundled_lists_are_consistent(repository: Path) -> None:
    folder = repository / "assets" / "training"
    split = read_split(exclude=folder / "mc3d_matches.csv",
                       hold_out=folder / "held_out_systems.csv")  # fmt: skip
    assert split is not None
    assert len(split.excluded) == 1657
    assert len(split.held_out) == 208
    assert all("H" in name.split("-") for name in split.held_out)


def test_a_written_file_is_a_training_file(tmp_path: Path, brucite: Atoms) -> None:
    brucite.info["id"] = "mine"
    salt = bulk("NaCl", "rocksalt", a=5.64)
    path = tmp_path / "own.h5"
    write_training_file(path, [brucite, salt], held_out=["H-O-Mg"])
    crystals = CrystalSet([path], split=Split(excluded=frozenset({"mine"})))
    assert [crystals.chemical_system(k) for k in range(len(crystals))] == ["Cl-Na"]
    crystals = CrystalSet([path])
    assert crystals.is_validation.tolist() == [True, False]
    numbers, positions, cell = crystals.crystal(0)
    assert numbers.tolist() == brucite.numbers.tolist()
    apart = (positions - brucite.positions) @ np.linalg.inv(cell)
    np.testing.assert_allclose(apart, np.round(apart), atol=1e-5)
    with pytest.raises(InputError, match="no crystal has the system Li-O"):
        write_training_file(path, [salt], held_out=["O-Li"])
    with pytest.raises(InputError, match="not periodic"):
        write_training_file(path, [Atoms("H")])


def test_crystals_of_one_kind_are_enough(tmp_path: Path, brucite: Atoms) -> None:
    path = tmp_path / "own.h5"
    for crystals, element in (([brucite] * 2, {1}), ([bulk("NaCl", "rocksalt", a=5.64)], {11, 17})):
        write_training_file(path, crystals)
        sampler = TaskSampler(
            CrystalSet([path]), hydrogen_fraction=0.6, max_sites=4, substituted_fraction=0.0
        )
        rng = np.random.default_rng(0)
        assert {sampler.draw(rng).host.element for _ in range(20)} == element
    with pytest.raises(ConfigError, match="no crystal with hydrogen is held out"):
        validation_tasks(CrystalSet([path]), count=2, seed=0)
    write_training_file(path, [brucite], held_out=["H-Mg-O"])
    with pytest.raises(ConfigError, match="all crystals of --data are held out"):
        TaskSampler(
            CrystalSet([path]), hydrogen_fraction=0.6, max_sites=4, substituted_fraction=0.0
        )


def test_held_out_systems_are_not_sampled(data: Path) -> None:
    crystals = CrystalSet([data])
    held_out = {tuple(crystals.crystal(k)[1][0].round(6)) for k in (6, 7)}
    sampler = TaskSampler(crystals, hydrogen_fraction=0.5, max_sites=4, substituted_fraction=0.2)
    sampler._augment = lambda task, _rng: task
    rng = np.random.default_rng(0)
    elements = set()
    for _ in range(200):
        task = sampler.draw(rng)
        elements.add(task.host.element)
        assert task.host.n_sites == len(task.sites) >= 1
        assert len(task.host.numbers) >= 1
        places = {tuple(p.round(6)) for p in [*task.host.positions, *task.sites]}
        assert not places & held_out
    assert {1, 3, 11, 17} <= elements
    assert [len(t.sites) for t in validation_tasks(crystals, count=5, seed=0)] == [2]


def test_similar_elements() -> None:
    rng = np.random.default_rng(0)
    seen = {
        z: {int(substitute_element(np.array([z]), rng)[0]) for _ in range(60)}
        for z in (1, 8, 40, 57, 37, 92)
    }
    assert seen[1] == {1}
    assert seen[8] == {8}
    assert seen[92] == {92}
    assert seen[40] == {22, 72}
    assert seen[37] == {19, 55}
    assert {58, 64} <= seen[57]
    assert seen[57] <= {39, *range(57, 72)}
    host = np.array([40, 8, 40, 8])
    changed = [substitute_element(host, rng) for _ in range(20)]
    assert all((c == host)[[1, 3]].all() and c[0] == c[2] for c in changed)


def test_is_match(data: Path) -> None:
    numbers = np.array([12, 8, 8, 1, 1])
    cell = np.array([[3.14, 0, 0], [-1.57, 2.72, 0], [0, 0, 4.77]])
    fractions = [[0, 0, 0], [1 / 3, 2 / 3, 0.22], [2 / 3, 1 / 3, 0.78]]
    fractions += [[1 / 3, 2 / 3, 0.423], [2 / 3, 1 / 3, 0.577]]
    task = remove_sublattice(numbers, np.array(fractions) @ cell, cell, numbers == 1)
    assert is_match(task, task.sites + 0.05)
    assert is_match(task, task.sites[::-1])
    assert not is_match(task, np.array([[0, 0, 0.5], [0.5, 0, 0.5]]) @ cell)


def test_noise_levels_cover_those_of_the_sampler() -> None:
    rng = np.random.default_rng(0)
    sigma = np.array([draw_sigma(rng) for _ in range(4000)])
    assert sigma.min() >= 0.04
    assert sigma.max() <= 3.5
    assert (sigma < 0.1).mean() > 0.05
    assert (sigma > 2.5).mean() > 0.02


def read_log(folder: Path) -> list[dict[str, str]]:
    with (folder / "log.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_run_trains_logs_and_resumes(data: Path, tmp_path: Path) -> None:
    torch.set_num_threads(1)
    objective = host_objective(data)
    folder = tmp_path / "run"
    train(objective, RUN, folder, source={"data": {"data.h5": "0"}})
    rows = read_log(folder)
    assert [row["step"] for row in rows] == ["3", "6"]
    assert np.isfinite([float(row["loss"]) for row in rows]).all()
    content = torch.load(folder / "last.pt", weights_only=True)
    assert content["training"]["steps"] == 6
    assert content["training"]["data"] == {"data.h5": "0"}
    tasks = validation_tasks(CrystalSet([data]), count=2, seed=0)
    model = load_weights(folder / "best.pt")
    result = validate(model, tasks, steps=3, seed=0)
    assert result == validate(model, tasks, steps=3, seed=0)
    plot_log(folder / "log.csv", folder / "loss.png")
    assert (folder / "loss.png").stat().st_size > 5000


class KilledError(Exception):
    """Simulates a kill."""


class EverySecond(Checkpoint):
    """Writes after every second step."""

    steps = 0

    def step(self, content: Callable[[], Mapping[str, np.ndarray]]) -> None:
        """Write at every second step."""
        self.steps += 1
        if self.steps % 2 == 0:
            super().step(content)


def kept(folder: Path, kind: type[Checkpoint] = Checkpoint, **options: float) -> Checkpoint:
    """Return a checkpoint of a run in a folder, written at every step."""
    return kind(folder, key="training", previous=folder, **{"every": 0.0, **options})


def assert_same_end(folder: Path, other: Path) -> None:
    states = [load_weights(path / "last.pt").state_dict() for path in (folder, other)]
    for name, value in states[0].items():
        assert torch.equal(value, states[1][name]), name
    logs = [read_log(path) for path in (folder, other)]
    assert [row["step"] for row in logs[0]] == ["3", "6"]
    for row in (*logs[0], *logs[1]):
        del row["seconds"]
    assert logs[0] == logs[1]


@pytest.mark.parametrize("kind", [Checkpoint, EverySecond])
@pytest.mark.parametrize("killed_at", [1, 3, 4, 5])
def test_killed_run_resumes_bit_identically(
    data: Path,
    tmp_path: Path,
    killed_at: int,
    kind: type[Checkpoint],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    torch.set_num_threads(1)
    objective, whole, killed = host_objective(data), tmp_path / "whole", tmp_path / "killed"
    train(objective, RUN, whole, source={})
    learn = Trainer.learn

    def dying(self: Trainer, *args: object) -> None:
        if self.step == killed_at:
            raise KilledError
        learn(self, *args)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "learn", dying)
        with pytest.raises(KilledError):
            train(objective, RUN, killed, source={}, checkpoint=kept(killed, kind))
    train(objective, RUN, killed, source={}, checkpoint=kept(killed, kind))
    assert_same_end(whole, killed)


def test_run_stopped_by_its_time_limit_resumes_bit_identically(data: Path, tmp_path: Path) -> None:
    torch.set_num_threads(1)
    objective, whole, stopped = host_objective(data), tmp_path / "whole", tmp_path / "stopped"
    train(objective, RUN, whole, source={})
    for _ in range(RUN.steps):
        checkpoint = kept(stopped, every=1e9, seconds=0.0)
        with pytest.raises(TryAgainError, match="training: time limit nearly reached"):
            train(objective, RUN, stopped, source={}, checkpoint=checkpoint)
    train(objective, RUN, stopped, source={}, checkpoint=kept(stopped, seconds=0.0))
    assert_same_end(whole, stopped)


def test_run_can_be_extended(data: Path, tmp_path: Path) -> None:
    train(host_objective(data), RUN, tmp_path, source={}, checkpoint=kept(tmp_path, every=1e9))
    longer = replace(RUN, steps=8)
    train(host_objective(data), longer, tmp_path, source={}, checkpoint=kept(tmp_path))
    assert [row["step"] for row in read_log(tmp_path)] == ["3", "6", "8"]


def test_checkpoint_of_another_network_is_refused(data: Path, tmp_path: Path) -> None:
    train(host_objective(data), RUN, tmp_path, source={}, checkpoint=kept(tmp_path))
    other = host_objective(data, model=replace(NETWORK, width=4))
    with pytest.raises(ConfigError, match="another network"):
        train(other, RUN, tmp_path, source={}, checkpoint=kept(tmp_path))


def test_run_with_initial_weights(data: Path, tmp_path: Path) -> None:
    torch.set_num_threads(1)
    train(host_objective(data), RUN, tmp_path / "first", source={})
    given = tmp_path / "first" / "last.pt"
    frozen = replace(RUN, steps=3, learning_rate=0.0)
    train(host_objective(data), frozen, tmp_path / "second", source={}, start=given)
    first = load_weights(given).state_dict()
    for name, value in load_weights(tmp_path / "second" / "last.pt").state_dict().items():
        torch.testing.assert_close(value, first[name])
    answering = host_objective(data, model=replace(NETWORK, answers=1))
    train(answering, frozen, tmp_path / "third", source={}, start=given)
    extended = load_weights(tmp_path / "third" / "last.pt").state_dict()
    assert set(extended) > set(first)
    for name, value in first.items():
        torch.testing.assert_close(value, extended[name])
    other = host_objective(data, model=replace(NETWORK, width=4))
    with pytest.raises(ConfigError, match="another network"):
        train(other, RUN, tmp_path / "fourth", source={}, start=given)


def test_non_finite_loss_stops_the_run(data: Path, tmp_path: Path) -> None:
    objective = host_objective(data)
    objective.loss = lambda network, _part: sum(p.sum() for p in network.parameters()) * np.nan
    with pytest.raises(ConfigError, match=r"not finite at step 1; .* lower --learning_rate"):
        train(objective, RUN, tmp_path, source={})


@pytest.mark.parametrize("fails", [False, True])
def test_threads_end_with_the_training(data: Path, tmp_path: Path, fails: bool) -> None:
    """One thread for each micro-batch; none after the end or a failure of the training."""
    before, objective = set(threading.enumerate()), host_objective(data)
    learn, during = objective.loss, set()

    def loss(network: ScoreNetwork, part: MicroBatch) -> Tensor:
        during.update(threading.enumerate())
        return learn(network, part) * (np.nan if fails else 1.0)

    objective.loss = loss
    with pytest.raises(ConfigError) if fails else nullcontext() as caught:
        train(objective, RUN, tmp_path, source={})
    assert (caught is not None) == fails  # its traceback would keep a leaked pool alive
    assert during - before
    assert set(threading.enumerate()) - before == set()


def test_mixed_precision_agrees_with_single_precision(data: Path, tmp_path: Path) -> None:
    torch.set_num_threads(1)
    losses, states = [], []
    for name, mixed in (("single", False), ("mixed", True)):
        run = replace(RUN, mixed_precision=mixed)
        train(host_objective(data), run, tmp_path / name, source={})
        losses.append([float(row["loss"]) for row in read_log(tmp_path / name)])
        states.append(load_weights(tmp_path / name / "last.pt").state_dict())
    np.testing.assert_allclose(losses[1], losses[0], rtol=0.02)
    assert any(not torch.equal(value, states[1][name]) for name, value in states[0].items())


def test_missing_gpu_is_an_error(data: Path, tmp_path: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(ConfigError, match="torch sees no GPU"):
        train(host_objective(data), replace(RUN, device="cuda"), tmp_path, source={})


def test_training_lowers_the_loss(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    data = write_crystals(tmp_path / "data.h5", kinds=2)
    tasks = replace(TASKS, size=MicroBatchSize(crystals=3), hydrogen_fraction=1.0)
    run = replace(RUN, steps=120, validate_every=40, learning_rate=1e-2)
    train(host_objective(data, tasks=tasks), run, tmp_path, source={})
    losses = [float(row["loss"]) for row in read_log(tmp_path)]
    assert losses[-1] < 0.9 * losses[0]
