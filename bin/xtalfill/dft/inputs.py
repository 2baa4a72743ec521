"""The input of pw.x: written by ASE, then parsed by qe-tools and compared with the request."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import numpy as np
from ase.constraints import FixAtoms
from ase.data import atomic_numbers
from ase.io.espresso import write_espresso_in
from qe_tools.exceptions import ParsingError
from qe_tools.parsers import PwInputFile

from xtalfill.core.errors import InputError
from xtalfill.dft.system import PwSettings, PwSystem

PREFIX = "pwscf"
OUTDIR = "out"
PSEUDO_DIR = "pseudo"
# ASE writes ten decimals.
_ROUNDING = 2e-10


def write_input(
    system: PwSystem, settings: PwSettings, *, scaled: np.ndarray, max_seconds: float | None
) -> str:
    """Return the text of an input after checking it with an independent parser.

    Args:
        system: The calculation.
        settings: Settings of this attempt.
        scaled: (n_atoms, 3) fractional coordinates of the starting geometry.
        max_seconds: Time after which pw.x stops itself; None for no limit.

    Raises:
        InputError: The parsed input differs from the request.
    """
    atoms = system.atoms.copy()
    atoms.set_scaled_positions(scaled)
    if not system.free.all() and system.relaxes:
        atoms.set_constraint(FixAtoms(np.flatnonzero(~system.free)))
    if system.spin:
        atoms.set_initial_magnetic_moments(
            [_starting_magnetization(system, symbol) for symbol in system.symbols]
        )
    namelists = _namelists(system, settings, max_seconds=max_seconds)
    file = io.StringIO()
    write_espresso_in(
        file,
        atoms,
        input_data=namelists,
        pseudopotentials={symbol: one.filename for symbol, one in system.pseudos.items()},
        kpts=system.kpoints,
        crystal_coordinates=True,
    )
    text = file.getvalue()
    _verify(text, system, namelists, scaled)
    return text


def _starting_magnetization(system: PwSystem, symbol: str) -> float:
    """Return the starting magnetisation of an atom as a share of its valence electrons."""
    d_or_f = any(
        first <= atomic_numbers[symbol] <= last for first, last in ((21, 30), (39, 48), (57, 80))
    )
    share = system.protocol.start_magnetization
    return share if d_or_f or atomic_numbers[symbol] >= 89 else share / 10


def _namelists(
    system: PwSystem, settings: PwSettings, *, max_seconds: float | None
) -> dict[str, dict[str, Any]]:
    """Return the namelists. Thresholds per cell are those per atom times the number of atoms."""
    n_atoms, protocol = len(system.atoms), system.protocol
    control = {
        "calculation": "relax" if system.relaxes else "scf",
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
    namelists = {"CONTROL": control, "SYSTEM": _system(system, settings), "ELECTRONS": electrons}
    if system.relaxes:
        namelists["IONS"] = {"ion_dynamics": settings.ion_dynamics}
        if settings.ion_dynamics == "bfgs":
            namelists["IONS"]["trust_radius_min"] = settings.trust_radius_min
    return namelists


def _system(system: PwSystem, settings: PwSettings) -> dict[str, Any]:
    """Return the namelist SYSTEM. Smearing allows an odd number of electrons."""
    found: dict[str, Any] = {
        "ecutwfc": system.ecutwfc,
        "ecutrho": system.ecutrho,
        "occupations": "smearing",
        "smearing": system.smearing,
        "degauss": system.degauss,
    }
    if system.extra:
        found["tot_charge"] = -float(system.extra)
    if settings.nbnd is not None:
        found["nbnd"] = settings.nbnd
    if system.spin:
        found["nspin"] = 2
    return found


def _verify(
    text: str, system: PwSystem, namelists: Mapping[str, Mapping[str, Any]], scaled: np.ndarray
) -> None:
    """Compare the input as parsed by qe-tools with the request."""
    try:
        found = PwInputFile(text, validate_species_names=False)
    except (ParsingError, ValueError, TypeError, LookupError) as error:
        reason = " ".join(str(error).split())
        raise _mismatch(system, f"cannot be read back ({reason})") from error
    for group, entries in namelists.items():
        for name, value in entries.items():
            if not _same(found.namelists.get(group, {}).get(name.lower()), value):
                raise _mismatch(system, f"has an unexpected value of {name}")
    _verify_atoms(found, system, scaled)
    if tuple(found.k_points["points"]) != system.kpoints or any(found.k_points["offset"]):
        raise _mismatch(system, "has an unexpected k-point mesh")


def _verify_atoms(found: PwInputFile, system: PwSystem, scaled: np.ndarray) -> None:
    labels = [name.rstrip("0123456789") for name in found.atomic_positions["names"]]
    if labels != system.symbols:
        raise _mismatch(system, "lists unexpected atoms")
    where = np.asarray(found.atomic_positions["positions"], dtype=np.float64)
    cell = np.asarray(found.cell_parameters["cell"], dtype=np.float64)
    if (
        np.abs(where - scaled).max() > _ROUNDING
        or np.abs(cell - system.atoms.cell.array).max() > _ROUNDING
    ):
        raise _mismatch(system, "has an unexpected position or lattice vector")
    # qe-tools returns True for a fixed coordinate.
    held = np.asarray(found.atomic_positions["fixed_coords"], dtype=bool)
    meant = ~system.free if system.relaxes else np.zeros(len(system.free), dtype=bool)
    if not np.array_equal(held, np.repeat(meant[:, None], 3, axis=1)):
        raise _mismatch(system, "fixes unexpected atoms")


def _same(found: Any, meant: Any) -> bool:
    if isinstance(meant, float) and isinstance(found, int | float):
        return bool(np.isclose(found, meant, rtol=1e-12, atol=0.0))
    return bool(found == meant)


def _mismatch(system: PwSystem, what: str) -> InputError:
    where = f"{system.name} ({system.key})"
    return InputError(f"{where}: the input of pw.x {what}; this is a bug in xtalfill")
