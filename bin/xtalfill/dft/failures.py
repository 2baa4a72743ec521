"""Diagnose a run of pw.x from its exit code, its output and its data file.

Each failure has one corrective action (`xtalfill.dft.repair`); docs/validate.md lists both.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from xtalfill.dft.xmlfile import DataFile

# Above this occupation of the highest band the calculation needs more bands.
TOP_OCCUPATION = 0.005
_KILLED = (-9, 128 + 9)  # as reported by Python, and by a shell or mpirun
_TERMINATED = (-15, 128 + 15)
_FORCE_MARGIN = 1.01  # pw.x symmetrises forces again after the comparison


class PwFailure(StrEnum):
    """Kinds of failure."""

    WALLTIME = "walltime"
    SCF = "scf_not_converged"
    DIAGONALISATION = "diagonalisation"
    BFGS = "bfgs_history"
    IONIC_STEPS = "ionic_steps"
    BANDS = "highest_band_occupied"
    MEMORY = "memory"
    CORRUPT_XML = "corrupt_xml"
    MPI = "mpi_abort"
    REFUSED = "refused_by_pw"


@dataclass(frozen=True)
class PwOutput:
    """Output of a run.

    Attributes:
        exit_code: Exit code of pw.x or its launcher; negative for a signal.
        stdout: Standard output.
        stderr: Standard error, with the CRASH file.
        data: The data file; None if missing or unreadable.
        xml_error: Why the data file cannot be read; empty if it can or was not written.
    """

    exit_code: int
    stdout: str
    stderr: str
    data: DataFile | None = None
    xml_error: str = ""


# In the order of the search: causes before their consequences.
_PATTERNS: tuple[tuple[PwFailure, re.Pattern[str]], ...] = (
    (PwFailure.WALLTIME, re.compile(r"Maximum CPU time exceeded")),
    (
        PwFailure.MEMORY,
        re.compile(
            r"std::bad_alloc|[Cc]annot allocate memory|[Oo]ut of memory"
            r"|Allocation would exceed memory limit|[Ii]nsufficient virtual memory"
            r"|[Ee]rror allocating|not enough memory"
        ),
    ),
    (
        PwFailure.DIAGONALISATION,
        re.compile(
            r"too many bands are not converged|S matrix not positive definite"
            r"|problems computing cholesky|eigenvectors failed to converge"
            r"|Error in routine +(?:[cpr]*diaghg\w*|[rc]egterg|paro\w*|[rc]cgdiagg)\b",
            re.IGNORECASE,
        ),
    ),
    (PwFailure.SCF, re.compile(r"convergence NOT achieved after +\d+ iterations")),
    (PwFailure.BFGS, re.compile(r"bfgs failed after")),
    (PwFailure.IONIC_STEPS, re.compile(r"The maximum number of steps has been reached")),
    (PwFailure.REFUSED, re.compile(r"Error in routine +\S+|%%%%\s*task")),
)
_OF_IONS = (PwFailure.IONIC_STEPS, PwFailure.BFGS)
_ERROR = re.compile(r"Error in routine +(\S+) +\((-?\d+)\):\s*\n\s*(.+)")


def diagnose(run: PwOutput, *, max_force: float) -> PwFailure | None:
    """Return the failure, or None if the relaxation converged and can be trusted.

    BFGS also reports convergence when its history is exhausted ("history already reset at previous
    step: stopping"). The forces therefore decide.

    Args:
        run: Output of the run.
        max_force: Limit of the largest force component in eV/Angstrom.
    """
    return _output_failure(run) or _data_failure(run, max_force)


def diagnose_electrons(run: PwOutput) -> PwFailure | None:
    """Return the failure of a run whose ions need not converge; None if its energy is usable.

    For a single SCF calculation, or a relaxation that is only a step on the way.
    """
    failure = diagnose(run, max_force=math.inf)
    if failure not in _OF_IONS or run.data is None:
        return failure
    return PwFailure.BANDS if run.data.top_occupation > TOP_OCCUPATION else None


def _output_failure(run: PwOutput) -> PwFailure | None:
    """Return the failure that the exit code or the output shows."""
    if run.exit_code in _KILLED:
        return PwFailure.MEMORY
    if run.exit_code in _TERMINATED:
        return PwFailure.WALLTIME
    text = run.stdout + run.stderr
    found = next((failure for failure, pattern in _PATTERNS if pattern.search(text)), None)
    return found or (PwFailure.MPI if run.exit_code != 0 else None)


def _data_failure(run: PwOutput, max_force: float) -> PwFailure | None:
    """Return the failure that the data file of a normally terminated run shows."""
    if run.data is None:
        return PwFailure.CORRUPT_XML
    last, found = run.data.steps[-1], None
    if run.data.top_occupation > TOP_OCCUPATION:
        found = PwFailure.BANDS
    if last.forces is None or np.abs(last.forces).max() > _FORCE_MARGIN * max_force:
        found = PwFailure.BFGS
    if not run.data.relaxed:
        found = PwFailure.IONIC_STEPS
    return found if last.scf_converged else PwFailure.SCF


def explain(run: PwOutput, failure: PwFailure) -> str:
    """Return the error message of pw.x for a failure, as one line."""
    text = run.stdout + run.stderr
    if match := _ERROR.search(text):
        return " ".join(f"{match[1]}: {match[3]}".split())[:200]
    pattern = dict(_PATTERNS).get(failure)
    if pattern is not None and (match := pattern.search(text)):
        return " ".join(match[0].split())
    return {
        PwFailure.CORRUPT_XML: run.xml_error or "pw.x wrote no data file",
        PwFailure.MEMORY: "killed",
        PwFailure.WALLTIME: "terminated by SIGTERM",
        PwFailure.BFGS: "BFGS stopped before the forces converged",
        PwFailure.BANDS: "the highest band is occupied",
    }.get(failure, f"exit code {run.exit_code} without an error message")
