"""The potential method in several tasks: finished calculations are not repeated."""

from __future__ import annotations

import gzip
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dft_examples import TABLE, VALENCE, protocol, unpack
from potential_examples import RECORDED, RULES, recorded
from xtalfill.core.errors import MemoryNeededError, TryAgainError
from xtalfill.dft import pw_runner
from xtalfill.dft.launch import Machine
from xtalfill.dft.pseudos import read_table
from xtalfill.dft.pw_runner import Folders, Limits
from xtalfill.dft.system import PwSettings
from xtalfill.dft.theory import LevelOfTheory
from xtalfill.proposals.dft_potential import calculation
from xtalfill.proposals.dft_potential.calculation import SMEARING, PotentialCalculator
from xtalfill.proposals.dft_potential.grid import PP
from xtalfill.proposals.dft_potential.restore import Placement, restore

AGAIN = Limits(seconds=3600.0, last_chance=False)


class Replay:
    """Replaces pw.x and pp.x with recorded runs and potentials."""

    def __init__(self, runs: list[str], potentials: list[str]) -> None:
        self.runs, self.potentials = list(runs), list(potentials)
        self.inputs: list[str] = []

    def __call__(self, machine: Machine, _settings: PwSettings, folder: Path, *, name: str) -> int:
        """Leave the next run in the folder."""
        if machine.pw == PP:
            packed = RECORDED / f"{self.potentials.pop(0)}.cube.gz"
            (folder / "potential.cube").write_bytes(gzip.decompress(packed.read_bytes()))
            for suffix in ("out", "err"):
                (folder / f"{name}.{suffix}").touch()
            return 0
        self.inputs.append((folder / f"{name}.in").read_text(encoding="utf-8"))
        (folder / "out" / "pwscf.save").mkdir(parents=True, exist_ok=True)
        (folder / "out" / "pwscf.save" / "charge-density.dat").write_bytes(b"density")
        return unpack(self.runs.pop(0), folder, attempt=name)


@pytest.fixture
def folders(tmp_path: Path) -> Folders:
    """Return folders with placeholder pseudopotentials."""
    pseudos = tmp_path / "pseudos"
    pseudos.mkdir()
    for symbol in VALENCE:
        (pseudos / read_table(TABLE)[symbol].filename).touch()
    return Folders(pseudos, *(tmp_path / name for name in ("scratch", "kept", "one")))


def after(folders: Folders, name: str) -> Folders:
    """Return the folders of the task that continues."""
    root = folders.pseudos.parent / name
    return replace(
        folders, previous=folders.checkpoint, checkpoint=root / "checkpoint", kept=root / "kept"
    )


def fill(
    folders: Folders,
    replay: Replay,
    monkeypatch: pytest.MonkeyPatch,
    limits: Limits = Limits(),  # noqa: B008 - frozen
    machine: Machine = Machine(),  # noqa: B008 - frozen
) -> tuple[Placement, PotentialCalculator]:
    """Fill a lithium host with two missing atoms: place one, relax it, place the other."""
    for module in (pw_runner, calculation):
        monkeypatch.setattr(module, "run_pw", replay)
    level = LevelOfTheory(
        protocol=protocol("fast"),
        table=read_table(TABLE),
        valence=VALENCE,
        degauss=0.01,
        smearing=SMEARING,
    )
    electrons = PotentialCalculator("li", level, machine, folders, limits)
    host, _ = recorded("lithium_2")
    candidate = restore(
        host, 1, 2, samples=1, rules=RULES, solver=electrons, generator=np.random.default_rng(0)
    )[0]
    return candidate, electrons


