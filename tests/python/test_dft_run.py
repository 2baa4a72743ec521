"""PW_RELAX: the chain of attempts on recorded outputs, and pw.x itself if installed."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dft_examples import (
    RECORDED,
    as_job,
    find_pw,
    hydrogen_molecule,
    lih_job,
    lih_system,
    made_pseudos,
    system_of,
    unpack,
)
from xtalfill.core.errors import ConfigError, InputError, MemoryNeededError, TryAgainError
from xtalfill.dft import pw_runner
from xtalfill.dft.job import PwJob
from xtalfill.dft.launch import Machine, command, environment, layout, scratch_folder
from xtalfill.dft.pseudos import cutoffs
from xtalfill.dft.pw_runner import Folders, Limits
from xtalfill.dft.relax import relax_job
from xtalfill.dft.result import PwResult, read_result, write_result
from xtalfill.dft.symmetry import in_setting
from xtalfill.dft.system import PwSettings


class Replay:
    """Replaces pw.x: each call writes the next recorded run."""

    def __init__(self, *names: str) -> None:
        self.names = list(names)
        self.seen: list[tuple[PwSettings, str, bool]] = []

    def __call__(self, machine: Machine, settings: PwSettings, folder: Path, *, name: str) -> int:
        """Leave the next recorded run in the folder."""
        assert machine.pw == "pw.x"
        density = (folder / "out" / "pwscf.save").is_dir()
        text = (folder / f"{name}.in").read_text(encoding="utf-8")
        self.seen.append((settings, text, density))
        (folder / "out" / "pwscf.save").mkdir(parents=True, exist_ok=True)
        (folder / "out" / "pwscf.save" / "charge-density.dat").write_bytes(b"density")
        (folder / "out" / "pwscf.save" / "wfc1.dat").write_bytes(b"large")
        return unpack(self.names[len(self.seen) - 1], folder, attempt=name)


@pytest.fixture
def folders(tmp_path: Path) -> Folders:
    """Return folders with placeholder pseudopotentials."""
    pseudos = tmp_path / "pseudos"
    pseudos.mkdir()
    for pseudo in lih_system().pseudos.values():
        (pseudos / pseudo.filename).touch()
    return Folders(pseudos, *(tmp_path / name for name in ("scratch", "kept", "checkpoint")))


def relax(
    folders: Folders,
    replay: Replay,
    monkeypatch: pytest.MonkeyPatch,
    limits: Limits = Limits(),  # noqa: B008 - frozen
    ranks: int = 1,
) -> PwResult:
    monkeypatch.setattr(pw_runner, "run_pw", replay)
    return relax_job(lih_job(), Machine(ranks=ranks), folders, limits)


def test_success_needs_one_attempt(folders: Folders, monkeypatch: pytest.MonkeyPatch) -> None:
    result = relax(folders, Replay("success"), monkeypatch)
    assert (result.status, result.message, len(result.attempts)) == ("ok", "", 1)
    assert result.energy < result.energy_start
    assert np.abs(result.forces).max() < np.abs(result.forces_start).max()
    assert sorted(path.name for path in folders.kept.iterdir()) == [
        "pw.1.in",
        "pw.1.out.gz",
        "pw.1.xml.gz",
    ]
    assert not folders.checkpoint.exists()


def test_forces_are_in_the_orientation_of_the_cell(
    folders: Folders, monkeypatch: pytest.MonkeyPatch
) -> None:
    straight = relax(folders, Replay("success"), monkeypatch)
    rotation = np.array([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    origin = np.array([0.1, 0.2, 0.3])
    seen = lih_system(atoms=in_setting(lih_system().atoms, rotation, origin))
    job = PwJob(seen, rotation, origin, n_symmetry=4)
    replay = Replay("success")
    monkeypatch.setattr(pw_runner, "run_pw", replay)
    turned = relax_job(job, Machine(), folders, Limits())
    # x and y were exchanged for pw.x, so its force along y is one along x.
    assert turned.forces_start == pytest.approx(straight.forces_start @ job.rotation)
    assert turned.forces_start[:, 0] == pytest.approx(straight.forces_start[:, 1])
    assert turned.positions == pytest.approx(straight.positions + job.origin @ job.cell)
    assert "CELL_PARAMETERS angstrom\n-2.04" in replay.seen[0][1]


def test_failures_are_repaired_one_by_one(
    folders: Folders, monkeypatch: pytest.MonkeyPatch
) -> None:
    replay = Replay("scf_not_converged", "diagonalisation", "bfgs_history", "success")
    result = relax(folders, replay, monkeypatch)
    assert result.status == "ok"
    assert [one.failure for one in result.attempts] == [
        "scf_not_converged",
        "diagonalisation",
        "bfgs_history",
        "",
    ]
    assert all(one.action for one in result.attempts[:3])
    settings = [seen[0] for seen in replay.seen]
    assert settings[1].mixing_beta == pytest.approx(0.32)
    assert settings[2].diagonalization == "paro"
    assert settings[2].mixing_beta == pytest.approx(0.32)  # an earlier repair is kept
    assert settings[3].trust_radius_min == pytest.approx(1e-4)
    # The density is kept only after BFGS, and the geometry has changed.
    assert [seen[2] for seen in replay.seen] == [False, False, False, True]
    assert "startingpot      = 'file'" in replay.seen[3][1]
    assert replay.seen[0][1].splitlines()[-3] == replay.seen[2][1].splitlines()[-3]
    assert replay.seen[0][1].splitlines()[-3] != replay.seen[3][1].splitlines()[-3]


def test_maximum_of_five_attempts(folders: Folders, monkeypatch: pytest.MonkeyPatch) -> None:
    replay = Replay(*["scf_not_converged"] * 9)
    result = relax(folders, replay, monkeypatch)
    assert (result.status, len(replay.seen)) == ("failed", 5)
    assert "scf not converged after 5 attempt(s): convergence NOT achieved" in result.message
    assert np.isnan(result.energy)
    assert result.attempts[-1].action == ""


def test_exhausted_ionic_steps_give_an_energy(
    folders: Folders, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = relax(folders, Replay(*["ionic_steps"] * 5), monkeypatch)
    assert result.status == "unconverged"
    assert np.isfinite(result.energy)


def test_failure_without_repair_stops_immediately(
    folders: Folders, monkeypatch: pytest.MonkeyPatch
) -> None:
    replay = Replay("refused_by_pw", "success")
    result = relax(folders, replay, monkeypatch)
    assert (result.status, len(replay.seen)) == ("failed", 1)
    assert "more bands than PWs" in result.message


def test_time_limit_continues_in_another_task(
    folders: Folders, monkeypatch: pytest.MonkeyPatch
) -> None:
    again = Limits(seconds=3600.0, last_chance=False)
    with pytest.raises(TryAgainError, match="lih"):
        relax(folders, Replay("scf_not_converged", "walltime"), monkeypatch, again)
    assert not list(folders.checkpoint.rglob("wfc*"))
    later = replace(
        folders, scratch=folders.scratch.with_name("other"), previous=folders.checkpoint
    )
    later = replace(later, checkpoint=folders.checkpoint.with_name("later"))
    later = replace(later, kept=folders.kept.with_name("kept_later"))
    replay = Replay("success")
    result = relax(later, replay, monkeypatch, Limits(seconds=3600.0))
    assert result.status == "ok"
    assert [one.failure for one in result.attempts] == ["scf_not_converged", "walltime", ""]
    assert {path.name for path in later.kept.glob("*.in")} == {f"pw.{n}.in" for n in (1, 2, 3)}
    settings, text, density = replay.seen[0]
    assert density
    assert settings.mixing_beta == pytest.approx(0.32)
    assert "startingpot      = 'file'" in text
    assert "max_seconds" in text


# Replaces pw.x: two steps of a relaxation, then it waits for a signal.
PW = """#!/usr/bin/env bash
set -eu
mkdir -p out/pwscf.save
touch "out/pwscf.save/{left}"
zcat "{output}" | sed /Maximum/d
touch ready
exec sleep 60
"""


@pytest.mark.parametrize("left", ["charge-density.dat", "data-file-schema.xml"])
def test_terminated_task_saves_results(
    folders: Folders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, left: str
) -> None:
    output = RECORDED / "walltime" / "pw.out.gz"
    program = tmp_path / "bin" / "pw.x"
    program.parent.mkdir()
    program.write_text(PW.format(left=left, output=output), encoding="utf-8")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")

    def end() -> None:
        while not (folders.scratch / "ready").exists():
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGTERM)

    before = signal.getsignal(signal.SIGTERM)
    threading.Thread(target=end, daemon=True).start()
    with pytest.raises(TryAgainError, match="resumes from the last geometry"):
        relax_job(lih_job(), Machine(), folders, Limits(last_chance=False))
    assert signal.getsignal(signal.SIGTERM) is before
    state = json.loads((folders.checkpoint / "state.json").read_text(encoding="utf-8"))
    assert state["attempts"][0]["said"] == "terminated by SIGTERM"
    assert state["scaled"] != lih_system().atoms.get_scaled_positions(wrap=False).tolist()
    # Without a density the next attempt starts from atomic densities.
    assert (folders.checkpoint / "density").is_dir() == (left == "charge-density.dat")


def test_a_checkpoint_of_another_job_is_refused(
    folders: Folders, monkeypatch: pytest.MonkeyPatch
) -> None:
    previous = folders.kept.with_name("previous")
    previous.mkdir()
    (previous / "state.json").write_text(json.dumps({"key": "batch_0001.2"}), encoding="utf-8")
    with pytest.raises(ConfigError, match="give that of this job"):
        relax(replace(folders, previous=previous), Replay("success"), monkeypatch)


def test_time_limit_of_the_last_attempt_is_a_status(
    folders: Folders, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = relax(folders, Replay("walltime"), monkeypatch, Limits(seconds=3600.0))
    assert result.status == "unconverged"
    assert result.message.startswith("dft: walltime after 1 attempt(s)")


def test_no_attempt_starts_near_the_time_limit(
    folders: Folders, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A repair without enough time is left to the next task, or the structure fails."""
    replay = Replay("ionic_steps", "success")
    spent = [False, True]  # checked before each attempt
    monkeypatch.setattr(Limits, "too_late", lambda _: spent.pop(0))
    with pytest.raises(TryAgainError):
        relax(folders, replay, monkeypatch, Limits(seconds=3600.0, last_chance=False))
    assert (folders.checkpoint / "state.json").is_file()
    spent += [False, True]
    result = relax(folders, Replay("ionic_steps", "success"), monkeypatch, Limits(seconds=3600.0))
    assert result.status == "unconverged"
    assert result.message.endswith("no time is left for another attempt")
    assert np.isfinite(result.energy)


