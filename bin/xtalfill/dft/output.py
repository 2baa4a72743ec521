"""What an attempt left in its folder: exit code, output, data file, last geometry."""

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
# What ASE's reader raises on an output that was cut off in the middle of a block.
_CUT_OFF = (ArithmeticError, AssertionError, LookupError, TypeError, ValueError)


def read_output(folder: Path, name: str, exit_code: int) -> PwOutput:
    """Read what an attempt left.

    Args:
        folder: Of the attempt.
        name: Of its files: <name>.out and <name>.err.
        exit_code: Of pw.x.
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
    """Return the geometries of an attempt that have an energy: from the data file, else the text.

    pw.x writes its data file at the end; one that was killed, ran out of time or did not reach
    self-consistency leaves text alone.
    """
    if run.data is not None:
        return run.data.steps
    return [step for step in map(_step, _frames(run.stdout)) if step is not None]


def last_geometry(run: PwOutput) -> np.ndarray | None:
    """Return the last geometry that an attempt reached, fractional; None where it left none."""
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
    """Return the text of a file, its end when it is very long; empty where there is none."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - MAX_TEXT_BYTES))
            return file.read().decode("utf-8", errors="replace")
    except FileNotFoundError:
        return ""
