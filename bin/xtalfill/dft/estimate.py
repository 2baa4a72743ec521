"""Estimate the cost of a job with a model fitted to measured runs (assets/dft_cost.json).

One SCF step costs about a constant times x^p, with x = k-points x bands x plane waves. The number
of SCF steps of a relaxation, or of all calculations of a host in the potential method, is the
median of the measured runs. tools/fit_dft_cost.py fits the models. An estimate gives the order of
magnitude; the spread of the model states its error.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ase.units import Bohr

from xtalfill.core.errors import ConfigError
from xtalfill.dft.system import PwSystem


@dataclass(frozen=True)
class CostModel:
    """A cost model fitted to measured runs.

    Attributes:
        seconds: Core-seconds of one SCF step at x = 1e6.
        exponent: Exponent of x.
        n_scf: Total number of SCF steps.
        spread: Factor within which two thirds of the measured runs lie.
        machine: Machine of the measurements.
    """

    seconds: float
    exponent: float
    n_scf: float
    spread: float
    machine: str

    def core_hours(self, system: PwSystem) -> float:
        """Return the estimated core-hours of a calculation."""
        return self.n_scf * self.seconds * (problem_size(system) / 1e6) ** self.exponent / 3600.0


def problem_size(system: PwSystem) -> float:
    """Return x = k-points x bands x plane waves, doubled with spin."""
    volume = abs(float(system.atoms.get_volume())) / Bohr**3
    waves = volume * system.ecutwfc**1.5 / (6 * math.pi**2)  # a sphere of radius sqrt(E/Ry)/bohr
    occupied = system.n_electrons / 2
    bands = max(1.2 * occupied, occupied + 4)  # the default of pw.x for a metal
    return system.n_irreducible * bands * waves * (2 if system.spin else 1)


def read_cost_model(path: Path, kind: str) -> CostModel:
    """Read the cost model of one kind of calculation.

    Args:
        path: The file.
        kind: "relaxation" (PW_RELAX) or "host" (PLACE_POTENTIAL, all of its calculations).

    Raises:
        ConfigError: The file is not an output of tools/fit_dft_cost.py.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))[kind]["model"]
        model = CostModel(**content)
        usable = all(
            0 < value < math.inf
            for value in (model.seconds, model.exponent, model.n_scf, model.spread)
        )
    except (OSError, ValueError, TypeError, LookupError) as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"{path.name}: not a cost model of a {kind} ({reason})") from error
    if not usable:
        raise ConfigError(f"{path.name}: a number of the cost model is not positive")
    return model


def cost_summary(model: CostModel, systems: Sequence[PwSystem]) -> dict[str, float | int | str]:
    """Return the estimated cost of a set of calculations, with the spread of the model."""
    hours = [model.core_hours(system) for system in systems]
    return {
        "jobs": len(systems),
        "core_hours": round(sum(hours), 3),
        "core_hours_longest": round(max(hours, default=0.0), 3),
        "spread": model.spread,
        "machine": model.machine,
    }


def job_requirements(model: CostModel, systems: Sequence[PwSystem]) -> dict[str, dict[str, float]]:
    """Return the quantities from which a task derives its memory and time limit.

    Returns:
        key -> size: k-points x bands x plane waves, in millions; core_hours. Three digits.
    """
    found = {one.key: (problem_size(one) / 1e6, model.core_hours(one)) for one in systems}
    return {
        key: {"size": float(f"{size:.3g}"), "core_hours": float(f"{hours:.3g}")}
        for key, (size, hours) in found.items()
    }
