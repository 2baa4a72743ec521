"""RELAX for a batch: relax_sites, relax_positions, and optionally relax_rank.

relax_sites moves only the filled sites; host positions stay bit-identical. relax_positions moves
all atoms. relax_rank continues with a second, more accurate potential, whose energies rank the
candidates; of candidates in the same minimum of the first potential it relaxes only one. The cell
is fixed in all steps. References are relaxed in the same steps, so that their energies are
comparable.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TextIO

import numpy as np
from ase.data import chemical_symbols

from xtalfill.core.batch import Batch, Stage
from xtalfill.core.checkpoint import Checkpoint
from xtalfill.core.crystal import Crystal, crystal_of
from xtalfill.core.errors import InputError
from xtalfill.core.record import package_versions
from xtalfill.core.relaxations import ENERGY_WINDOW, POSITIONS, RANK, SITES
from xtalfill.relax.batched import BatchedRelaxer, Relaxation, RelaxationResult
from xtalfill.relax.counting import add_count_energies
from xtalfill.relax.deduplicate import (
    MERGE_DISTANCE,
    Duplicate,
    active_systems,
    drop_high_energy,
    find_duplicates,
)
from xtalfill.relax.interface import Evaluation, Potential
from xtalfill.relax.optimizers import TITLES
from xtalfill.relax.plausibility import host_shift, implausibility, note
from xtalfill.relax.progress import Progress
from xtalfill.relax.relax_checkpoint import RelaxCheckpoint
from xtalfill.relax.rounds import add_rounds
from xtalfill.relax.settings import RelaxSettings
from xtalfill.relax.stopping import relax_in_waves


@dataclass(frozen=True)
class _Step:
    """One relaxation, starting from the results of stage `previous`.

    Candidates more than `above` (eV per atom) above the lowest of `previous` are dropped first. Of
    those that it brought to the same minimum, `merge` relaxes only one.
    """

    name: str
    previous: str
    potential: Potential
    driver: BatchedRelaxer
    fmax: float
    max_steps: int
    merge: bool = False
    above: float | None = None


def relax_batch(
    batch: Batch,
    potential: Potential,
    settings: RelaxSettings,
    *,
    ranking: Potential | None = None,
    device: str = "cpu",
    checkpoint: Checkpoint | None = None,
    progress: TextIO = sys.stderr,
    progress_seconds: float = 30.0,
) -> None:
    """Add a stage for each relaxation to `batch` and set the status of its systems.

    Args:
        batch: Batch with the stage "inpaint".
        potential: Potential for relax_sites and relax_positions.
        settings: Settings of the relaxations.
        ranking: Potential for relax_rank; None to skip that step.
        device: Device of the potentials, for the record.
        checkpoint: Stores partial results for another attempt; None to store nothing.
        progress: Receives progress lines.
        progress_seconds: Minimum time between two lines, s.

    Raises:
        InputError: The batch has no stage "inpaint".
    """
    fail_unsupported(batch, potential)
    if ranking is not None:
        fail_unsupported(batch, ranking, stage=RANK)
    steps = _steps(potential, ranking, settings)
    saved = None if checkpoint is None else RelaxCheckpoint(checkpoint)
    task = _Task(settings, device, saved, progress, progress_seconds)

    def relax_wave(some: Batch, number: int = 0) -> None:
        for step in steps[:2]:
            task.run(some, step, f"{step.name}, wave {number}" if number else step.name)

    def relax_round(new: Batch, number: int) -> None:
        for step in steps[:2]:
            task.run(new, replace(step, merge=False, above=None), f"{step.name}, round {number}")

    if settings.stop_below is None:
        relax_wave(batch)
    else:
        relax_in_waves(batch, relax_wave, below=settings.stop_below)
    if settings.rounds:
        add_rounds(batch, relax_round, rounds=settings.rounds)
    if ranking is not None:
        task.run(batch, steps[-1], RANK)
    _judge_convergence(batch, steps[-1])
    add_count_energies(
        batch,
        steps[0].driver,
        mu=settings.mu,
        fmax=settings.fmax,
        max_steps=settings.max_steps,
    )


@dataclass(frozen=True)
class _Task:
    """What the relaxations of a task share."""

    settings: RelaxSettings
    device: str
    saved: RelaxCheckpoint | None
    progress: TextIO
    seconds: float

    def run(self, batch: Batch, step: _Step, key: str) -> None:
        """Add the stage of a step to a batch; `key` names it in lines and in the checkpoint."""
        if step.above is not None:
            drop_high_energy(batch, step.previous, above=step.above)
        merged = find_duplicates(batch, step.previous) if step.merge else {}
        systems = [i for i in active_systems(batch, range(batch.n_systems)) if i not in merged]
        found = self._relax(batch, step, systems, key)
        for index, one in merged.items():
            found[index] = one.copy_result(found[one.into], sample=batch.sample[one.into])
        _add_stage(batch, step.name, found, _provenance(step, self.settings, self.device))
        if step.merge:
            batch.stages[step.name].arrays["merged_with"] = _merged_with(batch, merged)

    def _relax(
        self, batch: Batch, step: _Step, systems: Sequence[int], key: str
    ) -> dict[int, RelaxationResult]:
        """Relax some systems in a step, each as if it were alone."""
        report = Progress(key, len(systems), file=self.progress, seconds=self.seconds)
        jobs = [relaxation_of(batch, index, step.name, step.previous) for index in systems]
        results = step.driver.relax(
            jobs,
            fmax=step.fmax,
            max_steps=step.max_steps,
            on_done=report.count,
            states=None if self.saved is None else self.saved.states(key),
            on_round=None if self.saved is None else partial(self.saved.note, key),
        )
        if self.saved is not None:
            self.saved.end(key, results)
        return dict(zip(systems, results, strict=True))


def _steps(potential: Potential, ranking: Potential | None, settings: RelaxSettings) -> list[_Step]:
    """Return the relaxations in order of execution."""
    driver = make_driver(potential, settings)
    full = (settings.fmax, settings.max_steps)
    first = (settings.sites_fmax, settings.sites_max_steps)
    steps = [
        _Step(SITES, "inpaint", potential, driver, *first),
        _Step(POSITIONS, SITES, potential, driver, *full, settings.merge, settings.drop_above),
    ]
    if ranking is not None:
        again = make_driver(ranking, settings)
        steps.append(_Step(RANK, POSITIONS, ranking, again, *full, merge=True))
    return steps


def _merged_with(batch: Batch, merged: Mapping[int, Duplicate]) -> np.ndarray:
    """Return the sample whose result was copied to each system, (n_systems,); -1 for none."""
    sample = np.full(batch.n_systems, -1, dtype=np.int32)
    for index, one in merged.items():
        sample[index] = batch.sample[one.into]
    return sample


def _provenance(step: _Step, settings: RelaxSettings, device: str) -> dict[str, Any]:
    """Return the parameters of a step as plain JSON."""
    spared: dict[str, Any] = {}
    if step.above is not None:
        spared["drop_above"] = step.above
    if settings.stop_below is not None and step.name != RANK:
        spared["stop_below"] = settings.stop_below
    if settings.rounds and step.name == POSITIONS:
        spared["rounds"] = settings.rounds
    if step.merge:
        spared["merge"] = {"distance": MERGE_DISTANCE, "energy_per_atom": ENERGY_WINDOW}
    return {
        "mlip": step.potential.name,
        "weights": dict(step.potential.weights),
        "versions": package_versions(step.potential.packages),
        "optimizer": TITLES[settings.optimizer],
        "device": device,
        "max_atoms_per_batch": settings.max_atoms_per_batch,
        "fmax": step.fmax,
        "max_steps": step.max_steps,
        **spared,
    }


def make_driver(potential: Potential, settings: RelaxSettings) -> BatchedRelaxer:
    """Return the batched relaxation for a potential."""
    return BatchedRelaxer(
        potential,
        max_atoms=settings.max_atoms_per_batch,
        threads=settings.threads,
        optimizer=settings.optimizer,
    )


def fail_unsupported(batch: Batch, potential: Potential, *, stage: str = SITES) -> None:
    """Fail systems with unsupported elements or non-finite positions.

    Args:
        batch: Batch with the stage "inpaint".
        potential: Potential that will evaluate the batch.
        stage: Name of the stage for the message.

    Raises:
        InputError: The batch has no stage "inpaint".
    """
    if "inpaint" not in batch.stages:
        raise InputError("the batch has no stage 'inpaint'; run INPAINT on it first")
    positions = batch.stages["inpaint"].arrays["positions"]
    for index in active_systems(batch, range(batch.n_systems)):
        here = batch.atoms_slice(index)
        unknown = sorted(set(batch.atomic_numbers[here].tolist()) - potential.elements)
        if unknown:
            symbols = ", ".join(chemical_symbols[number] for number in unknown)
            batch.fail(index, f"{stage}: {potential.name} does not support {symbols}")
        elif not np.isfinite(positions[here]).all():
            batch.fail(index, f"{stage}: the proposed positions are not finite")


def relaxation_of(batch: Batch, index: int, name: str, previous: str) -> Relaxation:
    """Return the relaxation of a system in stage `name`, starting from stage `previous`."""
    here = batch.atoms_slice(index)
    arrays = batch.stages[previous].arrays
    crystal = crystal_of(batch, index, previous)
    if name == SITES:
        return Relaxation(crystal, ~batch.is_host[here])
    # relax_rank uses another potential: the previous energy and forces do not apply.
    known = Evaluation(float(arrays["energy"][index]), arrays["forces"][here])
    start = known if name == POSITIONS else None
    return Relaxation(crystal, np.ones(len(crystal.numbers), dtype=bool), start)


def _add_stage(
    batch: Batch, name: str, results: dict[int, RelaxationResult], attrs: dict[str, Any]
) -> None:
    """Add the results of a step to the batch; skipped systems have NaN positions."""
    n_atoms, n_systems = batch.n_atoms, batch.n_systems
    arrays = {
        "positions": np.full((n_atoms, 3), np.nan),
        "energy": np.full(n_systems, np.nan),
        "forces": np.full((n_atoms, 3), np.nan),
        "fmax": np.full(n_systems, np.nan),
        "n_steps": np.zeros(n_systems, dtype=np.int32),
        "converged": np.zeros(n_systems, dtype=np.bool_),
    }
    if name != SITES:
        arrays["host_shift"] = np.full(n_systems, np.nan)
        arrays["note"] = np.full(n_systems, "", dtype=object)
    for index, result in results.items():
        if result.evaluation is None:
            batch.fail(index, f"{name}: {result.error}")
            continue
        here = batch.atoms_slice(index)
        arrays["positions"][here] = result.positions
        arrays["energy"][index] = result.evaluation.energy
        arrays["forces"][here] = result.evaluation.forces
        arrays["fmax"][index] = result.fmax
        arrays["n_steps"][index] = result.n_steps
        arrays["converged"][index] = result.converged
        if name != SITES:
            _judge_crystal(batch, index, name, result, arrays)
    batch.stages[name] = Stage(arrays, attrs)


def _judge_crystal(
    batch: Batch, index: int, name: str, result: RelaxationResult, arrays: dict[str, np.ndarray]
) -> None:
    """Fail a system if its crystal is not physical, else note what is unusual."""
    if result.evaluation is None:
        return
    here = batch.atoms_slice(index)
    is_host, energy = batch.is_host[here], result.evaluation.energy
    crystal = Crystal(batch.atomic_numbers[here], result.positions, batch.cell[index])
    shift = host_shift(batch.positions[here][is_host], result.positions[is_host])
    arrays["host_shift"][index] = shift
    if reason := implausibility(crystal, ~is_host, energy):
        batch.fail(index, f"{name}: {reason}")
    else:
        arrays["note"][index] = note(len(crystal.numbers), energy, shift)


def _judge_convergence(batch: Batch, step: _Step) -> None:
    """Set the status of systems that did not converge in the last step."""
    arrays = batch.stages[step.name].arrays
    for index in active_systems(batch, np.flatnonzero(~arrays["converged"]).tolist()):
        batch.status[index] = "unconverged"
        batch.message[index] = (
            f"{step.name}: not converged in {step.max_steps} steps, "
            f"fmax {arrays['fmax'][index]:.2g} eV/Å"
        )
