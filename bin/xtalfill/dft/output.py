"""Read the output of an attempt: exit code, text, data file and last geometry."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.calculators.calculator import PropertyNotImplementedError
from ase.io.espresso import read_espresso_out

from xtalfill.dft.failures import PwOutput
from xtalfill.dft.inputs import OUTDIR, PREFIX
from xtalfill.dft.xmlfile import DataFileError, IonicStep, read_data_file

MAX_TEXT_BYTES = 1 << 28
# Errors of ASE's reader on an output that is truncated within a block.
_CUT_OFF = (ArithmeticError, AssertionError, LookupError, TypeError, ValueError)


def read_output(folder: Path, name: str, exit_code: int) -> PwOutput:
    """Read the output of an attempt.

    Args:
        folder: Folder of the attempt.
        name: Stem of its files <name>.out and <name>.err.
        exit_code: Exit code of pw.x.
    """
    stderr = _text(folder / f"{name}.err") + _text(folder / "CRASH")
    stdout, path = _text(folder / f"{name}.out"), folder / OUTDIR / f"{PREFIX}.xml"
    if not path.exists():
        return PwOutput(exit_code, stdout, stderr)
    try:
        return PwOutput(exit_code, stdout, stderr, data=read_data_file(path))
    except DataFileError as error:
        return PwOutput(exit_code, stdout, stderr, xml_error=str(error))


def steps_of(run: PwOutput) -> list[IonicStep]:
    """Return the geometries with an energy, from the data file or else from the text.

    pw.x writes its data file at the end. A run that was killed, exceeded its time limit or did not
    reach self-consistency leaves only text.
    """
    if run.data is not None:
        return run.data.steps
    return [step for step in map(_step, _frames(run.stdout)) if step is not None]


def last_geometry(run: PwOutput) -> np.ndarray | None:
    """Return the fractional coordinates of the last geometry; None if there is none."""
    if run.data is not None:
        return run.data.steps[-1].scaled
    frames = _frames(run.stdout)
    if not frames:
        return None
    scaled = np.asarray(frames[-1].get_scaled_positions(wrap=False))
    return scaled if np.isfinite(scaled).all() else None


def _frames(stdout: str) -> list[Atoms]:
    try:
        return list(
            read_espresso_out(io.StringIO(stdout), index=slice(None), results_required=False)
        )
    except _CUT_OFF:
        return []


def _step(atoms: Atoms) -> IonicStep | None:
    try:
        energy = float(atoms.get_potential_energy(force_consistent=True))
        forces = np.asarray(atoms.get_forces())
    except (PropertyNotImplementedError, RuntimeError):
        return None
    return IonicStep(np.asarray(atoms.get_scaled_positions(wrap=False)), energy, forces, True, 0)


def _text(path: Path) -> str:
    """Return the text of a file, or its end if it is very long; empty if it does not exist."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - MAX_TEXT_BYTES))
            return file.read().decode("utf-8", errors="replace")
    except FileNotFoundError:
        return ""
