"""Competing phases: would a crystal with so many filled sites decompose?

The user gives the phases with their energies by the potential of the run. The energy above their
convex hull (pymatgen's PhaseDiagram; Ong et al., Chem. Mater. 20, 1798 (2008)) is evidence beside
the numbers of missing sites that `--n_missing auto` compares. It does not enter their probability.
"""

from __future__ import annotations

import csv
import re
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from ase.data import atomic_numbers, chemical_symbols
from ase.formula import Formula

from xtalfill.core.batch import Batch, Stage
from xtalfill.core.counts import ENERGIES, counted_groups
from xtalfill.core.errors import InputError
from xtalfill.core.record import file_sha256
from xtalfill.core.relaxations import RANK, final_stage
from xtalfill.core.text import one_line
from xtalfill.registry.potentials import POTENTIALS

if TYPE_CHECKING:
    from pymatgen.analysis.phase_diagram import PDEntry, PhaseDiagram

STAGE = "competing_phases"
COLUMNS = ("composition", "energy_per_atom")
_MOST_BYTES, _MOST_ROWS = 10_000_000, 100_000
_MOST_ENERGY = 1000.0  # eV per atom
_COMPOSITION = re.compile(r"([A-Z][a-z]?[0-9]{0,4}|[()][0-9]{0,4}){1,60}")


class CompetingPhases:
    """Phases with their energies, and the convex hull of each set of elements."""

    def __init__(self, phases: Sequence[tuple[str, float]]) -> None:
        """Take the phases: (composition, energy in eV per atom)."""
        from pymatgen.analysis.phase_diagram import PDEntry
        from pymatgen.core import Composition

        self._entries: list[PDEntry] = [
            PDEntry(composition, energy * composition.num_atoms, name=formula)
            for formula, energy in phases
            for composition in [Composition(formula)]
        ]
        self._hulls: dict[frozenset[str], PhaseDiagram | None] = {}

    def above(self, numbers: np.ndarray, energy: float) -> tuple[float, str]:
        """Return the energy of a crystal above the hull, and the phases that it competes with.

        Args:
            numbers: (n,) atomic numbers of the cell.
            energy: Of the cell, eV.

        Returns:
            eV per atom, negative below the hull, and text such as "MgO + H2O"; NaN and no text
            where an element has no phase of its own in the table, or the energy is NaN.
        """
        from pymatgen.core import Composition

        symbols = [chemical_symbols[number] for number in numbers]
        hull = self._hull(frozenset(symbols))
        if hull is None or not np.isfinite(energy):
            return float("nan"), ""
        composition = Composition({symbol: symbols.count(symbol) for symbol in set(symbols)})
        # From the most atoms to the least; the tiny amounts are rounding.
        parts = sorted(hull.get_decomposition(composition).items(), key=lambda one: -one[1])
        names = [entry.name for entry, amount in parts if amount > 1e-6]
        limit = float(hull.get_hull_energy(composition))
        return (energy - limit) / len(numbers), " + ".join(names)

    def _hull(self, elements: frozenset[str]) -> PhaseDiagram | None:
        """Return the hull of some elements; None where one of them has no phase of its own."""
        from pymatgen.analysis.phase_diagram import PhaseDiagram

        if elements not in self._hulls:
            entries = [one for one in self._entries if _symbols(one) <= elements]
            alone = {
                symbol for one in entries if len(_symbols(one)) == 1 for symbol in _symbols(one)
            }
            with warnings.catch_warnings():  # noble gases have no electronegativity
                warnings.simplefilter("ignore", UserWarning)
                hull = PhaseDiagram(entries) if alone == elements else None
            self._hulls[elements] = hull
        return self._hulls[elements]


def _symbols(entry: PDEntry) -> set[str]:
    return {element.symbol for element in entry.composition.elements}


