"""Electrons of a host with more of them than its atoms have: pw.x, then its potential by pp.x.

The electrons of the missing atoms are there already; a uniform background makes the cell neutral.
"""

from __future__ import annotations

import io
import math
import os
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.constraints import FixAtoms
from ase.io.cube import read_cube
from ase.io.espresso import write_espresso_in
from ase.units import Rydberg

from xtalfill.baseline.sites import Crystal
from xtalfill.dft.failures import TOP_OCCUPATION, Failure, Run, diagnose, explain
from xtalfill.dft.inputs import OUTDIR, PREFIX, PSEUDO_DIR
from xtalfill.dft.job import Settings
from xtalfill.dft.launch import Machine, layout, run_pw
from xtalfill.dft.output import last_geometry, read_run
from xtalfill.dft.protocols import Protocol
from xtalfill.dft.pseudos import Table, cutoffs
from xtalfill.dft.repair import MAX_ATTEMPTS, Situation, repair
from xtalfill.dft.symmetry import irreducible_kpoints, kpoint_mesh
from xtalfill.errors import MemoryNeededError

PP = "pp.x"
_POTENTIAL = 11  # pp.x: local part of the pseudopotentials + Hartree, as an electron feels it
_SHARE_OF_TIME = 0.95
# A relaxation between two placements need not converge.
_GOOD_ENOUGH = (Failure.IONIC_STEPS, Failure.BFGS)


class GiveUpError(Exception):
    """The method cannot go on with this structure; says why."""


@dataclass(frozen=True)
class Recipe:
    """How the electrons are calculated.

    Attributes:
        protocol: k-points, thresholds, mixing.
        table: Pseudopotentials.
        valence: Element -> valence electrons.
        degauss: Ry; smearing of the electrons.
    """

    protocol: Protocol
    table: Table
    valence: dict[str, float]
    degauss: float