def test_new_task_always_runs_an_attempt() -> None:
    now = time.monotonic()
    assert not Limits(seconds=20.0).too_late()
    assert not Limits().too_late()
    assert Limits(seconds=20.0, begin=now - 12.0).too_late()
    assert Limits(seconds=3600.0, begin=now - 3560.0).too_late()
    assert not Limits(seconds=3600.0, begin=now - 3000.0).too_late()


def test_scratch_folder_is_always_removed(tmp_path: Path) -> None:
    with pytest.raises(InputError), scratch_folder(tmp_path, "pw") as folder:  # noqa: PT012
        assert folder.parent == tmp_path
        (folder / "out").mkdir()
        raise InputError("no")
    assert not list(tmp_path.iterdir())
    with (
        pytest.raises(ConfigError, match="set --dft_scratch"),
        scratch_folder(tmp_path / "none", "pw"),
    ):
        pass


def test_memory_is_reduced_then_requested(
    folders: Folders, monkeypatch: pytest.MonkeyPatch
) -> None:
    replay = Replay("memory", "memory_killed", "memory")
    with pytest.raises(MemoryNeededError) as caught:
        relax(folders, replay, monkeypatch, Limits(last_chance=False), ranks=2)
    assert caught.value.exit_code == 137
    assert [(seen[0].pools, seen[0].mixing_ndim) for seen in replay.seen] == [
        (2, 8),
        (1, 8),
        (1, 4),
    ]


