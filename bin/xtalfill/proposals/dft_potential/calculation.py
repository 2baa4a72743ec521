"""The electrostatic potential of a host with excess electrons, by pw.x and pp.x.

The electrons of the missing atoms are present; a uniform background makes the cell neutral.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
from ase import Atoms

from xtalfill.core.crystal import Crystal
from xtalfill.core.io import replacing
from xtalfill.dft.failures import PwFailure, diagnose_electrons, explain
from xtalfill.dft.launch import Machine, Stopwatch, run_pw
from xtalfill.dft.output import read_output
from xtalfill.dft.pw_runner import KEPT, Folders, Limits, PwRunner, pack
from xtalfill.dft.symmetry import standard_setting
from xtalfill.dft.system import PwSettings, PwSystem
from xtalfill.dft.theory import LevelOfTheory
from xtalfill.proposals.dft_potential.grid import CUBE, PP, pp_input, read_potential
from xtalfill.proposals.dft_potential.restore import PlacementError
from xtalfill.proposals.sites import SYMPREC

SMEARING = "cold"
POSITION_TOLERANCE = 1e-3  # Angstrom; reproducibility of a relaxation on another machine


def host_system(
    level: LevelOfTheory, crystal: Crystal, *, name: str, key: str, extra: int, free: np.ndarray
) -> PwSystem:
    """Return what pw.x calculates, in the orientation in which it finds the symmetry.

    The origin does not change: the grid of the potential is that of the host.

    Args:
        level: The level of theory.
        crystal: The atoms that are present.
        name: Name of the structure.
        key: Key of the calculation.
        extra: Electrons in excess of those of these atoms.
        free: (n_atoms,) bool; the atoms that may move.
    """
    atoms = Atoms(crystal.numbers, crystal.positions, cell=crystal.cell, pbc=True)
    rotation, _ = standard_setting(atoms, tolerance=SYMPREC)
    return level.system(
        atoms,
        name=name,
        key=key,
        rotation=rotation,
        origin=np.zeros(3),
        tolerance=SYMPREC,
        free=free,
        extra=extra,
    )


@dataclass
class PotentialCalculator:
    """Runs pw.x and pp.x for one structure, one calculation after the other.

    A restarted task takes finished calculations from its checkpoint.

    Attributes:
        name: Name of the structure.
        level: The level of theory.
        machine: Where pw.x runs; pp.x runs on one process.
        folders: Working folders; each calculation has subfolders in `kept` and `checkpoint`.
        limits: Limits of the task.
        runs: Provenance: one entry per calculation.
    """

    name: str
    level: LevelOfTheory
    machine: Machine
    folders: Folders
    limits: Limits
    runs: list[dict[str, Any]] = field(default_factory=list)

    def potential(self, crystal: Crystal, extra: int) -> np.ndarray:
        """Return the potential energy of an electron on a grid.

        Args:
            crystal: The atoms that are present.
            extra: Electrons in excess of those of these atoms.

        Returns:
            (n1, n2, n3) eV at the points i / n of the cell, see `grid.read_potential`.

        Raises:
            PlacementError: pw.x or pp.x failed and no repair is left.
            TryAgainError, MemoryNeededError, ConfigError: See `PwRunner.run`.
        """
        return self.relaxed(crystal, np.zeros(len(crystal.numbers), dtype=bool), extra)[1]

    def relaxed(self, crystal: Crystal, free: np.ndarray, extra: int) -> tuple[Crystal, np.ndarray]:
        """Relax some atoms with the others fixed, and return the crystal and its potential.

        Args:
            crystal: The atoms that are present.
            free: (n,) bool; the atoms that may move.
            extra: Electrons in excess of those of these atoms.

        Raises:
            PlacementError, TryAgainError, MemoryNeededError, ConfigError: See `potential`.
        """
        number = str(len(self.runs) + 1)
        result = self._saved_result(number, crystal, extra)
        if result is None:
            result = self._calculate(number, crystal, free, extra)
            self._save_result(number, crystal, extra, result)
        positions, values = result
        return Crystal(crystal.numbers, positions, crystal.cell), values

    def _calculate(
        self, number: str, crystal: Crystal, free: np.ndarray, extra: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Run pw.x and return positions (n, 3) in Angstrom and the potential."""
        folders, key = self._folders(number), f"calculation {number}"
        system = host_system(self.level, crystal, name=self.name, key=key, extra=extra, free=free)
        runner = PwRunner(system, self.machine, folders, self.limits, judge=diagnose_electrons)
        failure, message = runner.run()
        run = {
            "extra_electrons": extra,
            "attempts": [asdict(one) for one in runner.attempts],
            "core_seconds": sum(
                one.seconds * int(one.settings["ranks"]) for one in runner.attempts
            ),
            "cpu_seconds": sum(one.cpu_seconds for one in runner.attempts),
        }
        self.runs.append(run)
        if failure is not None:
            raise PlacementError(f"pw.x, {failure.value.replace('_', ' ')}: {message}")
        values = self._post_process(folders, system.first_settings(), run)
        positions = np.where(free[:, None], runner.scaled @ crystal.cell, crystal.positions)
        return positions, values

    def _folders(self, number: str) -> Folders:
        previous = self.folders.previous
        return replace(
            self.folders,
            kept=self.folders.kept / number,
            checkpoint=self.folders.checkpoint / number,
            previous=None if previous is None else previous / number,
        )

    def _post_process(
        self, folders: Folders, one_process: PwSettings, run: dict[str, Any]
    ) -> np.ndarray:
        """Run pp.x on the output of pw.x and read its grid."""
        watch, machine = Stopwatch(), replace(self.machine, pw=PP)
        (folders.scratch / "pp.in").write_text(pp_input(), encoding="utf-8")
        code = run_pw(machine, one_process, folders.scratch, name="pp")
        left = read_output(folders.scratch, "pp", code)
        run["core_seconds"] = round(run["core_seconds"] + watch.seconds, 3)
        run["cpu_seconds"] = round(run["cpu_seconds"] + watch.cpu_seconds, 2)
        shutil.copyfile(folders.scratch / "pp.in", folders.kept / "pp.in")
        pack(folders.scratch / "pp.out", folders.kept / "pp.out.gz")
        path = folders.scratch / CUBE
        if left.exit_code != 0 or not path.is_file():
            raise PlacementError(f"pp.x, {explain(left, PwFailure.REFUSED)}")
        return read_potential(path)

    def _save_result(
        self, number: str, crystal: Crystal, extra: int, result: tuple[np.ndarray, np.ndarray]
    ) -> None:
        """Save a finished calculation in the checkpoint."""
        folder = self.folders.checkpoint
        shutil.copytree(self.folders.kept / number, folder / KEPT / number, dirs_exist_ok=True)
        with replacing(folder / f"{number}.npz") as temporary, temporary.open("wb") as file:
            np.savez(
                file,
                asked=crystal.positions,
                extra=extra,
                positions=result[0],
                potential=result[1],
                run=json.dumps(self.runs[-1]),
            )

    def _saved_result(
        self, number: str, crystal: Crystal, extra: int
    ) -> tuple[np.ndarray, np.ndarray] | None:
        """Return a finished calculation of an earlier task for the same atoms, or None."""
        previous = self.folders.previous
        path = None if previous is None else previous / f"{number}.npz"
        if path is None or not path.is_file():
            return None
        with np.load(path, allow_pickle=False) as found:
            asked = found["asked"]
            if int(found["extra"]) != extra or asked.shape != crystal.positions.shape:
                return None
            if np.abs(asked - crystal.positions).max(initial=0.0) > POSITION_TOLERANCE:
                return None
            self.runs.append(json.loads(str(found["run"])))
            result = (found["positions"], found["potential"])
        kept, again = self.folders.kept / number, self.folders.checkpoint / KEPT / number
        for target in (kept, again):
            shutil.copytree(path.parent / KEPT / number, target, dirs_exist_ok=True)
        shutil.copyfile(path, self.folders.checkpoint / path.name)
        return result