@dataclass
class Electrons:
    """Runs pw.x and pp.x for one structure, one calculation after the other.

    Attributes:
        recipe: How.
        machine: Where pw.x runs; pp.x runs on one process.
        pseudo_dir: Holds the pseudopotentials.
        scratch: For pw.x.
        kept: Gets inputs and outputs.
        seconds: Until the task is killed; None without a limit.
        last_chance: Nothing starts the task again with more memory.
        runs: What was run, for the provenance.
    """

    recipe: Recipe
    machine: Machine
    pseudo_dir: Path
    scratch: Path
    kept: Path
    seconds: float | None = None
    last_chance: bool = True
    runs: list[dict[str, Any]] = field(default_factory=list)
    _begin: float = field(default_factory=time.monotonic)

    def potential(self, crystal: Crystal, extra: int) -> np.ndarray:
        """Return the potential energy of an electron on a grid.

        Args:
            crystal: The atoms that are there.
            extra: Electrons more than these atoms have.

        Returns:
            (n1, n2, n3) eV at the points i / n of the cell; its mean is near zero.

        Raises:
            GiveUpError: pw.x or pp.x fails, and no repair helps.
            MemoryNeededError: The task may be given more memory.
        """
        self._calculate(crystal, extra, free=None)
        return self._post_process()

    def relaxed(self, crystal: Crystal, free: np.ndarray, extra: int) -> tuple[Crystal, np.ndarray]:
        """Relax some atoms, the others held, and return the crystal and its potential.

        Args:
            crystal: The atoms that are there.
            free: (n,) bool; those that may move.
            extra: Electrons more than these atoms have.

        Raises:
            GiveUpError: As for `potential`.
            MemoryNeededError: As for `potential`.
        """
        run = self._calculate(crystal, extra, free=free)
        scaled = last_geometry(run)
        if scaled is None or scaled.shape != crystal.positions.shape:
            raise GiveUpError("pw.x left no geometry")
        positions = np.where(free[:, None], scaled @ crystal.cell, crystal.positions)
        return Crystal(crystal.numbers, positions, crystal.cell), self._post_process()

    def _calculate(self, crystal: Crystal, extra: int, *, free: np.ndarray | None) -> Run:
        """Run pw.x until it converges or nothing is left to repair."""
        atoms = Atoms(crystal.numbers, crystal.positions, cell=crystal.cell, pbc=True)
        settings = self._first_settings(atoms)
        for _ in range(MAX_ATTEMPTS):
            self._prepare(atoms)
            text = pw_input(atoms, extra, self.recipe, settings, free=free, seconds=self._left())
            run = self._run(self.machine, settings, "pw", text)
            failure = _judge(run)
            self.runs[-1] |= {"extra_electrons": extra, "failure": failure or ""}
            if failure is None:
                return run
            said = f"{failure.value.replace('_', ' ')}: {explain(run, failure)}"
            if failure is Failure.MEMORY and not self.last_chance and settings.pools == 1:
                raise MemoryNeededError(f"pw.x needs more memory than this task has ({said})")
            bands = None if run.data is None else run.data.n_bands
            electrons = _electrons(atoms, self.recipe) + extra
            first = self.recipe.protocol.electron_maxstep
            step = repair(failure, Situation(settings, bands, electrons, first))
            if step is None:
                break
            settings = step.settings
        raise GiveUpError(f"pw.x, {said}")

    def _first_settings(self, atoms: Atoms) -> Settings:
        protocol = self.recipe.protocol
        mesh = kpoint_mesh(atoms, protocol.kpoints_distance)
        ranks, pools = layout(self.machine.ranks, irreducible_kpoints(atoms, mesh, tolerance=1e-3))
        return Settings(
            mixing_beta=protocol.mixing_beta,
            electron_maxstep=protocol.electron_maxstep,
            nstep=protocol.nstep,
            ranks=ranks,
            pools=pools,
        )

    def _prepare(self, atoms: Atoms) -> None:
        """Empty the scratch folder and link the pseudopotentials."""
        shutil.rmtree(self.scratch, ignore_errors=True)
        (self.scratch / PSEUDO_DIR).mkdir(parents=True)
        self.kept.mkdir(parents=True, exist_ok=True)
        for symbol in sorted(set(atoms.get_chemical_symbols())):
            name = self.recipe.table[symbol].filename
            (self.scratch / PSEUDO_DIR / name).symlink_to((self.pseudo_dir / name).resolve())

    def _post_process(self) -> np.ndarray:
        """Run pp.x on what the last pw.x left and read its grid."""
        machine = replace(self.machine, pw=PP)
        one = Settings(mixing_beta=0.0, electron_maxstep=0, nstep=0)
        run = self._run(machine, one, "pp", pp_input())
        path = self.scratch / "potential.cube"
        if run.exit_code != 0 or not path.is_file():
            raise GiveUpError(f"pp.x, {explain(run, Failure.REFUSED)}")
        return read_potential(path)

    def _run(self, machine: Machine, settings: Settings, kind: str, text: str) -> Run:
        name = f"{kind}.{len(self.runs) + 1}"
        (self.scratch / f"{name}.in").write_text(text, encoding="utf-8")
        begin, used = time.monotonic(), os.times()
        code = run_pw(machine, settings, self.scratch, name=name)
        seconds, now = (time.monotonic() - begin) * settings.ranks, os.times()
        # On a shared machine the time on a core and the wall time are far apart.
        cpu = now.children_user + now.children_system - used.children_user - used.children_system
        self.runs.append(
            {"name": name, "core_seconds": round(seconds, 2), "cpu_seconds": round(cpu, 2)}
        )
        for suffix in ("in", "out", "err"):
            shutil.copyfile(self.scratch / f"{name}.{suffix}", self.kept / f"{name}.{suffix}")
        return read_run(self.scratch, name, code)

    def _left(self) -> float | None:
        if self.seconds is None:
            return None
        return max(1.0, _SHARE_OF_TIME * (self.seconds - (time.monotonic() - self._begin)))


