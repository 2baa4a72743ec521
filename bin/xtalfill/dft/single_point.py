"""Energy and forces of a crystal by one SCF calculation, without relaxation."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
from ase import Atoms

from xtalfill.dft.estimate import CostModel, read_cost_model
from xtalfill.dft.job import PwJob
from xtalfill.dft.launch import Machine
from xtalfill.dft.plan import prepare_job
from xtalfill.dft.protocols import read_protocol
from xtalfill.dft.pseudos import check_files, read_table
from xtalfill.dft.pw_runner import Folders, Limits
from xtalfill.dft.relax import relax_job
from xtalfill.dft.result import PwResult, read_result, write_result
from xtalfill.dft.theory import LevelOfTheory


class SinglePoints:
    """Prepares, estimates and runs single calculations at one level of theory, without spin.

    Args:
        protocol: File of the protocol.
        table: File of the table of pseudopotentials.
        pseudo_dir: Folder with the pseudopotentials.
        cost: File of the cost models.
        symbols: The elements in use.
        machine: Where pw.x runs.

    Raises:
        ConfigError: A file is missing or wrong.
    """

    def __init__(
        self,
        *,
        protocol: Path,
        table: Path,
        pseudo_dir: Path,
        cost: Path,
        symbols: set[str],
        machine: Machine,
    ) -> None:
        accuracy, pseudos = read_protocol(protocol), read_table(table)
        headers = check_files(pseudos, pseudo_dir, symbols)
        self.level = LevelOfTheory(
            protocol=accuracy,
            table=pseudos,
            valence={name: one.valence for name, one in headers.items()},
            degauss=accuracy.degauss,
            smearing=accuracy.smearing,
        )
        self._pseudo_dir, self._machine = pseudo_dir, machine
        self._model: CostModel = read_cost_model(cost, "relaxation")

    def job(self, atoms: Atoms, is_host: np.ndarray, key: str) -> PwJob:
        """Return the calculation of a crystal, symmetrised as by PLAN_DFT.

        Args:
            atoms: The crystal; every element has a pseudopotential.
            is_host: (n_atoms,) bool; the other atoms are filled sites.
            key: Key of the calculation.
        """
        held = np.zeros(len(atoms), dtype=bool)
        return prepare_job(atoms, is_host, self.level, name=key, key=key, free=held)

    def seconds(self, job: PwJob) -> float:
        """Return the estimated core-seconds, by the model of relaxations of one or two steps."""
        return 3600.0 * self._model.core_hours(job.system)

    def run(self, job: PwJob, folder: Path) -> PwResult:
        """Return the result of a calculation: from <folder>/<key>.json, or by pw.x.

        Args:
            job: The calculation.
            folder: Gets the result, and in a subfolder the inputs and outputs.

        Raises:
            TryAgainError: The process was told to end; the next call continues.
            ConfigError, MemoryNeededError: See `PwRunner.run`.
        """
        path, own = folder / f"{job.system.key}.json", folder / job.system.key
        if path.is_file():
            return read_result(path)
        names = ("scratch", "kept", "checkpoint", "checkpoint")
        folders = Folders(self._pseudo_dir, *(own / name for name in names))
        result = relax_job(job, self._machine, folders, Limits(last_chance=False))
        write_result(result, path)
        shutil.rmtree(folders.scratch)
        return result
