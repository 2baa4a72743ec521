"""The columns of results.csv: one row for each structure and method."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from xtalfill.results.candidates import CandidateRow
from xtalfill.results.columns import column, columns_of
from xtalfill.results.confidence import Confidence, confidence
from xtalfill.results.counts import CountRow
from xtalfill.results.sentence import sentence

_OF_CANDIDATE = {item.name: item for item in columns_of(CandidateRow)}


@dataclass(frozen=True, eq=False)
class StructureSource:
    """What the row of a structure and method is made from.

    Attributes:
        id: Name of the structure.
        method: Proposal method; empty where CHECK refused the structure, or found a duplicate.
        entry: Entry of the structure in check.json.
        candidates: Its candidates without the absent ones; none if it was refused or lost.
        failure: Why there are no candidates.
        stages: Name of a stage -> its parameters.
        count: Its number of missing sites, where numbers were compared.
    """

    id: str
    method: str
    entry: dict[str, Any]
    candidates: list[CandidateRow] = field(default_factory=list)
    failure: str = ""
    stages: dict[str, dict[str, Any]] = field(default_factory=dict)
    count: CountRow | None = None

    @property
    def duplicate_of(self) -> str:
        """The structure that was filled in its place; empty if there is none."""
        return str(self.entry.get("duplicate_of", ""))

    @property
    def status(self) -> str:
        """What became of the structure."""
        if self.selected:
            return self.selected.status
        return "duplicate" if self.duplicate_of else "failed"

    @cached_property
    def selected(self) -> CandidateRow | None:
        """The selected candidate, if there is one."""
        return next((row for row in self.candidates if row.selected), None)

    @property
    def first(self) -> CandidateRow | None:
        """The selected candidate, or else the first one; None if there are no candidates."""
        return self.selected or next(iter(self.candidates), None)

    @property
    def has_reference(self) -> bool:
        """Whether the structure is compared; one without candidates then counts as wrong."""
        return self.first.has_reference if self.first else bool(self.entry.get("reference"))

    @property
    def message(self) -> str:
        """What went wrong, in one line; empty if nothing did."""
        if not self.candidates:
            return self.failure
        if self.selected:
            return self.selected.message
        failed = (row for row in self.candidates if row.status == "failed")
        first = next(failed, self.candidates[0])
        return f"no usable candidate of {len(self.candidates)}; the first: {first.message}"

    @cached_property
    def ranked_by_dft(self) -> list[CandidateRow]:
        """The candidates with a DFT energy, lowest first."""
        ranked = [row for row in self.candidates if row.dft_rank is not None]
        return sorted(ranked, key=lambda row: row.dft_rank or 0)

    @property
    def dft_status(self) -> str:
        """Status of the lowest candidate by DFT, or of the first that was sent to pw.x."""
        sent = [row for row in self.candidates if row.dft_status]
        first = next(iter([*self.ranked_by_dft, *sent]), None)
        return first.dft_status if first else ""

    @property
    def sentence(self) -> str:
        """How the selected crystal was found; empty without one."""
        if self.selected is None:
            return ""
        return sentence(
            self.selected,
            self.candidates,
            self.stages,
            dft_agrees=self.dft_agrees,
            odds=self.confidence,
        )

    @cached_property
    def confidence(self) -> Confidence:
        """The odds of the selected candidate."""
        if self.selected is None:
            return Confidence(math.nan, math.nan, "")
        return confidence(self.selected, self.candidates, self.stages)

    @property
    def dft_agrees(self) -> bool | None:
        """Whether potential and DFT put the same candidate first; None for fewer than two."""
        return self.ranked_by_dft[0].selected if len(self.ranked_by_dft) > 1 else None


def _as_candidate(name: str, value: Callable[[StructureSource], Any]) -> Any:
    """Declare a column with the unit and meaning that it has in candidates.csv."""
    return column(value=value, meaning=_OF_CANDIDATE[name].meaning, unit=_OF_CANDIDATE[name].unit)


def _common(name: str, *, unknown: Any = None) -> Any:
    """Declare a column that is the same for all candidates of a structure."""

    def value(source: StructureSource) -> Any:
        return getattr(source.first, name) if source.first else source.entry.get(name, unknown)

    return _as_candidate(name, value)


def _of_selected(name: str, *, unknown: Any = math.nan) -> Any:
    """Declare a column that shows the selected candidate."""

    def value(source: StructureSource) -> Any:
        return getattr(source.selected, name) if source.selected else unknown

    return _as_candidate(name, value)


def _verdict(name: str) -> Any:
    """Declare a verdict on the selected candidate; without one it is False."""

    def value(source: StructureSource) -> bool | None:
        if not source.has_reference:
            return None
        return bool(source.selected and getattr(source.selected, name))

    return _as_candidate(name, value)


def _of_lowest_dft(name: str, *, unknown: Any = math.nan) -> Any:
    """Declare a column that shows the candidate of lowest DFT energy."""

    def value(source: StructureSource) -> Any:
        return getattr(source.ranked_by_dft[0], name) if source.ranked_by_dft else unknown

    return _as_candidate(name, value)


@dataclass(frozen=True)
class StructureRow:
    """One row of results.csv; None and NaN mean "not known"."""

    id: str = _as_candidate("id", lambda source: source.id)
    formula: str = _common("formula", unknown="")
    n_atoms: int | None = _common("n_atoms")
    element: str = _common("element", unknown="")
    n_missing: int | None = _common("n_missing")
    method: str = column(
        value=lambda source: source.method,
        meaning="proposal method; empty where the structure was refused or is a duplicate",
    )
    status: str = column(
        value=lambda source: source.status,
        meaning="`ok`: the selected candidate converged; `unconverged`: it did not; "
        "`failed`: no candidate could be selected; `duplicate`: another structure was filled in "
        "its place",
    )
    count_of: str = column(
        value=lambda source: source.count.id if source.count else "",
        meaning="where `--n_missing auto` compared numbers by energy: name of the structure in the "
        "input ([how many are missing](counts.md)); empty for any other structure",
    )
    count_rank: int | None = column(
        value=lambda source: source.count.rank if source.count else None,
        meaning="rank of `n_missing` among these numbers by probability, from 0",
    )
    count_probability: float = column(
        value=lambda source: source.count.probability if source.count else math.nan,
        meaning="probability of `n_missing` among these numbers",
    )
    count_energy: float = column(
        value=lambda source: source.count.energy_per_site if source.count else math.nan,
        unit="eV/atom",
        meaning="energy of each added atom against its chemical potential (`--mu`)",
    )
    energy: float = _of_selected("energy")
    energy_gap: float = _of_selected("energy_gap")
    confidence: float = column(
        value=lambda source: source.confidence.les,
        meaning="probability that the selected candidate is the true crystal or lower in energy; "
        "now the same for all structures; empty where it is not calibrated "
        "([confidence](benchmarks/confidence.md))",
    )
    confidence_match: float = column(
        value=lambda source: source.confidence.matched,
        meaning="probability that it is the true crystal; empty where it is not calibrated",
    )
    calibration: str = column(
        value=lambda source: source.confidence.calibration,
        meaning="`calibrated`, or `not calibrated` and how the run differs from the measurement; "
        "empty without a selected candidate",
    )
    ranking_agrees: bool | None = _of_selected("ranking_agrees", unknown=None)
    best_of_all: bool = _of_selected("best_of_all", unknown=False)
    minimum_of_all: int | None = _of_selected("minimum_of_all", unknown=None)
    n_minima: int = column(
        value=lambda source: len({row.minimum for row in source.candidates if row.minimum >= 0}),
        meaning="number of distinct minima among the candidates",
    )
    n_candidates: int = column(
        value=lambda source: len(source.candidates),
        meaning="number of candidates that the method proposed",
    )
    n_ok: int = column(
        value=lambda source: sum(row.status == "ok" for row in source.candidates),
        meaning="number of candidates that converged",
    )
    sample: int | None = column(
        value=lambda source: source.selected.sample if source.selected else None,
        meaning="number of the selected candidate",
    )
    host_shift: float = _of_selected("host_shift")
    note: str = _of_selected("note", unknown="")
    warnings: str = _of_selected("warnings", unknown="")
    bonds: str = _of_selected("bonds", unknown="")
    bond_misfit: float = _of_selected("bond_misfit")
    hydrogen_bonds: str = _of_selected("hydrogen_bonds", unknown="")
    n_clashes: int | None = _of_selected("n_clashes", unknown=None)
    valence_misfit: float = _of_selected("valence_misfit")
    missing_charge: int | None = _of_selected("missing_charge", unknown=None)
    host_moved: str = _of_selected("host_moved", unknown="")
    host_rms: float = _of_selected("host_rms")
    host_space_group: str = _of_selected("host_space_group", unknown="")
    space_group: str = _of_selected("space_group", unknown="")
    symmetry_shift: float = _of_selected("symmetry_shift")
    wyckoff: str = _of_selected("wyckoff", unknown="")
    n_special: int | None = _of_selected("n_special", unknown=None)
    symmetrised_energy: float = _of_selected("symmetrised_energy")
    sentence: str = column(
        value=lambda source: source.sentence,
        meaning="how the selected candidate was found, as a sentence for a paper, with odds and "
        "citations",
    )
    has_reference: bool = _as_candidate("has_reference", lambda source: source.has_reference)
    matched: bool | None = _verdict("matched")
    les: bool | None = _verdict("les")
    host_matched: bool | None = _verdict("host_matched")
    rmsd: float = _of_selected("rmsd")
    rmsd_per_site: float = _of_selected("rmsd_per_site")
    energy_above_reference: float = _of_selected("energy_above_reference")
    site_class: str = _common("site_class", unknown="")
    message: str = _as_candidate("message", lambda source: source.message)
    duplicate_of: str = column(
        value=lambda source: source.duplicate_of,
        meaning="id of the structure that was filled in place of this one "
        "(`--duplicates fill_once`)",
    )
    dft_status: str = _as_candidate("dft_status", lambda source: source.dft_status)
    dft_sample: int | None = column(
        value=lambda source: source.ranked_by_dft[0].sample if source.ranked_by_dft else None,
        meaning="number of the candidate of lowest DFT energy, which the columns `dft_…` show",
    )
    dft_energy: float = _of_lowest_dft("dft_energy")
    dft_matched: bool | None = _of_lowest_dft("dft_matched", unknown=None)
    dft_les: bool | None = _of_lowest_dft("dft_les", unknown=None)
    dft_rmsd: float = _of_lowest_dft("dft_rmsd")
    dft_energy_above_reference: float = _of_lowest_dft("dft_energy_above_reference")
    dft_fmax_start: float = _of_lowest_dft("dft_fmax_start")
    dft_shift_host: float = _of_lowest_dft("dft_shift_host")
    dft_shift_filled: float = _of_lowest_dft("dft_shift_filled")
    dft_agrees: bool | None = column(
        value=lambda source: source.dft_agrees,
        meaning="whether it is also the selected candidate; empty unless at least two candidates "
        "have a DFT energy",
    )