def _judge(run: Run) -> Failure | None:
    """Return what went wrong in a self-consistency or relaxation; None when it can be used."""
    failure = diagnose(run, max_force=math.inf)
    if failure not in _GOOD_ENOUGH or run.data is None:
        return failure
    return Failure.BANDS if run.data.top_occupation > TOP_OCCUPATION else None


def _electrons(atoms: Atoms, recipe: Recipe) -> float:
    return sum(recipe.valence[symbol] for symbol in atoms.get_chemical_symbols())


def pw_input(
    atoms: Atoms,
    extra: int,
    recipe: Recipe,
    settings: Settings,
    *,
    free: np.ndarray | None,
    seconds: float | None,
) -> str:
    """Return the input of pw.x.

    Args:
        atoms: The crystal.
        extra: Electrons more than its atoms have.
        recipe: How it is calculated.
        settings: Of this attempt.
        free: (n,) bool, the atoms to relax; None calculates the electrons alone.
        seconds: When pw.x has to stop itself; None for never.
    """
    protocol, n_atoms = recipe.protocol, len(atoms)
    symbols: Sequence[str] = sorted(set(atoms.get_chemical_symbols()))
    ecutwfc, ecutrho = cutoffs(recipe.table, symbols)
    control: dict[str, Any] = {
        "calculation": "scf" if free is None else "relax",
        "prefix": PREFIX,
        "outdir": OUTDIR,
        "pseudo_dir": PSEUDO_DIR,
        "tprnfor": True,
        "nstep": settings.nstep,
        "etot_conv_thr": protocol.energy_threshold_per_atom * n_atoms,
        "forc_conv_thr": protocol.force_threshold,
    }
    if seconds is not None:
        control["max_seconds"] = round(seconds, 1)
    system: dict[str, Any] = {
        "ecutwfc": ecutwfc,
        "ecutrho": ecutrho,
        "occupations": "smearing",
        "smearing": "cold",
        "degauss": recipe.degauss,
        "tot_charge": float(-extra),
    }
    if settings.nbnd is not None:
        system["nbnd"] = settings.nbnd
    electrons = {
        "conv_thr": protocol.scf_threshold_per_atom * n_atoms,
        "electron_maxstep": settings.electron_maxstep,
        "mixing_beta": settings.mixing_beta,
        "mixing_mode": settings.mixing_mode,
        "mixing_ndim": settings.mixing_ndim,
        "diagonalization": settings.diagonalization,
    }
    atoms = atoms.copy()
    if free is not None:
        atoms.set_constraint(FixAtoms(np.flatnonzero(~free)))
    file = io.StringIO()
    write_espresso_in(
        file,
        atoms,
        input_data={"CONTROL": control, "SYSTEM": system, "ELECTRONS": electrons},
        pseudopotentials={symbol: recipe.table[symbol].filename for symbol in symbols},
        kpts=kpoint_mesh(atoms, protocol.kpoints_distance),
        crystal_coordinates=True,
    )
    return file.getvalue()


def pp_input() -> str:
    """Return the input of pp.x: the potential as a cube file."""
    return (
        f"&INPUTPP\n  prefix='{PREFIX}', outdir='{OUTDIR}', filplot='potential',"
        f" plot_num={_POTENTIAL}\n/\n"
        "&PLOT\n  nfile=1, filepp(1)='potential', weight(1)=1.0, iflag=3, output_format=6,"
        " fileout='potential.cube'\n/\n"
    )


def read_potential(path: Path) -> np.ndarray:
    """Read a cube file of pp.x, in Ry.

    Returns:
        (n1, n2, n3) eV at the points i / n of the cell.

    Raises:
        GiveUpError: It is damaged.
    """
    try:
        with path.open(encoding="ascii") as file:
            values = np.asarray(read_cube(file)["data"], dtype=np.float64) * Rydberg
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise GiveUpError(f"{path.name} cannot be read ({' '.join(str(error).split())})") from error
    if values.ndim != 3 or not np.isfinite(values).all():
        raise GiveUpError(f"{path.name} is not a grid of finite numbers")
    return values