def test_missing_pseudopotential_is_reported(
    folders: Folders, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folders.pseudos / "H.pbe-rrkjus_psl.1.0.0.UPF").unlink()
    with pytest.raises(ConfigError, match=r"--pseudo_dir lacks H\.pbe"):
        relax(folders, Replay("success"), monkeypatch)


def test_result_round_trip(
    folders: Folders, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for names in (["success"], ["refused_by_pw"]):
        result = relax(folders, Replay(*names), monkeypatch)
        path = tmp_path / "result.json"
        write_result(result, path)
        json.loads(path.read_text(encoding="utf-8"), parse_constant=pytest.fail)
        back = read_result(path)
        assert np.array_equal(back.positions, result.positions, equal_nan=True)
        assert np.array_equal(back.forces_start, result.forces_start, equal_nan=True)
        assert back.attempts == result.attempts
        numbers = ([one.energy, one.energy_start, one.magnetization] for one in (back, result))
        assert np.array_equal(*numbers, equal_nan=True)
    assert (result.n_symmetry, result.magnetization, result.version) == (0, 0.0, "")
    path.write_text('{"status": "ok"}', encoding="utf-8")
    with pytest.raises(InputError, match="not a result of PW_RELAX"):
        read_result(path)


@pytest.mark.parametrize(
    ("cores", "kpoints", "expected"), [(1, 9, 1), (4, 9, 4), (4, 3, 2), (6, 1, 1), (6, 5, 3)]
)
def test_pools_follow_the_kpoints(cores: int, kpoints: int, expected: int) -> None:
    assert layout(cores, kpoints) == (cores, expected)


def test_command_and_environment() -> None:
    settings = PwSettings(0.4, 80, 50, ranks=4, pools=2)
    words = command(Machine(launcher="srun --mpi=pmix -n {ranks}"), settings, "pw.1.in")
    assert words == ["srun", "--mpi=pmix", "-n", "4", "pw.x", "-nk", "2", "-in", "pw.1.in"]
    alone = command(Machine(), PwSettings(0.4, 80, 50), "pw.1.in")
    assert alone == ["pw.x", "-nk", "1", "-in", "pw.1.in"]
    assert "OMPI_ALLOW_RUN_AS_ROOT" not in environment({}, root=False)
    assert environment({"A": "b"}, root=True)["OMPI_ALLOW_RUN_AS_ROOT_CONFIRM"] == "1"
    with pytest.raises(ConfigError, match="needs"):
        Machine(launcher="mpirun -np 4")


def molecule_job(folder: Path) -> PwJob:
    """Return a job of H2 with a pseudopotential of ld1.x."""
    atoms = hydrogen_molecule()
    _, table = made_pseudos(folder)
    ecutwfc, ecutrho = cutoffs(table, ["H"])
    return as_job(
        system_of(atoms, table, name="h2", valence={"H": 1.0}, ecutwfc=ecutwfc, ecutrho=ecutrho)
    )


@pytest.mark.parametrize("ranks", [1, 2])
def test_pw_relaxes_hydrogen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ranks: int) -> None:
    find_pw(ranks=ranks)
    monkeypatch.setenv("OMPI_MCA_mpi_yield_when_idle", "1")  # other tests use the cores, too
    pseudos = tmp_path / "pseudos"
    pseudos.mkdir()
    job = molecule_job(pseudos)
    folders = Folders(pseudos, *(tmp_path / name for name in ("scratch", "kept", "checkpoint")))
    result = relax_job(job, Machine(ranks=ranks), folders, Limits(seconds=600.0))
    assert result.status == "ok", result.message
    atoms = job.system.atoms
    atoms.positions = result.positions
    distance = atoms.get_distance(0, 1, mic=True)
    assert distance == pytest.approx(0.75, abs=0.03)  # 0.750 in PBE
    assert result.energy < result.energy_start
    assert result.n_symmetry > 1


def test_missing_program_is_reported(tmp_path: Path, folders: Folders) -> None:
    machine = Machine(pw=str(tmp_path / "pw.x"))
    with pytest.raises(ConfigError, match="cannot be started"):
        relax_job(lih_job(), machine, folders, Limits())
