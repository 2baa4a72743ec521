"""NaBH4 from the benchmark, relaxed by pw.x with SSSP and the protocol fast."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.spacegroup import crystal

from dft_examples import TABLE, find_pw, protocol, sssp_folder
from hand_made_batches import Case, Made, build
from xtalfill.dft.launch import Machine
from xtalfill.dft.plan import ValidationChoice, plan_batch
from xtalfill.dft.pseudos import check_files, read_table
from xtalfill.dft.pw_runner import Folders, Limits
from xtalfill.dft.relax import relax_job
from xtalfill.dft.theory import LevelOfTheory

CHOICE = ValidationChoice(window=0.0, candidates=1, max_structures=None, max_electrons=400, seed=42)


def sodium_borohydride() -> Atoms:
    """Return NaBH4, F-43m, a = 6.04 Angstrom, primitive cell, H last (mp-976181)."""
    atoms = crystal(
        ("Na", "B", "H"),
        [(0.5, 0.5, 0.5), (0, 0, 0), (0.117, 0.117, 0.117)],
        spacegroup=216,
        cellpar=[6.04] * 3 + [90] * 3,
        primitive_cell=True,
    )
    return atoms[[*np.flatnonzero(atoms.numbers != 1), *np.flatnonzero(atoms.numbers == 1)]]


@pytest.mark.slow
def test_candidate_and_reference_relax_to_the_same_crystal(tmp_path: Path) -> None:
    find_pw()
    pseudos, table = sssp_folder(), read_table(TABLE)
    atoms = sodium_borohydride()
    atoms.rotate(37.0, (1, 2, 3), rotate_cell=True)  # pw.x would miss most of the symmetry here
    away = atoms.positions[2:] - atoms.positions[1]
    away -= np.round(away @ np.linalg.inv(atoms.cell.array)) @ atoms.cell.array
    batch = build([Case("mp-976181", atoms, 4, [Made(relaxed=0.03 * away)])])
    headers = check_files(table, pseudos, ["Na", "B", "H"])
    valence = {name: one.valence for name, one in headers.items()}
    fast = protocol("fast")
    level = LevelOfTheory(
        protocol=fast, table=table, valence=valence, degauss=fast.degauss, smearing=fast.smearing
    )
    _, jobs = plan_batch(batch, "batch_0000", {"mp-976181"}, CHOICE, level)
    assert [job.n_symmetry for job in jobs] == [24, 24]
    found = []
    for job in jobs:
        folder = tmp_path / job.system.key
        folders = Folders(pseudos, *(folder / name for name in ("scratch", "kept", "checkpoint")))
        found.append(relax_job(job, Machine(), folders, Limits()))
    assert [result.status for result in found] == ["ok", "ok"]
    candidate, reference = found
    assert abs(candidate.energy - reference.energy) / len(atoms) < 1e-4
    assert candidate.energy < candidate.energy_start
    for result, job in zip(found, jobs, strict=True):
        atoms.positions = result.positions
        bond = atoms.get_distances(1, range(2, 6), mic=True)
        assert result.n_symmetry == job.n_symmetry
        assert bond == pytest.approx(1.22, abs=0.02)  # B-H in borohydrides: 1.22 to 1.24
