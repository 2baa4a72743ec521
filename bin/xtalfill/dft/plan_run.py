"""The stage PLAN_DFT for all batches of a run: level of theory, jobs and plan.json."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from xtalfill.core.batch import Batch
from xtalfill.dft.estimate import CostModel, cost_summary, job_requirements
from xtalfill.dft.job import PwJob
from xtalfill.dft.plan import (
    PlannedSystem,
    ValidationChoice,
    disputed_structures,
    draw_structures,
    elements_of,
    plan_batch,
    select_systems,
    systems_as_json,
    unsure_structures,
)
from xtalfill.dft.protocols import Protocol
from xtalfill.dft.pseudos import Pseudo, UpfHeader, check_files, functionals, library_of
from xtalfill.dft.theory import LevelOfTheory


@dataclass(frozen=True, kw_only=True)
class PlanDftSettings:
    """The parameters of the stage PLAN_DFT.

    Attributes:
        choice: What to send.
        spin: Whether the calculations are spin-polarised.
    """

    choice: ValidationChoice
    spin: bool


@dataclass(frozen=True)
class Plan:
    """The validation of a run.

    Attributes:
        planned: The selected systems.
        jobs: Jobs of the systems that can run.
        parameters: Selection and level of theory, as plain JSON values.
        doubtful: Ids of the structures that come first.
    """

    planned: list[PlannedSystem]
    jobs: list[PwJob]
    parameters: dict[str, Any]
    doubtful: frozenset[str] = frozenset()

    def content(self, model: CostModel) -> dict[str, Any]:
        """Return the content of plan.json."""
        systems = [job.system for job in self.jobs]
        doubtful = {one.key for one in self.planned if one.id in self.doubtful}
        return {
            "parameters": self.parameters,
            "estimate": cost_summary(model, systems),
            "jobs": job_requirements(model, systems),
            "first": [one.key for one in systems if one.key in doubtful],
            "systems": systems_as_json(self.planned, self.jobs),
        }

    def pseudos(self) -> dict[str, str]:
        """Return the pseudopotentials in use: file -> checksum."""
        used = {one for job in self.jobs for one in job.system.pseudos.values()}
        return {one.filename: f"md5:{one.md5}" for one in used}


def plan_run(
    batches: Mapping[str, Batch],
    choice: ValidationChoice,
    *,
    protocol: Protocol,
    table: dict[str, Pseudo],
    pseudo_dir: Path,
    spin: bool,
) -> Plan:
    """Plan the jobs of a run.

    Args:
        batches: Name -> batch after SELECT.
        choice: Which systems to validate.
        protocol: Numerical accuracy.
        table: The pseudopotentials.
        pseudo_dir: Folder with the pseudopotential files.
        spin: Whether the calculations are spin-polarised.

    Raises:
        ConfigError: A pseudopotential is missing or differs from the table.
        InputError: A batch has not passed SELECT.
    """
    doubtful = frozenset(
        name
        for batch in batches.values()
        for name in disputed_structures(batch) | unsure_structures(batch)
    )
    structures = draw_structures(
        [name for batch in batches.values() for name in batch.groups()], choice, first=doubtful
    )
    symbols = {
        symbol
        for batch in batches.values()
        for name in structures & set(batch.groups())
        for symbol in elements_of(batch, [i for i, _ in select_systems(batch, name, choice)])
    }
    headers = check_files(table, pseudo_dir, symbols)
    level = LevelOfTheory(
        protocol=protocol,
        table=table,
        valence={name: one.valence for name, one in headers.items()},
        degauss=protocol.degauss,
        smearing=protocol.smearing,
        spin=spin,
    )
    planned: list[PlannedSystem] = []
    jobs: list[PwJob] = []
    for name in sorted(batches):
        chosen, runnable = plan_batch(batches[name], name, structures, choice, level)
        planned += chosen
        jobs += runnable
    return Plan(planned, jobs, _parameters(level, headers, choice), doubtful)


def _parameters(
    level: LevelOfTheory, headers: Mapping[str, UpfHeader], choice: ValidationChoice
) -> dict[str, Any]:
    """Return selection and level of theory as plain JSON values."""
    return {
        "protocol": asdict(level.protocol),
        "library": library_of(level.table),
        "functional": functionals(headers),
        "pseudopotentials": {name: asdict(level.table[name]) for name in sorted(level.valence)},
        "spin": level.spin,
        **asdict(choice),
    }
