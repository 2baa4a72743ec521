"""PLAN_DFT: select the systems to validate, exclude what cannot run, prepare one job per crystal.

For each structure and method the selected candidate is validated. The next distinct minima are
added if they lie within `window` of it, up to `candidates` in all. The reference is added, too. If
two methods found the same crystal, it is calculated once.

Doubtful structures come first: in the choice of `max_structures`, and in the order of the jobs.
They are those for which --mlip and --mlip_rank have different lowest minima, and those with at most
half of the candidates in the lowest minimum. Of the former the lowest minimum of --mlip is second,
even above `window`, so that DFT decides.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from ase import Atoms

from xtalfill.core.batch import Batch
from xtalfill.core.counts import less_likely
from xtalfill.core.errors import ConfigError, InputError
from xtalfill.core.matching import matcher_of
from xtalfill.core.relaxations import ENERGY_WINDOW, POSITIONS, final_stage, ranking_agrees
from xtalfill.core.settings import parameter
from xtalfill.dft.checks import refusal_reason, unknown_elements
from xtalfill.dft.job import SHIFTS, PwJob
from xtalfill.dft.symmetry import SITE_TOLERANCE, standard_setting, symmetrise
from xtalfill.dft.theory import LevelOfTheory


@dataclass(frozen=True)
class ValidationChoice:
    """Which systems to validate.

    Attributes:
        window: Minima up to this energy above the lowest one are included, in eV per atom.
        candidates: Maximum number of candidates per structure and method.
        max_structures: Maximum number of structures in the run; None for all.
        max_electrons: Maximum number of valence electrons per cell.
        seed: Seed of the random choice of structures if `max_structures` is set.
    """

    window: float = field(metadata=parameter("validate_window"))
    candidates: int = field(metadata=parameter("validate_candidates"))
    max_structures: int | None = field(metadata=parameter("max_validate"))
    max_electrons: int
    seed: int

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            ConfigError: A number is below its minimum.
        """
        least = {"window": 0, "candidates": 1, "max_electrons": 1}
        for name, value in least.items():
            if not getattr(self, name) >= value:
                raise ConfigError(f"{name} is {getattr(self, name)}; it must be at least {value}")


@dataclass(frozen=True)
class PlannedSystem:
    """A selected system.

    Attributes:
        batch: Name of its batch.
        system: Index of the system in the batch.
        id: Id of its structure.
        method: Proposal method, or "reference".
        sample: Sample number of the candidate.
        calculation: System whose calculation is used: this one, or an identical one.
        refused: Why the system cannot be calculated; empty if it can.
    """

    batch: str
    system: int
    id: str
    method: str
    sample: int
    calculation: int
    refused: str = ""

    @property
    def key(self) -> str:
        """Return the key of its job."""
        return f"{self.batch}.{self.calculation}"


def draw_structures(
    ids: Sequence[str], choice: ValidationChoice, *, first: Set[str] = frozenset()
) -> set[str]:
    """Return the structures to validate: all, or a random sample.

    The sample follows the order of a digest of seed and id. The rank of a structure among those
    that come first, or among the others, does not depend on the other structures.

    Args:
        ids: Ids of all structures.
        choice: How many to validate.
        first: Ids of the structures that come before the others.
    """

    def place(name: str) -> tuple[bool, str]:
        digest = hashlib.sha256(f"{choice.seed}|{name}".encode()).hexdigest()
        return name not in first, digest

    return set(sorted(set(ids), key=place)[: choice.max_structures])


def disputed_structures(batch: Batch) -> set[str]:
    """Return the ids of the structures for which two potentials have different lowest minima."""
    groups = batch.groups().items()
    return {
        name for name, members in groups if any(ranking_agrees(batch, i) is False for i in members)
    }


