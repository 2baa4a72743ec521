"""Energies of known phases by the potential of a run: the table of `--competing_phases`.

Of each composition the structure of lowest energy as given is relaxed, its positions alone: the
cell of a published crystal is relaxed already, and that of a run is fixed, too.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols
from ase.formula import Formula

from xtalfill.checks.phases import CompetingPhases
from xtalfill.core.crystal import Crystal
from xtalfill.core.errors import InputError
from xtalfill.core.io import write_csv
from xtalfill.core.text import one_line
from xtalfill.inputs.hosts import check_geometry
from xtalfill.inputs.structures import Entry, stream_structures
from xtalfill.interactive.settings import make_all_settings
from xtalfill.relax.batched import BatchedRelaxer, Relaxation
from xtalfill.relax.counting import HYDROGEN, hydrogen_potential
from xtalfill.relax.potentials import load_potential
from xtalfill.relax.settings import RelaxSettings
from xtalfill.relax.stage import make_driver
from xtalfill.results.columns import column

_TOGETHER = 200  # structures in memory beside the lowest of each composition
_ON_HULL = 1e-6  # eV/atom
_H2_STEPS = 200


@dataclass(frozen=True)
class PhaseRow:
    """A row of the table."""

    composition: str = column(meaning="composition, reduced")
    energy_per_atom: float = column(meaning="energy of the lowest structure, relaxed", unit="eV")
    potential: str = column(meaning="potential that gave it")
    id: str = column(meaning="id of that structure")


@dataclass(frozen=True)
class _Phase:
    """A structure of a composition, and its energy."""

    id: str
    crystal: Crystal
    energy: float


@dataclass(frozen=True)
class PhaseTable:
    """What became of the structures.

    Attributes:
        rows: The table.
        n_structures: Structures that were read.
        refused: Message of each that could not be used.
        n_above: Compositions left out because they lie above the hull of the others.
    """

    rows: list[PhaseRow]
    n_structures: int
    refused: list[str]
    n_above: int


def phase_table(
    source: str | Path,
    *,
    mlip: str,
    potential_dir: Path | None = None,
    max_steps: int | None = None,
    most_elements: int | None = None,
    stable: bool = False,
) -> PhaseTable:
    """Return the table of competing phases for structures of an input.

    Args:
        source: As `stream_structures` takes it.
        mlip: The potential that ranks in the run.
        potential_dir: Folder of published models.
        max_steps: Of a relaxation; None takes that of the pipeline, 0 does not relax.
        most_elements: Leave out structures of more elements, such as those to fill.
        stable: Leave out what lies above the hull of the others; hulls stay the same.

    Raises:
        ConfigError: The potential cannot be used.
        InputError: The input cannot be read as a whole, or no structure can be used.
    """
    given = {"mlip": mlip, "mlip_rank": "none", "max_steps": max_steps}
    if potential_dir is not None:
        given["potential_dir"] = str(potential_dir)
    settings = make_all_settings(given).relax
    potential = load_potential(settings.mlip, device=settings.device)
    driver = make_driver(potential, settings.relaxation)
    found = _Found(potential.elements, most_elements)
    found.read(source, driver)
    if not found.lowest:
        reason = found.refused[0] if found.refused else "it has none"
        raise InputError(f"{source}: no structure can be used as a phase ({reason})")
    energies = _relaxed(list(found.lowest.values()), driver, settings.relaxation)
    rows = [
        PhaseRow(composition, round(energy, 6), mlip, phase.id)
        for (composition, phase), energy in zip(found.lowest.items(), energies, strict=True)
    ]
    if "H" not in found.lowest and HYDROGEN in potential.elements:
        energy = hydrogen_potential(driver, fmax=settings.relaxation.fmax, max_steps=_H2_STEPS)
        rows.append(PhaseRow("H", round(energy, 6), mlip, "H2 molecule"))
    kept = _on_hull(rows) if stable else rows
    kept.sort(key=lambda row: (len(Formula(row.composition).count()), row.composition))
    return PhaseTable(kept, found.n_read, found.refused, len(rows) - len(kept))


def write_phases(path: Path, table: PhaseTable) -> None:
    """Write the table as CSV, as `--competing_phases` takes it."""
    write_csv(path, PhaseRow, table.rows)


def reduced_composition(atoms: Atoms) -> str:
    """Return the composition of a cell in its smallest numbers, such as H2MgO2."""
    return str(Formula.from_list(sorted(atoms.symbols)).reduce()[0].format("hill"))


class _Found:
    """The lowest structure as given of each composition, and what was refused.

    Args:
        known: Elements of the potential.
        most_elements: In a structure; None for any number.
    """

    def __init__(self, known: frozenset[int], most_elements: int | None) -> None:
        self.lowest: dict[str, _Phase] = {}
        self.refused: list[str] = []
        self.n_read = 0
        self._known, self._most = known, most_elements

    def read(self, source: str | Path, driver: BatchedRelaxer) -> None:
        """Read an input in parts, each of which is evaluated together."""
        streamed = (one.entry for one in stream_structures(source))
        while entries := list(itertools.islice(streamed, _TOGETHER)):
            self.n_read += len(entries)
            self.add(
                [(name, atoms) for entry in entries for name, atoms in self._usable(entry)], driver
            )

    def add(self, structures: list[tuple[str, Atoms]], driver: BatchedRelaxer) -> None:
        """Evaluate structures as given and keep the lowest ones."""
        crystals = [Crystal(one.numbers, one.positions, one.cell.array) for _, one in structures]
        jobs = [Relaxation(crystal, _free(crystal)) for crystal in crystals]
        results = driver.relax(jobs, fmax=np.inf, max_steps=0)
        for (name, atoms), job, result in zip(structures, jobs, results, strict=True):
            if result.evaluation is None:
                self.refused.append(f"{name}: {result.error}")
                continue
            composition = reduced_composition(atoms)
            energy = float(result.evaluation.energy) / len(atoms)
            if composition not in self.lowest or energy < self.lowest[composition].energy:
                self.lowest[composition] = _Phase(name, job.crystal, energy)

    def _usable(self, entry: Entry) -> Iterator[tuple[str, Atoms]]:
        """Yield id and atoms of an entry that can be computed, else tell why not."""
        name, atoms = entry.id or entry.fallback_id, entry.atoms
        try:
            if atoms is None or not len(atoms):
                raise InputError(entry.error or "holds no atoms")
            if self._most is not None and len(set(atoms.numbers.tolist())) > self._most:
                return
            check_geometry(atoms)
            if unknown := sorted({*atoms.numbers.tolist()} - self._known):
                symbols = ", ".join(chemical_symbols[number] for number in unknown)
                raise InputError(f"the potential does not know {symbols}")
        except InputError as error:
            self.refused.append(f"{name}: {one_line(str(error), limit=200)}")
        else:
            yield name, atoms


def _relaxed(phases: list[_Phase], driver: BatchedRelaxer, settings: RelaxSettings) -> list[float]:
    """Return energies per atom after the relaxation of positions; that as given if it fails."""
    if settings.max_steps == 0:
        return [phase.energy for phase in phases]
    jobs = [Relaxation(phase.crystal, _free(phase.crystal)) for phase in phases]
    results = driver.relax(jobs, fmax=settings.fmax, max_steps=settings.max_steps)
    return [
        phase.energy
        if result.evaluation is None
        else float(result.evaluation.energy) / len(phase.crystal.numbers)
        for phase, result in zip(phases, results, strict=True)
    ]


def _free(crystal: Crystal) -> np.ndarray:
    return np.ones(len(crystal.numbers), dtype=bool)


def _on_hull(rows: list[PhaseRow]) -> list[PhaseRow]:
    """Return the phases on the hull; one whose elements are not all there is kept."""
    phases = CompetingPhases([(row.composition, row.energy_per_atom) for row in rows])
    kept = []
    for row in rows:
        numbers = Atoms(row.composition).numbers
        above = phases.above(numbers, row.energy_per_atom * len(numbers))[0]
        if not above > _ON_HULL:  # NaN: no hull
            kept.append(row)
    return kept
