"""Micro-batches: size, data processes, no GPU synchronisation."""

import gc
import logging
import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor

from slurm_node import wait_for
from test_inpaint_models import ASSETS, small
from test_training import (
    NETWORK,
    RUN,
    TASKS,
    KilledError,
    host_objective,
    kept,
    write_crystals,
)
from xtalfill.core.errors import ConfigError
from xtalfill.models.tensors import TensorGroup
from xtalfill.models.weights import load_weights
from xtalfill.training.crystal import CrystalObjective, CrystalTasks
from xtalfill.training.data import CrystalSet
from xtalfill.training.loop import Trainer, train
from xtalfill.training.objective import MicroBatchSize
from xtalfill.training.prefetch import MicroBatchLoader

ROOT = Path(__file__).parents[2]
META = torch.device("meta")  # the meta device has no data: reading a value is an error


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_crystals(tmp_path / "data.h5", kinds=8)


def crystal_objective(
    path: Path, method: str, size: MicroBatchSize | None = None
) -> CrystalObjective:
    tasks = CrystalTasks(size or MicroBatchSize(crystals=3), max_sites=4, validation_count=2)
    return CrystalObjective(
        CrystalSet([path]), tasks, small(method).config, method=method,
        scale_file=ASSETS / "gemnet-dT.json", seed=5,
    )  # fmt: skip


def tensors(group: TensorGroup) -> Iterator[tuple[str, Tensor]]:
    for name, value in vars(group).items():
        if isinstance(value, TensorGroup):
            yield from tensors(value)
        else:
            yield name, value


def assert_same_part(part: TensorGroup, other: TensorGroup) -> None:
    pairs = list(zip(tensors(part), tensors(other), strict=True))
    assert len(pairs) > 8
    for (name, value), (_, expected) in pairs:
        assert value.dtype == expected.dtype, name
        assert torch.equal(value, expected), name


@pytest.mark.parametrize("atoms", [12, 1])
def test_size_in_atoms(data: Path, atoms: int) -> None:
    size = MicroBatchSize(atoms=atoms)
    made = host_objective(data, tasks=replace(TASKS, size=size))
    for number in range(10):
        part = crystal_objective(data, "td", size).draw(np.random.default_rng(number))
        total, last = len(part.times), int(part.graph.n_sites[-1])
        assert total - last < atoms <= total
        assert part.n_crystals == len(part.crystals.cell)
        host = made.draw(np.random.default_rng(number))
        of_host = host.hosts.structure.bincount()
        of_host += host.sites.structure[host.sites.draw].bincount()
        assert of_host.sum() - of_host[-1] < atoms <= of_host.sum()
        assert host.n_crystals == len(of_host)
        assert_same_part(host, made.draw(np.random.default_rng(number)))


@pytest.mark.parametrize("size", [{"crystals": 0}, {"atoms": 0}, {"atoms": -5}])
def test_empty_micro_batch_is_refused(size: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match=f"--{next(iter(size))} .* at least 1"):
        MicroBatchSize(**size)


def test_negative_number_of_processes_is_refused() -> None:
    with pytest.raises(ConfigError, match="--draw_processes is -1"):
        replace(RUN, draw_processes=-1)


def test_weights_are_independent_of_data_processes(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.set_num_threads(1)
    tasks = replace(TASKS, size=MicroBatchSize(atoms=20))
    train(host_objective(data, tasks=tasks), RUN, tmp_path / "thread", source={})
    learn, folder = Trainer.learn, tmp_path / "processes"

    def dying(self: Trainer, *args: object) -> None:
        if self.step == 3:
            raise KilledError
        learn(self, *args)

    made = host_objective(data, tasks=tasks)
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "learn", dying)
        run = replace(RUN, draw_processes=2)
        with pytest.raises(KilledError):
            train(made, run, folder, source={}, checkpoint=kept(folder))
    run = replace(RUN, draw_processes=1)
    train(made, run, folder, source={}, checkpoint=kept(folder))
    assert not multiprocessing.active_children()
    one, other = (
        load_weights(tmp_path / name / "last.pt").state_dict() for name in ("thread", "processes")
    )
    for name, value in one.items():
        assert torch.equal(value, other[name]), name


def test_processes_agree_with_the_thread(data: Path) -> None:
    made = crystal_objective(data, "td")
    streams = [
        MicroBatchLoader(made, seed=3, steps=range(first, 4), parts=2, processes=processes)
        for first, processes in ((0, 0), (2, 2))
    ]
    try:
        steps = [streams[0].next() for _ in range(4)]
        assert [len(parts) for parts in steps] == [2] * 4
        for number in (2, 3):
            for part, other in zip(steps[number], streams[1].next(), strict=True):
                assert_same_part(part, other)
    finally:
        for stream in streams:
            stream.close()
    assert not multiprocessing.active_children()


class Failing:
    """An objective that fails to draw the third micro-batch."""

    def __init__(self, *, exits: bool) -> None:
        self.exits, self.left = exits, 2

    def draw(self, rng: np.random.Generator) -> Tensor:
        """Draw a number, or fail."""
        self.left -= 1
        if self.left < 0 and self.exits:
            os._exit(3)
        if self.left < 0:
            raise ValueError("no such crystal")
        return torch.tensor(rng.random())