def test_task_continues_from_the_checkpoint(
    folders: Folders, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = Replay(["success", "scf_not_converged", "walltime"], ["lithium_2"])
    with pytest.raises(TryAgainError, match="li: time limit nearly reached"):
        fill(folders, begun, monkeypatch, AGAIN)
    later = after(folders, "two")
    replay = Replay(["success"], ["lithium_2_placed"])
    found, electrons = fill(later, replay, monkeypatch)
    assert found.sites is not None, found.message
    assert found.sites.shape == (2, 3)
    assert (replay.runs, replay.potentials) == ([], [])
    # the second calculation continues with its density, geometry and repairs
    assert "startingpot      = 'file'" in replay.inputs[0]
    assert "mixing_beta      = 0.32" in replay.inputs[0]
    assert begun.inputs[1].split("ATOMIC_POS")[1] != replay.inputs[0].split("ATOMIC_POS")[1]
    assert "0 0 0" in replay.inputs[0]  # the host is fixed
    chain = [[one["failure"] for one in run["attempts"]] for run in electrons.runs]
    assert chain == [[""], ["scf_not_converged", "walltime", ""]]
    assert [run["extra_electrons"] for run in electrons.runs] == [2, 1]


class Watch:
    """A stopwatch that always measures three seconds, and five seconds of CPU time."""

    seconds, cpu_seconds = 3.0, 5.0


def test_core_seconds_count_all_cores(folders: Folders, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two runs of pw.x on two cores and one of pp.x on one, then one of each."""
    for module in (pw_runner, calculation):
        monkeypatch.setattr(module, "Stopwatch", Watch)
    replay = Replay(["scf_not_converged", "success", "success"], ["lithium_2", "lithium_2_placed"])
    _, electrons = fill(folders, replay, monkeypatch, machine=Machine(ranks=2))
    assert [run["core_seconds"] for run in electrons.runs] == [2 * 6.0 + 3.0, 6.0 + 3.0]
    assert [run["cpu_seconds"] for run in electrons.runs] == [2 * 5.0 + 5.0, 5.0 + 5.0]


def test_third_task_has_the_results_of_the_first(
    folders: Folders, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(TryAgainError):
        fill(folders, Replay(["success", "walltime"], ["lithium_2"]), monkeypatch, AGAIN)
    later = after(folders, "two")
    with pytest.raises(MemoryNeededError):
        fill(later, Replay(["memory", "memory"], []), monkeypatch, AGAIN)
    last = after(later, "three")
    found, _ = fill(last, Replay(["success"], ["lithium_2_placed"]), monkeypatch)
    assert found.sites is not None, found.message
    names = {str(path.relative_to(last.kept)) for path in last.kept.rglob("*.in")}
    assert names == {"1/pw.1.in", "1/pp.in", *(f"2/pw.{n}.in" for n in range(1, 5)), "2/pp.in"}


def test_calculation_of_other_atoms_is_repeated(
    folders: Folders, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if the potential of another machine relaxed differently between two placements."""
    _, electrons = fill(
        folders, Replay(["success"] * 2, ["lithium_2", "lithium_2_placed"]), monkeypatch
    )
    path = folders.checkpoint / "1.npz"
    with np.load(path, allow_pickle=False) as saved:
        content = dict(saved)
    content["asked"] = content["asked"] + 0.01
    np.savez(path, **content)
    later = after(folders, "two")
    replay = Replay(["success"], ["lithium_2"])
    found, electrons = fill(later, replay, monkeypatch)
    assert found.sites is not None, found.message
    assert (replay.runs, len(electrons.runs)) == ([], 2)


def test_time_limit_of_the_last_attempt_is_a_reason(
    folders: Folders, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = Limits(seconds=3600.0)
    found, _ = fill(folders, Replay(["success", "walltime"], ["lithium_2"]), monkeypatch, limits)
    assert found.sites is None
    assert found.message.startswith("1 of 2 placed: pw.x, walltime: ")


def test_maximum_of_five_attempts_per_calculation(
    folders: Folders, monkeypatch: pytest.MonkeyPatch
) -> None:
    replay = Replay(["scf_not_converged"] * 9, [])
    found, electrons = fill(folders, replay, monkeypatch)
    assert found.message.startswith("pw.x, scf not converged: convergence NOT achieved")
    assert len(electrons.runs[0]["attempts"]) == 5
