"""The input of pw.x: written by ASE, read back by qe-tools and compared before it is run."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import numpy as np
from ase.data import atomic_numbers
from ase.io.espresso import write_espresso_in
from qe_tools.exceptions import ParsingError
from qe_tools.parsers import PwInputFile

from xtalfill.dft.job import Job, Settings
from xtalfill.errors import InputError

PREFIX = "pwscf"
OUTDIR = "out"
PSEUDO_DIR = "pseudo"
# ASE writes ten decimals.
_ROUNDING = 2e-10


def write_input(
    job: Job, settings: Settings, *, positions: np.ndarray, max_seconds: float | None
) -> str:
    """Return the text of an input, after reading it back.

    Args:
        job: What to relax.
        settings: Of this attempt.
        positions: (n_atoms, 3) Angstrom; where to start.
        max_seconds: When pw.x has to stop itself; None for never.

    Raises:
        InputError: What was read back is not what was meant.
    """
    atoms = job.seen_by_pw(positions)
    if job.spin:
        atoms.set_initial_magnetic_moments([_start(job, symbol) for symbol in job.symbols])
    namelists = _namelists(job, settings, max_seconds=max_seconds)
    file = io.StringIO()
    write_espresso_in(
        file,
        atoms,
        input_data=namelists,
        pseudopotentials={symbol: one.filename for symbol, one in job.pseudos.items()},
        kpts=job.kpoints,
        crystal_coordinates=True,
    )
    text = file.getvalue()
    _verify(text, job, namelists, positions)
    return text


def _start(job: Job, symbol: str) -> float:
    """Return the magnetisation an atom starts with, as a share of its valence electrons."""
    d_or_f = any(
        first <= atomic_numbers[symbol] <= last for first, last in ((21, 30), (39, 48), (57, 80))
    )
    share = job.protocol.start_magnetization
    return share if d_or_f or atomic_numbers[symbol] >= 89 else share / 10


def _namelists(
    job: Job, settings: Settings, *, max_seconds: float | None
) -> dict[str, dict[str, Any]]:
    """Return the namelists; thresholds of a cell are those of an atom times its atoms."""
    n_atoms, protocol = len(job.symbols), job.protocol
    control = {
        "calculation": "relax",
        "prefix": PREFIX,
        "outdir": OUTDIR,
        "pseudo_dir": PSEUDO_DIR,
        "tprnfor": True,
        "nstep": settings.nstep,
        "etot_conv_thr": protocol.energy_threshold_per_atom * n_atoms,
        "forc_conv_thr": protocol.force_threshold,
    }
    if max_seconds is not None:
        control["max_seconds"] = round(max_seconds, 1)
    system = {
        "ecutwfc": job.ecutwfc,
        "ecutrho": job.ecutrho,
        "occupations": "smearing",
        "smearing": protocol.smearing,
        "degauss": protocol.degauss,
    }
    if settings.nbnd is not None:
        system["nbnd"] = settings.nbnd
    if job.spin:
        system["nspin"] = 2
    electrons = {
        "conv_thr": protocol.scf_threshold_per_atom * n_atoms,
        "electron_maxstep": settings.electron_maxstep,
        "mixing_beta": settings.mixing_beta,
        "mixing_mode": settings.mixing_mode,
        "mixing_ndim": settings.mixing_ndim,
        "diagonalization": settings.diagonalization,
        "diago_david_ndim": settings.diago_david_ndim,
        "startingpot": "file" if settings.density_from_file else "atomic",
    }
    ions = {"ion_dynamics": settings.ion_dynamics, "trust_radius_min": settings.trust_radius_min}
    if settings.ion_dynamics != "bfgs":
        del ions["trust_radius_min"]
    return {"CONTROL": control, "SYSTEM": system, "ELECTRONS": electrons, "IONS": ions}


def _verify(
    text: str, job: Job, namelists: Mapping[str, Mapping[str, Any]], positions: np.ndarray
) -> None:
    """Compare what qe-tools reads with what was meant."""
    try:
        found = PwInputFile(text, validate_species_names=False)
    except (ParsingError, ValueError, TypeError, LookupError) as error:
        raise _refuse(job, f"cannot be read back ({' '.join(str(error).split())})") from error
    for group, entries in namelists.items():
        for name, value in entries.items():
            if not _same(found.namelists.get(group, {}).get(name.lower()), value):
                raise _refuse(job, f"says another {name} than was meant")
    labels = [name.rstrip("0123456789") for name in found.atomic_positions["names"]]
    if labels != list(job.symbols):
        raise _refuse(job, "lists other atoms than were meant")
    meant = job.seen_by_pw(positions)
    scaled = meant.get_scaled_positions(wrap=False)
    where = np.asarray(found.atomic_positions["positions"], dtype=np.float64)
    cell = np.asarray(found.cell_parameters["cell"], dtype=np.float64)
    if (
        np.abs(where - scaled).max() > _ROUNDING
        or np.abs(cell - meant.cell.array).max() > _ROUNDING
    ):
        raise _refuse(job, "places an atom or a lattice vector elsewhere than was meant")
    if tuple(found.k_points["points"]) != job.kpoints or any(found.k_points["offset"]):
        raise _refuse(job, "has another k-point mesh than was meant")


def _same(found: Any, meant: Any) -> bool:
    if isinstance(meant, float) and isinstance(found, int | float):
        return bool(np.isclose(found, meant, rtol=1e-12, atol=0.0))
    return bool(found == meant)


def _refuse(job: Job, what: str) -> InputError:
    return InputError(f"{job.id} ({job.key}): the input of pw.x {what}; this is a bug of xtalfill")