def unsure_structures(batch: Batch) -> set[str]:
    """Return the ids of the structures whose lowest minimum few candidates share.

    These are at most half of the converged candidates of the method that found it. Then the odds of
    the true crystal are at most 70 % (docs/benchmarks/confidence.md).
    """
    select, found = batch.stages["select"].arrays, set()
    for members in batch.groups_by_method():
        converged = [i for i in members if batch.status[i] == "ok"]
        lowest = sum(select["minimum"][i] == 0 for i in converged)
        if select["best_of_all"][members].any() and 0 < 2 * lowest <= len(converged):
            found.add(str(batch.id[members[0]]))
    return found


def elements_of(batch: Batch, systems: Sequence[int]) -> set[str]:
    """Return the symbols of the elements in some systems."""
    return {symbol for index in systems for symbol in batch.to_ase(index).get_chemical_symbols()}


def select_systems(
    batch: Batch, structure_id: str, choice: ValidationChoice
) -> list[tuple[int, int]]:
    """Return the systems of a structure to validate, each with the system calculated for it.

    Args:
        batch: A batch after SELECT.
        structure_id: Id of the structure.
        choice: Which systems to validate.

    Raises:
        InputError: The batch has not passed SELECT.
    """
    if "select" not in batch.stages:
        raise InputError("the batch has no stage 'select'; run SELECT on it first")
    relaxed = final_stage(batch)
    chosen: list[tuple[int, int]] = []
    same = matcher_of(lambda index: batch.to_ase(index, stage=relaxed))
    for members in batch.groups_by_method():
        if batch.id[members[0]] == structure_id:
            for index in _lowest_minima(batch, members, choice, relaxed):
                identical = _same_crystal(batch, index, [own for _, own in chosen], same)
                chosen.append((index, index if identical is None else identical))
    reference = batch.reference_of(structure_id)
    if chosen and reference is not None and _has_energy(batch, reference, relaxed):
        chosen.append((reference, reference))
    return chosen


def _lowest_minima(
    batch: Batch, members: Sequence[int], choice: ValidationChoice, relaxed: str
) -> list[int]:
    """Return the lowest distinct minima of a structure and method within the energy window."""
    select, energy = batch.stages["select"].arrays, batch.stages[relaxed].arrays["energy"]
    ranked = sorted((i for i in members if select["rank"][i] >= 0), key=lambda i: select["rank"][i])
    usual = [i for i in ranked if batch.status[i] == batch.status[ranked[0]]]
    differs = ranking_agrees(batch, members[0]) is False
    first = select["minimum"][_lowest_by_first(batch, ranked)] if differs else None
    found: dict[int, int] = {}
    for index in usual:
        n_atoms = len(batch.atomic_numbers[batch.atoms_slice(index)])
        above = (energy[index] - energy[ranked[0]]) / n_atoms
        minimum = int(select["minimum"][index])
        if above <= choice.window or minimum == first:
            found.setdefault(minimum, index)
    # Stable: the best one, the lowest of the first potential, the others by energy.
    order = sorted(found, key=lambda minimum: (minimum != 0, minimum != first))
    return [found[minimum] for minimum in order][: choice.candidates]


def _lowest_by_first(batch: Batch, systems: Sequence[int]) -> int:
    """Return the system of lowest energy after relax_positions, converged ones first."""
    arrays = batch.stages[POSITIONS].arrays
    return min(systems, key=lambda i: (not arrays["converged"][i], arrays["energy"][i]))


def _same_crystal(
    batch: Batch, index: int, others: Sequence[int], same: Callable[[int, int], bool]
) -> int | None:
    """Return a candidate of another method that is the same crystal, or None."""
    energy = batch.stages[final_stage(batch)].arrays["energy"]
    n_atoms = len(batch.atomic_numbers[batch.atoms_slice(index)])
    for other in dict.fromkeys(others):
        apart = abs(energy[index] - energy[other]) / n_atoms
        alike = batch.method[other] != batch.method[index] and apart <= ENERGY_WINDOW
        if alike and same(other, index):
            return other
    return None


def _has_energy(batch: Batch, index: int, relaxed: str) -> bool:
    usable = batch.status[index] in ("ok", "unconverged")
    return bool(usable and np.isfinite(batch.stages[relaxed].arrays["energy"][index]))