def read_phases(path: Path, *, potential: str | None = None) -> CompetingPhases:
    """Read a table of competing phases.

    Args:
        path: CSV with the columns `composition` (such as Mg(OH)2) and `energy_per_atom`, eV. A
            column `potential`, as `xtalfill phases` writes it, may name where they are from.
        potential: The potential that ranks in the run; None does not compare it.

    Raises:
        InputError: It is no such table, or its energies are by another potential.
    """
    if path.stat().st_size > _MOST_BYTES:
        raise InputError(f"{path}: larger than {_MOST_BYTES:,} bytes; leave out what competes not")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 text; save it as 'CSV UTF-8'") from error
    phases = list(_rows(text, path.name, potential))
    if not phases:
        raise InputError(f"{path}: has no row; give a row for each competing phase")
    return CompetingPhases(phases)


def _rows(text: str, name: str, potential: str | None) -> Iterator[tuple[str, float]]:
    reader = csv.DictReader(text.splitlines())
    if missing := [one for one in COLUMNS if one not in (reader.fieldnames or ())]:
        raise InputError(f"{name}: has no column {missing[0]!r}; give {' and '.join(COLUMNS)}")
    for number, row in enumerate(reader, start=1):
        where = f"{name} line {reader.line_num}"
        if number > _MOST_ROWS:
            raise InputError(f"{name}: more than {_MOST_ROWS:,} rows; leave out what competes not")
        formula = (row["composition"] or "").strip()
        if not _is_composition(formula):
            shown = one_line(formula, limit=40)
            raise InputError(f"{where}: {shown!r} is no composition; write it as Mg(OH)2")
        try:
            energy = float(row["energy_per_atom"] or "")
        except ValueError:
            energy = float("nan")
        if not abs(energy) <= _MOST_ENERGY:
            raise InputError(f"{where} ({formula}): energy_per_atom is no energy; give eV per atom")
        by = (row.get("potential") or "").strip()
        if by in POTENTIALS and potential in POTENTIALS and by != potential:
            raise InputError(
                f"{where} ({formula}): the energy is by {by}, the run ranks by {potential}; make "
                "the table with `xtalfill phases`"
            )
        yield formula, energy


def _is_composition(text: str) -> bool:
    """Return whether a text is a formula of known elements without nested brackets."""
    if not _COMPOSITION.fullmatch(text) or re.search(r"\([^)]*\(", text):
        return False
    try:
        counts = Formula(text).count()
    except ValueError:
        return False
    return bool(counts) and all(
        symbol in atomic_numbers and number > 0 for symbol, number in counts.items()
    )


def phases_stage(batch: Batch, table: Path) -> Stage | None:
    """Return the energies above the hull where numbers of missing sites are compared.

    The energy of a number is that of its best candidate after the last relaxation; that of 0 is
    the host as given, which a second potential (`--mlip_rank`) has not evaluated.

    Args:
        batch: A batch after SELECT.
        table: As `read_phases` takes it.

    Returns:
        Arrays (n_systems,), those of all candidates of a number alike: `above_hull` and
        `above_hull_none` (nothing is missing), eV per atom or NaN, `phases` and `phases_none`.
        None where no numbers are compared.

    Raises:
        InputError: The table cannot be used.
    """
    groups = counted_groups(batch.id)
    if ENERGIES not in batch.stages or not groups:
        return None
    phases = read_phases(table)
    relaxed = final_stage(batch)
    above = {name: np.full(batch.n_systems, np.nan) for name in ("", "_none")}
    names = {name: np.full(batch.n_systems, "", dtype=object) for name in ("", "_none")}
    alone = batch.stages[ENERGIES].arrays["host_energy"]
    best = batch.stages["select"].arrays["best_of_all"]
    for members in groups.values():
        here = batch.atoms_slice(members[0])
        host = batch.atomic_numbers[here][batch.is_host[here]]
        energy = float("nan") if relaxed == RANK else float(alone[members[0]])
        above["_none"][members], names["_none"][members] = phases.above(host, energy)
        for index in (one for one in members if best[one]):
            same = [one for one in members if batch.id[one] == batch.id[index]]
            numbers = batch.atomic_numbers[batch.atoms_slice(index)]
            energy = float(batch.stages[relaxed].arrays["energy"][index])
            above[""][same], names[""][same] = phases.above(numbers, energy)
    arrays = {f"above_hull{name}": values for name, values in above.items()}
    arrays |= {f"phases{name}": values for name, values in names.items()}
    return Stage(arrays, {"table": table.name, "sha256": file_sha256(table)})
