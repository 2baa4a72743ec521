"""The columns of candidates.csv: one row for each candidate."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from ase import Atoms

from xtalfill.core.batch import Batch
from xtalfill.core.relaxations import (
    POSITIONS,
    RANK,
    SITES,
    final_stage,
    merged_with,
    ranking_agrees,
)
from xtalfill.results.columns import column

DFT = "dft"
LAST_RELAXATION = "last relaxation"
Value = Callable[["CandidateSource"], Any]


@dataclass(frozen=True, eq=False)
class CandidateSource:
    """What the row of a candidate is read from.

    Attributes:
        batch: A batch after EVALUATE.
        index: Number of the candidate's system in the batch.
        input_formula: Formula in check.json; empty if unknown.
    """

    batch: Batch
    index: int
    input_formula: str

    @cached_property
    def atoms(self) -> Atoms:
        """The crystal, missing sites included."""
        return self.batch.to_ase(self.index)

    @cached_property
    def filled(self) -> list[str]:
        """Symbols of the filled sites."""
        is_host = self.batch.is_host[self.batch.atoms_slice(self.index)]
        return [self.atoms.symbols[site] for site in np.flatnonzero(~is_host)]

    @property
    def formula(self) -> str:
        """Formula in check.json, or that of the atoms."""
        return self.input_formula or str(self.atoms.get_chemical_formula(mode="metal"))

    @property
    def has_reference(self) -> bool:
        """Whether EVALUATE compared the candidate with a reference."""
        return bool(self.read("evaluate", "has_reference"))

    @property
    def sent_to_dft(self) -> bool:
        """Whether pw.x was asked to relax the candidate."""
        return DFT in self.batch.stages and bool(self.read(DFT, "status"))

    @property
    def compared_after_dft(self) -> bool:
        """Whether candidate and reference both converged with pw.x."""
        return self.sent_to_dft and bool(self.read("evaluate", "dft_has_reference"))

    @property
    def merged_with(self) -> int | None:
        """Sample whose relaxed crystal the candidate took over."""
        return merged_with(self.batch, self.index)

    @property
    def message(self) -> str:
        """Message of the candidate, or else that of EVALUATE."""
        return str(self.batch.message[self.index] or self.read("evaluate", "message"))

    @property
    def dft_rank(self) -> int | None:
        """Rank by DFT energy; None without such an energy."""
        rank = int(self.read("evaluate", "dft_rank")) if self.sent_to_dft else -1
        return rank if rank >= 0 else None

    def arrays(self, stage: str) -> dict[str, np.ndarray]:
        """Return the arrays of a stage; none where it was not run."""
        name = final_stage(self.batch) if stage == LAST_RELAXATION else stage
        return self.batch.stages[name].arrays if name in self.batch.stages else {}

    def read(self, stage: str, name: str) -> Any:
        """Return the candidate's entry in an array of a stage."""
        return self.arrays(stage)[name][self.index]


def _check(name: str, kind: type) -> Value:
    """Read a check of the candidate; only the lowest one of each minimum has been checked."""
    empty = "" if kind is str else math.nan if kind is float else None

    def value(source: CandidateSource) -> Any:
        found = source.read("checks", name) if name in source.arrays("checks") else empty
        return empty if found is None or found != found else kind(found)  # noqa: PLR0124 - NaN

    return value


def _system(name: str, kind: type = str) -> Value:
    """Read an array of the batch itself."""
    return lambda source: kind(getattr(source.batch, name)[source.index])


def _stage(stage: str, name: str, kind: type) -> Value:
    """Read an array of a stage."""
    return lambda source: kind(source.read(stage, name))


def _optional(stage: str, name: str, kind: type, *, unknown: Any = None) -> Value:
    """Read an array of a stage that may not have run or, in an older release, lacked it."""
    return lambda source: (
        kind(source.read(stage, name)) if name in source.arrays(stage) else unknown
    )


def _verdict(name: str) -> Value:
    """Read a verdict of EVALUATE; None without a reference."""
    return lambda source: bool(source.read("evaluate", name)) if source.has_reference else None