def plan_batch(
    batch: Batch, name: str, structures: set[str], choice: ValidationChoice, level: LevelOfTheory
) -> tuple[list[PlannedSystem], list[PwJob]]:
    """Plan the jobs of a batch.

    Where numbers of missing sites are compared, only the likeliest is validated.

    Args:
        batch: A batch after SELECT.
        name: Name of the batch, e.g. "batch_0007".
        structures: Ids of the structures to validate.
        choice: Which systems to validate.
        level: The level of theory.

    Returns:
        The selected systems, and the jobs of those that can run.
    """
    planned, jobs = [], []
    wanted = structures - less_likely(batch)
    for structure_id in batch.groups():
        if structure_id not in wanted:
            continue
        reasons: dict[int, str] = {}
        for index, calculation in select_systems(batch, structure_id, choice):
            if index == calculation:
                job = _job(batch, index, name, level)
                reasons[index] = _refusal(job, choice)
                if isinstance(job, PwJob) and not reasons[index]:
                    jobs.append(job)
            one = (str(batch.method[index]), int(batch.sample[index]), calculation)
            planned.append(PlannedSystem(name, index, structure_id, *one, reasons[calculation]))
    return planned, jobs


def _refusal(job: PwJob | str, choice: ValidationChoice) -> str:
    """Return why a job cannot run; empty if it can."""
    if isinstance(job, PwJob):
        system, most = job.system, choice.max_electrons
        reason = refusal_reason(system.atoms, system.n_electrons, max_electrons=most)
    else:
        reason = job
    return f"dft: {reason}" if reason else ""


def _job(batch: Batch, index: int, name: str, level: LevelOfTheory) -> PwJob | str:
    """Return the job of a system, or the reason why there is none."""
    atoms = batch.to_ase(index, stage=final_stage(batch))
    symbols = atoms.get_chemical_symbols()
    if unknown := unknown_elements(symbols, level.valence):
        return unknown
    if not math.isfinite(float(np.abs(atoms.positions).max())):
        return "no relaxed positions"
    return prepare_job(
        atoms,
        batch.is_host[batch.atoms_slice(index)],
        level,
        name=str(batch.id[index]),
        key=f"{name}.{index}",
        free=np.ones(len(symbols), dtype=bool),
    )


def prepare_job(
    atoms: Atoms,
    is_host: np.ndarray,
    level: LevelOfTheory,
    *,
    name: str,
    key: str,
    free: np.ndarray,
) -> PwJob:
    """Return the job of a crystal, symmetrised and in the setting in which pw.x finds its symmetry.

    Args:
        atoms: The crystal; every element has a pseudopotential.
        is_host: (n_atoms,) bool; the other atoms are filled sites.
        level: The level of theory.
        name: Name of the structure.
        key: Key of the job.
        free: (n_atoms,) bool; the atoms that may move. If none may, the job is one SCF calculation.
    """
    protocol = level.protocol
    symmetric = symmetrise(
        atoms,
        is_host,
        tolerance=protocol.symmetry_tolerance,
        tolerance_filled=protocol.symmetry_tolerance_filled,
    )
    crystal = symmetric.atoms
    rotation, origin = standard_setting(crystal, tolerance=SITE_TOLERANCE)
    system = level.system(
        crystal,
        name=name,
        key=key,
        rotation=rotation,
        origin=origin,
        tolerance=SITE_TOLERANCE,
        free=free,
    )
    shifts = (symmetric.shift_host, symmetric.shift_filled)
    return PwJob(system, rotation, origin, symmetric.n_symmetry, *shifts)


def systems_as_json(
    planned: Sequence[PlannedSystem], jobs: Sequence[PwJob]
) -> list[dict[str, Any]]:
    """Return the systems of a plan as plain JSON."""
    by_key = {job.system.key: job for job in jobs}
    return [
        {
            "batch": one.batch,
            "system": one.system,
            "id": one.id,
            "method": one.method,
            "sample": one.sample,
            "calculation": one.calculation,
            "refused": one.refused,
            **{name: getattr(by_key.get(one.key), name, None) for name in SHIFTS},
        }
        for one in planned
    ]