@pytest.mark.parametrize("processes", [0, 1])
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_failed_draw_stops_the_run(processes: int) -> None:
    stream = MicroBatchLoader(
        Failing(exits=False), seed=0, steps=range(9), parts=1, processes=processes
    )
    stream.next()
    stream.next()
    with pytest.raises(
        RuntimeError, match=r"(?s)drawing a micro-batch.* failed: .*no such crystal"
    ):
        stream.next()
    stream.close()


def test_dead_data_process_stops_the_run(data: Path) -> None:
    stream = MicroBatchLoader(Failing(exits=True), seed=0, steps=range(9), parts=1, processes=2)
    with pytest.raises((ConfigError, RuntimeError), match=r"(process|worker).* (died|exit)"):
        list(iter(stream.next, None))
    stream.close()
    gc.collect()
    assert not multiprocessing.active_children()


@pytest.mark.parametrize("method", ["td", "pos"])
def test_prefetched_graph_gives_the_same_loss(data: Path, method: str) -> None:
    made = crystal_objective(data, method)
    part, network = made.draw(np.random.default_rng(0)), small(method)
    score = network.scaled_score
    known = made.loss(network, part)
    network.scaled_score = lambda crystals, times, _graph: score(crystals, times)
    assert torch.equal(known, made.loss(network, part))


def test_step_of_hostnet_does_not_synchronise(data: Path) -> None:
    made = host_objective(data, model=replace(NETWORK, answers=2, site_layers=3))
    part = made.draw(np.random.default_rng(0)).to(META)
    network = made.new_network().to(META)
    loss = made.loss(network, part)
    gradients = torch.autograd.grad(loss, list(network.parameters()))
    assert {loss.device, *(gradient.device for gradient in gradients)} == {META}


@pytest.mark.parametrize("method", ["td", "pos"])
def test_step_of_gemnet_does_not_synchronise(data: Path, method: str) -> None:
    made = crystal_objective(data, method)
    part = made.draw(np.random.default_rng(0)).to(META)
    network = made.new_network().to(META)
    output = SimpleNamespace(forces=torch.zeros(len(part.times), 3, device=META))
    network.gemnet.forward = lambda **_arguments: output  # mattergen's code does synchronise
    assert made.loss(network, part).device == META


@pytest.mark.filterwarnings("ignore:for .* copying from a non-meta parameter")
def test_resumed_run_keeps_step_counts_on_the_cpu(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(host_objective(data), RUN, tmp_path, source={}, checkpoint=kept(tmp_path))
    monkeypatch.setattr("xtalfill.training.loop.torch_device", lambda _name: META)
    trainer = Trainer(RUN, host_objective(data), tmp_path)
    trainer.resume(kept(tmp_path).found)
    states = trainer.optimizer.state.values()
    assert {state["step"].device.type for state in states} == {"cpu"}
    assert {state["exp_avg"].device.type for state in states} == {"meta"}


def test_micro_batch_is_pinned(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    part = crystal_objective(data, "td").draw(np.random.default_rng(0))
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: tensor.clone())
    pinned = part.pin_memory()
    assert_same_part(part, pinned)
    pairs = zip(tensors(part), tensors(pinned), strict=True)
    assert all(one[1].data_ptr() != other[1].data_ptr() for one, other in pairs)


def test_log_contains_the_speed(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("xtalfill.training.loop._LOG_EVERY", 2)
    with caplog.at_level(logging.INFO):
        train(host_objective(data), replace(RUN, steps=4), tmp_path, source={})
    lines = [message for message in caplog.messages if "crystals/s" in message]
    assert [line.split()[:2] for line in lines] == [["step", "2"], ["step", "4"]]
    assert all(float(line.split()[-2]) > 0 for line in lines)


def test_script_trains_with_data_processes(data: Path, tmp_path: Path) -> None:
    options = ["--steps", "2", "--width", "8", "--atoms", "20", "--threads", "1"]
    # A notebook with a backend that this Python does not have starts it.
    notebook = {"MPLBACKEND": "module://matplotlib_inline.backend_inline"}
    subprocess.run(
        [sys.executable, ROOT / "bin" / "train.py", "--data", data, "--folder", tmp_path / "run",
         "--draw_processes", "1", *options],
        check=True, env={**os.environ, **notebook, "OMP_NUM_THREADS": "1"}, timeout=120,
    )  # fmt: skip
    assert (tmp_path / "run" / "last.pt").is_file()


def test_sigterm_stops_a_script_after_a_step(data: Path, tmp_path: Path) -> None:
    options = ["--steps", "100000", "--width", "8", "--crystals", "2", "--threads", "1"]
    with subprocess.Popen(
        [sys.executable, ROOT / "bin" / "train.py", "--data", data, "--folder", tmp_path / "run",
         "--draw_processes", "2", "--validate_every", "1", *options],
        env={**os.environ, "OMP_NUM_THREADS": "1"}, start_new_session=True,
        stderr=subprocess.PIPE, text=True,
    ) as run:  # fmt: skip
        wait_for((tmp_path / "run" / "last.pt").is_file, seconds=300)
        os.killpg(
            run.pid, signal.SIGTERM
        )  # to the process group, including data processes, like Slurm
        errors = run.communicate(timeout=60)[1]
    assert run.returncode == os.EX_TEMPFAIL, errors
    assert (
        errors.splitlines()[-1]
        == "ERROR: training: stopped by SIGTERM; the next attempt resumes from the checkpoint"
    )
    assert int(kept(tmp_path / "run").found["step"]) >= 1
