"""Interrupted tasks: the next attempt gives the same result as an uninterrupted one."""

from __future__ import annotations

import io
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms

from analytic_potential import MorsePotential, crystals
from test_inpaint import CONFIG, inpaint
from test_inpaint import make_batch as make_hosts
from test_relax_deduplicate import SteeperWells, Wells
from test_relax_deduplicate import make_batch as make_duplicates
from test_relax_stage import make_batch
from xtalfill.core.batch import Batch, content_sha256
from xtalfill.core.checkpoint import FILE, Checkpoint
from xtalfill.core.errors import TryAgainError
from xtalfill.models.hostnet import HostNet
from xtalfill.relax.batched import BatchedRelaxer, Relaxation, RelaxationResult, State
from xtalfill.relax.optimizers import OptimizerName
from xtalfill.relax.relax_checkpoint import key_of
from xtalfill.relax.settings import RelaxSettings
from xtalfill.relax.stage import relax_batch

ARRAYS = {"0": np.arange(3.0), "1": np.array("why")}
SETTINGS = RelaxSettings(
    sites_fmax=0.05, sites_max_steps=200, fmax=0.05, max_steps=300, max_atoms_per_batch=20
)


class StoppedError(Exception):
    """Stops a relaxation at a given step."""


class After(Checkpoint):
    """Writes at every step and stops at the n-th."""

    def __init__(self, n: int, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, every=0.0, **options)
        self.left = n

    def step(self, content: Any) -> None:
        """Write; stop at the n-th call."""
        super().step(content)
        self.left -= 1
        if not self.left:
            raise StoppedError


def test_next_attempt_reads_the_checkpoint(tmp_path: Path) -> None:
    Checkpoint(tmp_path, key="a", every=0.0).step(lambda: ARRAYS)
    found = Checkpoint(tmp_path / "new", key="a", previous=tmp_path).found
    assert found.keys() == ARRAYS.keys()
    assert np.array_equal(found["0"], ARRAYS["0"])
    assert str(found["1"]) == "why"
    assert not (tmp_path / "new").exists()


def test_damaged_checkpoint_is_ignored(tmp_path: Path) -> None:
    Checkpoint(tmp_path, key="a", every=0.0).step(lambda: ARRAYS)
    file = tmp_path / FILE
    whole = file.read_bytes()
    damaged = [whole[:size] for size in range(len(whole))]
    for place in range(len(whole)):
        damaged += [
            whole[:place] + bytes([whole[place] ^ bits]) + whole[place + 1 :] for bits in (1, 0xFF)
        ]
    for content in damaged:
        file.write_bytes(content)
        found = Checkpoint(tmp_path / "new", key="a", previous=tmp_path).found
        # changes of unused bits, such as a date, are harmless
        if found:
            assert found.keys() == ARRAYS.keys()
            assert all(np.array_equal(found[name], ARRAYS[name]) for name in ARRAYS)


def test_checkpoint_interval(tmp_path: Path) -> None:
    Checkpoint(tmp_path, key="a", every=100.0).step(lambda: pytest.fail("asked for too early"))
    assert not list(tmp_path.iterdir())


def test_task_stops_before_its_time_limit(tmp_path: Path) -> None:
    checkpoint = Checkpoint(tmp_path, key="a", seconds=0.0)
    with pytest.raises(TryAgainError, match="a: time limit nearly reached"):
        checkpoint.step(lambda: ARRAYS)
    assert Checkpoint(tmp_path, key="a", previous=tmp_path).found.keys() == ARRAYS.keys()


def test_task_stops_if_the_next_piece_is_too_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter([0.0, 30.0, 40.0, 70.0])
    monkeypatch.setattr("xtalfill.core.checkpoint.time.monotonic", lambda: next(clock))
    checkpoint = Checkpoint(tmp_path, key="a", seconds=100.0, every=1e9)
    for _ in range(2):
        checkpoint.step(lambda: ARRAYS)
    # at 70 s; the longest piece took 30 s
    monkeypatch.setattr("xtalfill.core.checkpoint.time.monotonic", lambda: 70.0)
    with pytest.raises(TryAgainError):
        checkpoint.step(lambda: ARRAYS)


def test_sigterm_stops_a_task_at_its_next_step(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGTERM)
    checkpoint = Checkpoint(tmp_path, key="a", every=1e9)
    try:
        checkpoint.handle_sigterm()
        checkpoint.step(lambda: pytest.fail("asked for too early"))
        signal.raise_signal(signal.SIGTERM)
        with pytest.raises(TryAgainError, match="a: stopped by SIGTERM"):
            checkpoint.step(lambda: ARRAYS)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert Checkpoint(tmp_path, key="a", previous=tmp_path).found.keys() == ARRAYS.keys()


