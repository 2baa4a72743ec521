"""PLAN_POTENTIAL: select the hosts for pw.x and estimate their cost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from xtalfill.core.batch import Batch
from xtalfill.dft.checks import refusal_reason, unknown_elements
from xtalfill.dft.estimate import CostModel, cost_summary, job_requirements
from xtalfill.dft.protocols import Protocol
from xtalfill.dft.pseudos import PseudoTable, check_files
from xtalfill.dft.system import PwSystem
from xtalfill.dft.theory import LevelOfTheory
from xtalfill.proposals.dft_potential.calculation import SMEARING, host_system
from xtalfill.proposals.dft_potential.job import HostJob, jobs_of


@dataclass(frozen=True, kw_only=True)
class PlanPotentialSettings:
    """The parameters of the stage PLAN_POTENTIAL.

    Attributes:
        baseline_degauss: Ry; smearing of the electrons.
        max_electrons: The most valence electrons of a cell, those of the missing atoms included.
    """

    baseline_degauss: float
    max_electrons: int


@dataclass(frozen=True)
class HostPlan:
    """The hosts of a run.

    Attributes:
        jobs: All hosts.
        refused: Key of a job -> why it cannot be calculated.
        systems: Key of each other job -> its first calculation.
        level: The level of theory.
    """

    jobs: list[HostJob]
    refused: dict[str, str]
    systems: dict[str, PwSystem]
    level: LevelOfTheory

    def content(self, model: CostModel) -> dict[str, Any]:
        """Return the content of plan.json."""
        systems = list(self.systems.values())
        return {
            "parameters": {"protocol": asdict(self.level.protocol)},
            "estimate": cost_summary(model, systems),
            "jobs": job_requirements(model, systems),
            "hosts": [
                {"key": job.key, "id": job.id, "refused": self.refused.get(job.key, "")}
                for job in self.jobs
            ],
        }

    def pseudos(self) -> dict[str, str]:
        """Return the pseudopotentials in use: file -> checksum."""
        return self.level.pseudo_checksums()


def plan_hosts(
    batches: Mapping[str, Batch],
    *,
    protocol: Protocol,
    table: PseudoTable,
    pseudo_dir: Path,
    degauss: float,
    max_electrons: int,
) -> HostPlan:
    """Plan the hosts of a run.

    Args:
        batches: Name -> batch after CHECK.
        protocol: Numerical accuracy.
        table: The pseudopotentials.
        pseudo_dir: Folder with the pseudopotential files.
        degauss: Smearing width in Ry.
        max_electrons: Maximum number of valence electrons per cell, with those of the missing
            atoms.

    Raises:
        ConfigError: A pseudopotential is missing or differs from the table.
    """
    jobs = [job for name in sorted(batches) for job in jobs_of(batches[name], name)]
    headers = check_files(table, pseudo_dir, {symbol for job in jobs for symbol in job.symbols})
    valence = {name: one.valence for name, one in headers.items()}
    level = LevelOfTheory(
        protocol=protocol, table=table, valence=valence, degauss=degauss, smearing=SMEARING
    )
    refused: dict[str, str] = {}
    systems: dict[str, PwSystem] = {}
    for job in jobs:
        if reason := unknown_elements(job.symbols, valence):
            refused[job.key] = reason
            continue
        fixed = np.zeros(len(job.numbers), dtype=bool)
        system = host_system(
            level, job.host, name=job.id, key=job.key, extra=job.n_sites, free=fixed
        )
        n_electrons = sum(valence[symbol] for symbol in job.symbols)
        if reason := refusal_reason(system.atoms, n_electrons, max_electrons=max_electrons):
            refused[job.key] = reason
        else:
            systems[job.key] = system
    return HostPlan(jobs, refused, systems, level)
