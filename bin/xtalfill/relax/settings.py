"""The settings of RELAX."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from xtalfill.core.errors import ConfigError
from xtalfill.core.settings import parameter
from xtalfill.relax.optimizers import OPTIMIZERS, OptimizerName


@dataclass(frozen=True)
class RelaxSettings:
    """Settings of the relaxations.

    Attributes:
        sites_fmax: Force threshold of relax_sites for the filled sites, eV/Angstrom.
        sites_max_steps: Maximum number of steps of relax_sites.
        fmax: Force threshold of relax_positions and relax_rank for all atoms, eV/Angstrom.
        max_steps: Maximum number of steps of relax_positions and of relax_rank.
        max_atoms_per_batch: Atoms evaluated together.
        optimizer: What makes the steps of all relaxations.
        merge: Before relax_positions, too, relax only one of the candidates in the same minimum.
        drop_above: Energy window above the best candidate after relax_sites, eV per atom;
            candidates above it are dropped. None drops none.
        stop_below: Relax the candidates in waves, and no more of a structure when the probability
            of a lower minimum is below this. None relaxes all.
        rounds: Largest number of rounds that move the lowest minima.
        mu: Chemical potential of the filled element where numbers of missing sites are compared,
            eV per atom. None takes half an H2 molecule.
        threads: Number of groups evaluated in parallel.
    """

    sites_fmax: float
    sites_max_steps: int
    fmax: float
    max_steps: int
    max_atoms_per_batch: int
    optimizer: OptimizerName = "lbfgs"
    merge: bool = False
    drop_above: float | None = None
    stop_below: float | None = None
    rounds: int = 0
    mu: float | None = None
    threads: int = field(default=1, metadata=parameter(None))

    def __post_init__(self) -> None:
        """Validate the settings.

        Raises:
            ConfigError: A threshold is not positive, or a count is below its minimum.
        """
        for name in ("sites_fmax", "fmax"):
            if not 0.0 < getattr(self, name) < np.inf:
                raise ConfigError(f"{name} is {getattr(self, name)}; it must be above 0 eV/Å")
        if self.optimizer not in OPTIMIZERS:
            raise ConfigError(f"optimizer is {self.optimizer}; choose {' or '.join(OPTIMIZERS)}")
        if self.mu is not None and not np.isfinite(self.mu):
            raise ConfigError(f"mu is {self.mu}; give a number, eV per atom")
        if self.drop_above is not None and not self.drop_above > 0.0:
            raise ConfigError(f"drop_above is {self.drop_above}; it must be above 0 eV/atom")
        if self.stop_below is not None and not 0.0 < self.stop_below < 1.0:
            raise ConfigError(f"stop_below is {self.stop_below}; it must be between 0 and 1")
        least = {"sites_max_steps": 0, "max_steps": 0, "rounds": 0}
        least |= {"max_atoms_per_batch": 1, "threads": 1}
        for name, value in least.items():
            if getattr(self, name) < value:
                raise ConfigError(f"{name} is {getattr(self, name)}; it must be at least {value}")


@dataclass(frozen=True, kw_only=True)
class RelaxStageSettings:
    """The parameters of the stage RELAX.

    Attributes:
        relaxation: How to relax.
        samples: Proposals of a structure and method that are relaxed.
        mlip: Potential of relax_sites and relax_positions: a name, or the path of a model file.
        mlip_rank: Potential of relax_rank; None leaves that step out.
        device: Where the potentials run.
    """

    relaxation: RelaxSettings
    samples: int
    mlip: str
    mlip_rank: str | None
    device: Literal["cpu", "cuda"]

    def on_this_machine(
        self, *, mlip_file: Path | None, mlip_rank_file: Path | None, threads: int
    ) -> RelaxStageSettings:
        """Return the settings for one task.

        Args:
            mlip_file: Model file that stands for `mlip`; None where that is a name.
            mlip_rank_file: The same for `mlip_rank`.
            threads: CPU threads; a GPU needs one.
        """
        threads = 1 if self.device == "cuda" else threads
        return replace(
            self,
            relaxation=replace(self.relaxation, threads=threads),
            mlip=str(mlip_file or self.mlip),
            mlip_rank=str(mlip_rank_file) if mlip_rank_file else self.mlip_rank,
        )

    def recorded(self) -> dict[str, Any]:
        """Return the parameters for the record of the task."""
        return {
            "mlip": self.mlip,
            "mlip_rank": self.mlip_rank,
            "device": self.device,
            "keep": self.samples,
            **asdict(self.relaxation),
        }