def _dft(stage: str, name: str, kind: type, *, unknown: Any) -> Value:
    """Read an array about a candidate that was sent to pw.x."""
    return lambda source: kind(source.read(stage, name)) if source.sent_to_dft else unknown


def _dft_verdict(name: str) -> Value:
    """Read a verdict of EVALUATE on the crystal relaxed by pw.x."""
    return lambda source: bool(source.read("evaluate", name)) if source.compared_after_dft else None


@dataclass(frozen=True)
class CandidateRow:
    """One row of candidates.csv; None and NaN mean "not known"."""

    id: str = column(
        value=_system("id"),
        meaning="name of the structure",
    )
    formula: str = column(
        value=lambda source: source.formula,
        meaning="chemical formula with the missing sites",
    )
    n_atoms: int = column(
        value=lambda source: len(source.atoms),
        meaning="number of atoms in the cell, missing sites included",
    )
    element: str = column(
        value=lambda source: " ".join(sorted(set(source.filled))),
        meaning="element of the missing sites",
    )
    n_missing: int = column(
        value=lambda source: len(source.filled),
        meaning="number of missing sites in the cell",
    )
    method: str = column(
        value=_system("method"),
        meaning="proposal method",
    )
    source: str = column(
        value=_optional("inpaint", "source", str, unknown=""),
        meaning="what proposed the candidate: the method, or a source of `--method mix`",
    )
    sample: int = column(
        value=_system("sample", int),
        meaning="number of the candidate; `id`, `method`, `sample` and `seed` determine it",
    )
    seed: int = column(
        value=_system("seed", int),
        meaning="random seed of the run (`--seed`)",
    )
    status: str = column(
        value=_system("status"),
        meaning="`ok`: converged; `unconverged`: not within the steps allowed; `failed`; "
        "`dropped`: by `--drop_above`; `absent`: the method had no further "
        "proposal, or `--stop_below` needed no more, which is no failure: it counts nowhere",
    )
    converged: bool = column(
        value=_stage(LAST_RELAXATION, "converged", bool),
        meaning="whether the last relaxation reached `--fmax`",
    )
    energy: float = column(
        value=_stage(LAST_RELAXATION, "energy", float),
        unit="eV/cell",
        meaning="energy after the last relaxation",
    )
    fmax: float = column(
        value=_stage(LAST_RELAXATION, "fmax", float),
        unit="eV/Å",
        meaning="largest force after the last relaxation",
    )
    n_steps_sites: int = column(
        value=_stage(SITES, "n_steps", int),
        meaning="steps of the relaxation of the filled sites in the fixed host",
    )
    n_steps: int = column(
        value=_stage(POSITIONS, "n_steps", int),
        meaning="steps of the relaxation of all positions",
    )
    n_steps_rank: int | None = column(
        value=_optional(RANK, "n_steps", int),
        meaning="steps of the relaxation with `--mlip_rank`; 0 where `merged_with` names another "
        "candidate; empty without",
    )
    merged_with: int | None = column(
        value=lambda source: source.merged_with,
        meaning="with `--mlip_rank` or `--merge`: sample whose relaxed crystal the candidate "
        "shares; empty if none",
    )
    sites_moved: int | None = column(
        value=_optional("inpaint", "sites_moved", int),
        meaning="proposed sites that overlapped with an atom and were moved away",
    )
    largest_shift: float = column(
        value=_optional("inpaint", "largest_shift", float, unknown=math.nan),
        unit="Å",
        meaning="largest distance that such a site was moved",
    )
    sites_inside: int | None = column(
        value=_optional("inpaint", "sites_inside", int),
        meaning="proposed sites that still overlap with an atom because there was no free space",
    )
    rank: int = column(
        value=_stage("select", "rank", int),
        meaning="rank by energy among the candidates of the structure and method, from 0; "
        "-1: no usable energy",
    )
    minimum: int = column(
        value=_stage("select", "minimum", int),
        meaning="number of the distinct minimum, in order of energy, from 0; -1: no usable energy",
    )
    selected: bool = column(
        value=_stage("select", "selected", bool),
        meaning="whether `results.csv` shows this candidate",
    )
    energy_gap: float = column(
        value=_stage("select", "energy_gap", float),
        unit="eV/cell",
        meaning="energy from the selected candidate to the lowest one in the next distinct minimum",
    )
    rank_of_all: int | None = column(
        value=_optional("select", "rank_of_all", int),
        meaning="as `rank`, among the candidates of all methods of the structure",
    )
    minimum_of_all: int | None = column(
        value=_optional("select", "minimum_of_all", int),
        meaning="as `minimum`, among the candidates of all methods of the structure",
    )
    best_of_all: bool = column(
        value=_optional("select", "best_of_all", bool, unknown=False),
        meaning="whether the candidate is the best of the structure over all methods",
    )
    ranking_agrees: bool | None = column(
        value=lambda source: ranking_agrees(source.batch, source.index),
        meaning="whether `--mlip` and `--mlip_rank` have the same lowest minimum among the "
        "candidates of the structure and method; empty without `--mlip_rank`, for fewer than two "
        "candidates, and where none converged",
    )
    host_shift: float = column(
        value=_optional(LAST_RELAXATION, "host_shift", float, unknown=math.nan),
        unit="Å",
        meaning="largest displacement of a host atom in the relaxations, "
        "without the mean displacement",
    )
    note: str = column(
        value=_optional(LAST_RELAXATION, "note", str, unknown=""),
        meaning="warning about a candidate that did not fail: the host changed, or the energy is "
        "above that of free atoms",
    )
    warnings: str = column(
        value=_check("warnings", str),
        meaning="what an expert would question, separated by semicolons; empty: nothing. These "
        "columns are filled for the lowest candidate of each minimum ([checks](checks.md))",
    )
    bonds: str = column(
        value=_check("bonds", str),
        meaning="bonds from the filled sites to their nearest neighbours, by elements",
    )
    bond_misfit: float = column(
        value=_check("bond_misfit", float),
        unit="Å",
        meaning="largest distance of an X–H length from the usual range of the element X; 0: all "
        "are usual",
    )
    hydrogen_bonds: str = column(
        value=_check("hydrogen_bonds", str),
        meaning="hydrogen bonds of the filled sites: number, atoms, distance H...A, angle at H",
    )
    n_clashes: int | None = column(
        value=_check("n_clashes", int),
        meaning="number of atoms too near to a filled site",
    )
    valence_misfit: float = column(
        value=_check("valence_misfit", float),
        unit="v.u.",
        meaning="root mean square deviation of the bond-valence sums of H, C, N, O, S and halogens "
        "from their valences (global instability index)",
    )
    missing_charge: int | None = column(
        value=_check("missing_charge", int),
        meaning="positive charges that the cell lacks (negative: has too many) in every known "
        "oxidation state of its cations; 0: balanced; empty: not known",
    )
    host_moved: str = column(
        value=_check("host_moved", str),
        meaning="host atoms that moved by more than 0.1 Å, the farthest first, "
        "named as in the CIF file",
    )
    host_rms: float = column(
        value=_check("host_rms", float),
        unit="Å",
        meaning="root mean square displacement of the host atoms",
    )
    host_space_group: str = column(
        value=_check("host_space_group", str),
        meaning="space group of the host as given, within 0.1 Å",
    )
    space_group: str = column(
        value=_check("space_group", str),
        meaning="space group of the candidate after its atoms moved by at most 0.1 Å to symmetric "
        "positions",
    )
    symmetry_shift: float = column(
        value=_check("symmetry_shift", float),
        unit="Å",
        meaning="largest displacement of an atom to such a position",
    )
    wyckoff: str = column(
        value=_check("wyckoff", str),
        meaning="Wyckoff positions of the filled sites in the standard setting, with their site "
        "symmetry",
    )
    n_special: int | None = column(
        value=_check("n_special", int),
        meaning="number of filled sites on special positions",
    )
    has_reference: bool = column(
        value=lambda source: source.has_reference,
        meaning="whether there is a usable reference",
    )
    matched_inpaint: bool | None = column(
        # A proposal can match even where the reference did not relax.
        value=lambda source: (
            bool(source.read("evaluate", "matched_inpaint"))
            if source.read("evaluate", "site_class")
            else None
        ),
        meaning="whether the proposal matches the reference before any relaxation",
    )
    matched: bool | None = column(
        value=_verdict("matched"),
        meaning="whether the relaxed candidate is the same crystal as the relaxed reference",
    )
    les: bool | None = column(
        value=_verdict("les"),
        meaning="lower energy or structural match: `matched`, or an energy below the reference's",
    )
    host_matched: bool | None = column(
        value=_verdict("host_matched"),
        meaning="whether the hosts of the two match after the relaxation",
    )
    rmsd: float = column(
        value=_stage("evaluate", "rmsd", float),
        unit="Å",
        meaning="root-mean-square distance to the reference over all atoms; empty without a match",
    )
    rmsd_per_site: float = column(
        value=_stage("evaluate", "rmsd_per_site", float),
        unit="Å",
        meaning="the same if only the filled sites had moved: `rmsd` × √(`n_atoms` / `n_missing`)",
    )
    energy_above_reference: float = column(
        value=_stage("evaluate", "energy_above_reference", float),
        unit="eV/atom",
        meaning="energy minus that of the relaxed reference",
    )
    site_class: str = column(
        value=_stage("evaluate", "site_class", str),
        meaning="chemistry of the missing sites in the reference, such as `O-H`",
    )
    message: str = column(
        value=lambda source: source.message,
        meaning="what went wrong",
    )
    dft_status: str = column(
        value=_dft(DFT, "status", str, unknown=""),
        meaning="`ok`, `unconverged`, `failed` or `refused` by pw.x; empty: not sent",
    )
    dft_energy: float = column(
        value=_dft(DFT, "energy", float, unknown=math.nan),
        unit="eV/cell",
        meaning="DFT energy after the relaxation (free energy of the smeared electrons)",
    )
    dft_rank: int | None = column(
        value=lambda source: source.dft_rank,
        meaning="rank by DFT energy among the candidates of the structure and method, from 0",
    )
    dft_matched: bool | None = column(
        value=_dft_verdict("dft_matched"),
        meaning="as `matched`, for candidate and reference relaxed by DFT",
    )
    dft_les: bool | None = column(
        value=_dft_verdict("dft_les"),
        meaning="as `les`, with crystals and energies of DFT",
    )
    dft_rmsd: float = column(
        value=_dft("evaluate", "dft_rmsd", float, unknown=math.nan),
        unit="Å",
        meaning="as `rmsd`, for candidate and reference relaxed by DFT",
    )
    dft_energy_above_reference: float = column(
        value=_dft("evaluate", "dft_energy_above_reference", float, unknown=math.nan),
        unit="eV/atom",
        meaning="as `energy_above_reference`, with energies of DFT",
    )
    dft_fmax_start: float = column(
        value=_dft(DFT, "fmax_start", float, unknown=math.nan),
        unit="eV/Å",
        meaning="largest DFT force at the minimum of the potential",
    )
    dft_shift_host: float = column(
        value=_dft(DFT, "symmetry_shift_host", float, unknown=math.nan),
        unit="Å",
        meaning="largest displacement of a host atom when the crystal was symmetrised before DFT",
    )
    dft_shift_filled: float = column(
        value=_dft(DFT, "symmetry_shift_filled", float, unknown=math.nan),
        unit="Å",
        meaning="largest displacement of a filled site when the crystal was symmetrised before DFT",
    )
    dft_n_attempts: int | None = column(
        value=_dft(DFT, "n_attempts", int, unknown=None),
        meaning="number of pw.x runs; more than 1 after a repair",
    )
