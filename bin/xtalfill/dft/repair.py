"""The corrective action for each failure: new settings and the next starting point."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

from xtalfill.dft.failures import PwFailure
from xtalfill.dft.system import PwSettings

MAX_ATTEMPTS = 5
DIAGONALISERS = ("david", "paro", "cg")  # the last one is the slowest and most robust
_MIN_TRUST_RADIUS = 1e-5  # bohr


@dataclass(frozen=True)
class Repair:
    """A corrective action.

    Attributes:
        settings: Settings of the next attempt.
        action: Description of the change, for the provenance.
        keep_density: Whether the next attempt starts from the density of the failed run.
    """

    settings: PwSettings
    action: str
    keep_density: bool = False


@dataclass(frozen=True)
class FailedAttempt:
    """The state that an action depends on.

    Attributes:
        settings: Settings of the failed attempt.
        n_bands: Its number of bands; None if unknown.
        n_electrons: Number of valence electrons.
        first_maxstep: electron_maxstep of the first attempt.
    """

    settings: PwSettings
    n_bands: int | None
    n_electrons: float
    first_maxstep: int


def repair(failure: PwFailure, situation: FailedAttempt) -> Repair | None:
    """Return the corrective action, or None if none is left.

    WALLTIME has no action here: the task stops and Nextflow restarts it.
    """
    action = _ACTIONS.get(failure)
    return None if action is None else action(situation)


def _scf(now: FailedAttempt) -> Repair:
    """Reduce the mixing and allow more steps; from the second failure on, use local screening."""
    old = now.settings
    beta, steps = round(0.8 * old.mixing_beta, 6), math.ceil(1.5 * old.electron_maxstep)
    again = old.electron_maxstep > now.first_maxstep
    mode = "local-TF" if again else old.mixing_mode
    words = f"mixing_beta {beta:g}, electron_maxstep {steps}"
    words += f", mixing_mode {mode}" if mode != old.mixing_mode else ""
    new = replace(old, mixing_beta=beta, electron_maxstep=steps, mixing_mode=mode)
    return Repair(new, words)


def _diagonalisation(now: FailedAttempt) -> Repair | None:
    """Use the next diagonaliser and start from atomic densities; the last one is unreliable."""
    place = DIAGONALISERS.index(now.settings.diagonalization) + 1
    if place == len(DIAGONALISERS):
        return None
    name = DIAGONALISERS[place]
    return Repair(replace(now.settings, diagonalization=name), f"diagonalization {name}")


def _bfgs(now: FailedAttempt) -> Repair | None:
    """Restart BFGS with a smaller minimum step; if that is exhausted, use damped dynamics."""
    old = now.settings
    if old.ion_dynamics != "bfgs":
        return None
    radius = old.trust_radius_min / 10
    if radius >= _MIN_TRUST_RADIUS:
        new = replace(old, trust_radius_min=radius)
        return Repair(new, f"trust_radius_min {radius:g} bohr from the last geometry", True)
    new = replace(old, ion_dynamics="damp")
    return Repair(new, "ion_dynamics damp from the last geometry", True)


def _ionic_steps(now: FailedAttempt) -> Repair:
    return Repair(now.settings, "more steps from the last geometry", True)


def _bands(now: FailedAttempt) -> Repair:
    """Add five percent of the bands, at least four."""
    had = now.n_bands or math.ceil(now.n_electrons / 2)
    nbnd = had + max(4, math.ceil(had / 20))
    return Repair(replace(now.settings, nbnd=nbnd), f"nbnd {nbnd}", True)


def _memory(now: FailedAttempt) -> Repair | None:
    """Distribute the plane waves over all processes, then reduce the workspaces."""
    old = now.settings
    if old.pools > 1:
        return Repair(replace(old, pools=1), "one pool")
    if old.mixing_ndim > 4:
        return Repair(replace(old, mixing_ndim=4), "mixing_ndim 4")
    return None


def _mpi(now: FailedAttempt) -> Repair:
    """Restart with half of the processes; a single process runs without the MPI launcher."""
    ranks = max(1, now.settings.ranks // 2)
    pools = math.gcd(ranks, now.settings.pools)
    return Repair(replace(now.settings, ranks=ranks, pools=pools), f"{ranks} process(es)")


def _corrupt_xml(now: FailedAttempt) -> Repair:
    return Repair(now.settings, "rerun in an empty folder")


_ACTIONS: dict[PwFailure, Callable[[FailedAttempt], Repair | None]] = {
    PwFailure.SCF: _scf,
    PwFailure.DIAGONALISATION: _diagonalisation,
    PwFailure.BFGS: _bfgs,
    PwFailure.IONIC_STEPS: _ionic_steps,
    PwFailure.BANDS: _bands,
    PwFailure.MEMORY: _memory,
    PwFailure.MPI: _mpi,
    PwFailure.CORRUPT_XML: _corrupt_xml,
}
