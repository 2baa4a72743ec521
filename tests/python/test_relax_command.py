"""The commands relax.py and select_candidates.py."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms

from stage_settings import write_settings
from xtalfill.core.batch import Batch, Stage, read_batch, write_batch

SETTINGS = {
    "mlip": "7net-0",
    "sites_fmax": 0.1,
    "sites_max_steps": 3,
    "fmax": 0.1,
    "max_steps": 2,
    "max_atoms_per_batch": 100,
}
OPTIONS = {"--settings": "settings.json", "--threads": "2", "--checkpoint": "checkpoint"}


def run(repository: Path, script: str, folder: Path, **options: str) -> subprocess.CompletedProcess:
    arguments = [item for pair in options.items() for item in pair]
    return subprocess.run(
        [sys.executable, repository / "bin" / script, *arguments],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


@pytest.fixture
def proposals(tmp_path: Path, brucite: Atoms) -> Path:
    """Write a batch of two proposals for brucite, as after INPAINT."""
    moved = brucite.positions.copy()
    moved[3:] += [[0.2, 0.0, 0.1], [0.0, 0.1, -0.1]]
    is_host = np.tile(brucite.numbers != 1, 2)
    proposed = np.concatenate([brucite.positions, moved])
    batch = Batch(
        positions=np.where(is_host[:, None], proposed, np.nan),
        atomic_numbers=np.tile(brucite.numbers, 2),
        system_idx=np.repeat([0, 1], 5),
        is_host=is_host,
        cell=[np.array(brucite.cell)] * 2,
        id=["brucite"] * 2,
        method=["host"] * 2,
        sample=[0, 1],
        seed=[42] * 2,
        status=["ok"] * 2,
        message=[""] * 2,
        stages={"inpaint": Stage({"positions": proposed})},
    )
    write_batch(batch, tmp_path / "in.h5")
    write_settings(tmp_path, "relax", **SETTINGS)
    return tmp_path


def files(output: str, record: str, batch: str) -> dict[str, str]:
    return {"--batch": batch, "--output": output, "--record": record}


def test_relax_then_select(repository: Path, proposals: Path) -> None:
    write_settings(proposals, "relax", **SETTINGS, mlip_rank="7net-0", drop_above=5)
    first = run(
        repository, "relax.py", proposals, **OPTIONS, **files("out.h5", "relax.json", "in.h5")
    )
    assert first.returncode == 0, first.stderr
    assert "relax_positions: 2/2 done, 0 failed" in first.stderr
    assert "relax_rank: 2/2 done, 0 failed" in first.stderr
    again = run(repository, "relax.py", proposals, **OPTIONS, **files("b.h5", "b.json", "in.h5"))
    assert again.returncode == 0, again.stderr
    assert (proposals / "out.h5").read_bytes() == (proposals / "b.h5").read_bytes()
    record = json.loads((proposals / "relax.json").read_text())
    assert (record["stage"], record["batch"]) == ("relax", "in.h5")
    assert record["parameters"]["max_steps"] == 2
    assert (record["parameters"]["keep"], record["parameters"]["threads"]) == (10, 2)
    assert sum(record["counts"].values()) == 2
    assert record["parameters"]["mlip_rank"] == "7net-0"
    assert (record["parameters"]["drop_above"], record["parameters"]["merge"]) == (5.0, False)
    chosen = run(
        repository, "select_candidates.py", proposals, **files("sel.h5", "sel.json", "out.h5")
    )
    assert chosen.returncode == 0, chosen.stderr
    batch = read_batch(proposals / "sel.h5")
    sites = batch.stages["relax_sites"].arrays["positions"]
    assert sites[batch.is_host].tobytes() == batch.positions[batch.is_host].tobytes()
    assert batch.stages["select"].arrays["selected"].sum() == 1


@pytest.mark.parametrize(
    ("changes", "batch", "code", "says"),
    [
        ({"mlip": "none-such"}, "in.h5", 78, "mlip 'none-such' is unknown; possible are 7net-0"),
        ({"fmax": -1}, "in.h5", 78, "fmax is -1.0; it must be above 0"),
        ({"fmax": "1"}, "in.h5", 78, 'fmax is "1"; it must be a number'),
        ({}, "no.h5", 65, "no.h5: not a readable batch"),
    ],
)
def test_errors_are_one_line(
    repository: Path, proposals: Path, changes: dict[str, Any], batch: str, code: int, says: str
) -> None:
    write_settings(proposals, "relax", **SETTINGS | changes)
    arguments = {**OPTIONS, **files("out.h5", "relax.json", batch)}
    done = run(repository, "relax.py", proposals, **arguments)
    assert done.returncode == code
    lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
    assert len(lines) == 1
    assert says in lines[0]
    assert "Traceback" not in done.stderr
    assert not (proposals / "out.h5").exists()


def test_time_limit_exits_75_and_resumes(repository: Path, proposals: Path) -> None:
    files_of = files("out.h5", "relax.json", "in.h5")
    short = {**OPTIONS, **files_of, "--max_seconds": "0.1"}
    stopped = run(repository, "relax.py", proposals, **short)
    assert stopped.returncode == os.EX_TEMPFAIL, stopped.stderr
    assert "ERROR: in.h5 (" in stopped.stderr
    assert (
        "time limit nearly reached; the next attempt resumes from the checkpoint" in stopped.stderr
    )
    assert not (proposals / "out.h5").exists()
    again = {**OPTIONS, **files_of, "--previous": "checkpoint", "--checkpoint": "another"}
    done = run(repository, "relax.py", proposals, **again)
    assert done.returncode == 0, done.stderr
    assert "resuming from checkpoint/state.npz" in done.stderr
    assert (proposals / "out.h5").is_file()
    assert not list((proposals / "another").glob("*"))