@pytest.mark.parametrize("damage", ["cut", "empty", "no zip", "another task"])
def test_checkpoint_of_another_task_is_reported_and_ignored(
    tmp_path: Path, damage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Checkpoint(tmp_path, key="a", every=0.0).step(lambda: ARRAYS)
    file = tmp_path / FILE
    content = {"cut": file.read_bytes()[:-40], "empty": b"", "no zip": b"\x80\x04K\x01."}
    if damage in content:
        file.write_bytes(content[damage])
    key = "b" if damage == "another task" else "a"
    assert Checkpoint(tmp_path, key=key, previous=tmp_path).found == {}
    assert "starting from the beginning" in capsys.readouterr().err


def test_pickled_objects_are_not_loaded(tmp_path: Path) -> None:
    with (tmp_path / FILE).open("wb") as file:
        np.savez(file, key=np.array("a"), x=np.array([{}], dtype=object))
    assert Checkpoint(tmp_path, key="a", previous=tmp_path).found == {}


def same(one: RelaxationResult, other: RelaxationResult) -> bool:
    states = (one.state(), other.state())
    return states[0].keys() == states[1].keys() and all(
        np.array_equal(states[0][key], states[1][key], equal_nan=key != "error")
        if key != "error"
        else states[0][key] == states[1][key]
        for key in states[0]
    )


@pytest.mark.parametrize(
    ("optimizer", "rounds"), [("fire", 1), ("fire", 7), ("fire", 40), ("lbfgs", 1), ("lbfgs", 9)]
)
def test_interrupted_relaxations_are_bit_identical(optimizer: OptimizerName, rounds: int) -> None:
    jobs = [Relaxation(crystal, free) for crystal, free in crystals(8)]
    driver = BatchedRelaxer(MorsePotential(), max_atoms=20, optimizer=optimizer)
    whole = driver.relax(jobs, fmax=0.02, max_steps=300)
    kept: dict[int, State] = {}
    left = rounds

    def on_round(states: Any) -> None:
        nonlocal kept, left
        kept, left = states(), left - 1
        if not left:
            raise StoppedError

    with pytest.raises(StoppedError):
        driver.relax(jobs, fmax=0.02, max_steps=300, on_round=on_round)
    counted: list[RelaxationResult] = []
    after = driver.relax(jobs, fmax=0.02, max_steps=300, states=kept, on_done=counted.append)
    assert len(counted) == len(jobs)
    assert all(same(one, other) for one, other in zip(whole, after, strict=True))
    assert any(one.n_steps > rounds for one in whole)


def relaxed(batch: Batch, checkpoint: Checkpoint | None = None) -> Batch:
    relax_batch(batch, MorsePotential(), SETTINGS, checkpoint=checkpoint, progress=io.StringIO())
    return batch


@pytest.mark.parametrize("rounds", [3, 30, 60])
def test_relax_resumes_in_the_interrupted_step(tmp_path: Path, rounds: int) -> None:
    whole = relaxed(make_batch())
    batch = make_batch()
    key = key_of(batch, "batch")
    with pytest.raises(StoppedError):
        relaxed(batch, After(rounds, tmp_path / "1", key=key))
    after = relaxed(make_batch(), Checkpoint(tmp_path / "2", key=key, previous=tmp_path / "1"))
    assert list(after.stages) == list(whole.stages)
    for name, stage in whole.stages.items():
        for key, array in stage.arrays.items():
            other = after.stages[name].arrays[key]
            if array.dtype == object:  # its bytes are addresses
                assert array.tolist() == other.tolist(), (name, key)
            else:
                assert array.tobytes() == other.tobytes(), (name, key)
    assert after.message.tolist() == whole.message.tolist()


@pytest.mark.parametrize("before_the_end", [1, 5])
def test_relax_rank_resumes_with_the_same_duplicates(tmp_path: Path, before_the_end: int) -> None:
    def ranked(checkpoint: Checkpoint) -> Batch:
        batch, settings = make_duplicates(), replace(SETTINGS, fmax=1e-3, optimizer="fire")
        more = {"ranking": SteeperWells(), "checkpoint": checkpoint, "progress": io.StringIO()}
        relax_batch(batch, Wells(), settings, **more)
        return batch

    counted = After(10**6, tmp_path / "0", key="a")
    whole = ranked(counted)
    rounds = 10**6 - counted.left
    with pytest.raises(StoppedError):
        ranked(After(rounds - before_the_end, tmp_path / "1", key="a"))
    checkpoint = Checkpoint(tmp_path / "2", key="a", previous=tmp_path / "1")
    # Four of six systems are in relax_rank.
    places = {name.split("/")[1] for name in checkpoint.found if name.startswith("relax_rank/")}
    assert places <= {"0", "1", "2", "3"}
    assert places
    assert content_sha256(ranked(checkpoint)) == content_sha256(whole)


def test_key_depends_on_the_systems() -> None:
    batch = make_batch()
    assert key_of(batch, "batch") == key_of(make_batch(), "batch")
    assert key_of(batch.subset(range(1, batch.n_systems)), "batch") != key_of(batch, "batch")


def test_inpaint_samples_only_missing_candidates(
    tmp_path: Path, brucite: Atoms, rocksalt: Atoms, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(1)
    model = HostNet(CONFIG).eval()
    both = {"brucite": brucite, "rocksalt": rocksalt}
    rows = [(name, method, k) for name in both for method in ("host", "random") for k in range(6)]
    whole, batch, after = (make_hosts(both, rows, 42) for _ in range(3))
    inpaint(whole, model)
    with pytest.raises(StoppedError):
        inpaint(batch, model, checkpoint=After(3, tmp_path, key="batch"))
    assert "inpaint" not in batch.stages
    checkpoint = Checkpoint(tmp_path / "2", key="batch", previous=tmp_path)
    assert len(checkpoint.found) == 11  # chunks of 5 and 1 candidates of a host, then 5
    inpaint(after, model, checkpoint=checkpoint)
    positions = [one.stages["inpaint"].arrays["positions"] for one in (whole, after)]
    assert positions[0].tobytes() == positions[1].tobytes()
