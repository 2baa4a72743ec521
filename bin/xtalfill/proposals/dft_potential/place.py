"""PLACE_POTENTIAL: the parameters of the stage, what relaxes between placements, its provenance."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from xtalfill.core.errors import ConfigError
from xtalfill.dft.launch import LaunchSettings
from xtalfill.dft.pseudos import UpfHeader, functionals, library_of
from xtalfill.dft.theory import LevelOfTheory
from xtalfill.proposals.dft_potential.calculation import PotentialCalculator
from xtalfill.proposals.dft_potential.job import HostJob
from xtalfill.proposals.dft_potential.restore import Placement, Rules, Solver, restore


@dataclass(frozen=True, kw_only=True)
class PlacePotentialSettings:
    """The parameters of the stage PLACE_POTENTIAL.

    Attributes:
        rules: How sites are chosen.
        launch: How pw.x is started.
        baseline_degauss: Ry; smearing of the electrons.
        baseline_relax: What relaxes the placed atoms: pw.x or the potential `mlip`.
        mlip: A name, or the path of a model file.
        sites_fmax: eV/Angstrom; largest force on a placed atom, with the potential.
        sites_max_steps: Most steps, with the potential.
    """

    rules: Rules
    launch: LaunchSettings
    baseline_degauss: float
    baseline_relax: Literal["qe", "mlip"]
    mlip: str
    sites_fmax: float
    sites_max_steps: int

    def with_model(self, mlip_file: Path | None) -> PlacePotentialSettings:
        """Return the settings with a model file as `mlip`; None changes nothing."""
        return replace(self, mlip=str(mlip_file or self.mlip))


def place(
    job: HostJob, electrons: PotentialCalculator, settings: PlacePotentialSettings
) -> list[Placement]:
    """Fill the host of a job.

    Raises:
        ConfigError: The packages of the potential are not installed.
        TryAgainError, MemoryNeededError: As for `PwRunner.run`.
    """
    return restore(
        job.host,
        job.element,
        job.n_sites,
        samples=job.samples,
        rules=settings.rules,
        solver=_solver(electrons, settings),
        generator=job.generator(),
    )


def _solver(electrons: PotentialCalculator, settings: PlacePotentialSettings) -> Solver:
    """Return what finds potentials and relaxes."""
    if settings.baseline_relax == "qe":
        return electrons
    try:
        from xtalfill.proposals.dft_potential.mlip import MlipSolver
        from xtalfill.relax.potentials import load_potential

        potential = load_potential(settings.mlip, device="cpu")
    except ImportError as error:
        raise ConfigError(
            f"--baseline_relax mlip needs {error.name}, which is not here; use qe"
        ) from error
    return MlipSolver(
        electrons, potential, fmax=settings.sites_fmax, max_steps=settings.sites_max_steps
    )


def provenance(
    settings: PlacePotentialSettings,
    level: LevelOfTheory,
    headers: Mapping[str, UpfHeader],
    table: str,
) -> dict[str, Any]:
    """Return what a host was filled with, as plain JSON values.

    Args:
        settings: The parameters of the stage.
        level: How the electrons were calculated.
        headers: Element -> header of its pseudopotential.
        table: File name of the table of pseudopotentials.
    """
    return {
        **asdict(settings.rules),
        "protocol": asdict(level.protocol),
        "degauss": settings.baseline_degauss,
        "table": table,
        "library": library_of(level.table),
        "functional": functionals(headers),
        "relax": settings.baseline_relax,
        "mlip": settings.mlip if settings.baseline_relax == "mlip" else None,
    }
