"""The columns of candidates.csv: one row for each candidate."""

from __future__ import annotations

import math
from dataclasses import dataclass

from xtalfill.checks.symmetrised import STAGE as SYMMETRISED
from xtalfill.core.relaxations import POSITIONS, RANK, SITES, ranking_agrees
from xtalfill.results.candidate_source import (
    DFT,
    LAST_RELAXATION,
    check_value,
    dft_value,
    dft_verdict,
    optional_value,
    stage_value,
    system_value,
    verdict,
)  # fmt: skip
from xtalfill.results.columns import column


@dataclass(frozen=True)
class CandidateRow:
    """One row of candidates.csv; None and NaN mean "not known"."""

    id: str = column(
        value=system_value("id"),
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
        value=lambda source: source.element,
        meaning="element of the missing sites",
    )
    n_missing: int = column(
        value=lambda source: len(source.filled),
        meaning="number of missing sites in the cell",
    )
    method: str = column(
        value=system_value("method"),
        meaning="proposal method",
    )
    source: str = column(
        value=optional_value("inpaint", "source", str, unknown=""),
        meaning="what proposed the candidate: the method, or a source of `--method mix`",
    )
    sample: int = column(
        value=system_value("sample", int),
        meaning="number of the candidate; `id`, `method`, `sample` and `seed` determine it",
    )
    seed: int = column(
        value=system_value("seed", int),
        meaning="random seed of the run (`--seed`)",
    )
    status: str = column(
        value=system_value("status"),
        meaning="`ok`: converged; `unconverged`: not within the steps allowed; `failed`; "
        "`dropped`: by `--drop_above`; `absent`: the method had no further "
        "proposal, or `--stop_below` needed no more, which is no failure: it counts nowhere",
    )
    converged: bool = column(
        value=stage_value(LAST_RELAXATION, "converged", bool),
        meaning="whether the last relaxation reached `--fmax`",
    )
    energy: float = column(
        value=stage_value(LAST_RELAXATION, "energy", float),
        unit="eV/cell",
        meaning="energy after the last relaxation",
    )
    fmax: float = column(
        value=stage_value(LAST_RELAXATION, "fmax", float),
        unit="eV/Å",
        meaning="largest force after the last relaxation",
    )
    n_steps_sites: int = column(
        value=stage_value(SITES, "n_steps", int),
        meaning="steps of the relaxation of the filled sites in the fixed host",
    )
    n_steps: int = column(
        value=stage_value(POSITIONS, "n_steps", int),
        meaning="steps of the relaxation of all positions",
    )
    n_steps_rank: int | None = column(
        value=optional_value(RANK, "n_steps", int),
        meaning="steps of the relaxation with `--mlip_rank`; 0 where `merged_with` names another "
        "candidate; empty without",
    )
    merged_with: int | None = column(
        value=lambda source: source.merged_with,
        meaning="with `--mlip_rank` or `--merge`: sample whose relaxed crystal the candidate "
        "shares; empty if none",
    )
    sites_moved: int | None = column(
        value=optional_value("inpaint", "sites_moved", int),
        meaning="proposed sites that overlapped with an atom and were moved away",
    )
    largest_shift: float = column(
        value=optional_value("inpaint", "largest_shift", float, unknown=math.nan),
        unit="Å",
        meaning="largest distance that such a site was moved",
    )
    sites_inside: int | None = column(
        value=optional_value("inpaint", "sites_inside", int),
        meaning="proposed sites that still overlap with an atom because there was no free space",
    )
    rank: int = column(
        value=stage_value("select", "rank", int),
        meaning="rank by energy among the candidates of the structure and method, from 0; "
        "-1: no usable energy",
    )
    minimum: int = column(
        value=stage_value("select", "minimum", int),
        meaning="number of the distinct minimum, in order of energy, from 0; -1: no usable energy",
    )
    selected: bool = column(
        value=stage_value("select", "selected", bool),
        meaning="whether `results.csv` shows this candidate",
    )
    energy_gap: float = column(
        value=stage_value("select", "energy_gap", float),
        unit="eV/cell",
        meaning="energy from the selected candidate to the lowest one in the next distinct minimum",
    )
    rank_of_all: int | None = column(
        value=optional_value("select", "rank_of_all", int),
        meaning="as `rank`, among the candidates of all methods of the structure",
    )
    minimum_of_all: int | None = column(
        value=optional_value("select", "minimum_of_all", int),
        meaning="as `minimum`, among the candidates of all methods of the structure",
    )
    best_of_all: bool = column(
        value=optional_value("select", "best_of_all", bool, unknown=False),
        meaning="whether the candidate is the best of the structure over all methods",
    )
    ranking_agrees: bool | None = column(
        value=lambda source: ranking_agrees(source.batch, source.index),
        meaning="whether `--mlip` and `--mlip_rank` have the same lowest minimum among the "
        "candidates of the structure and method; empty without `--mlip_rank`, for fewer than two "
        "candidates, and where none converged",
    )
    host_shift: float = column(
        value=optional_value(LAST_RELAXATION, "host_shift", float, unknown=math.nan),
        unit="Å",
        meaning="largest displacement of a host atom in the relaxations, "
        "without the mean displacement",
    )
    note: str = column(
        value=optional_value(LAST_RELAXATION, "note", str, unknown=""),
        meaning="warning about a candidate that did not fail: the host changed, or the energy is "
        "above that of free atoms",
    )
    warnings: str = column(
        value=check_value("warnings", str),
        meaning="what an expert would question, separated by semicolons; empty: nothing. These "
        "columns are filled for the lowest candidate of each minimum ([checks](checks.md))",
    )
    bonds: str = column(
        value=check_value("bonds", str),
        meaning="bonds from the filled sites to their nearest neighbours, by elements",
    )
    bond_misfit: float = column(
        value=check_value("bond_misfit", float),
        unit="Å",
        meaning="largest distance of an X–H length from the usual range of the element X; 0: all "
        "are usual",
    )
    hydrogen_bonds: str = column(
        value=check_value("hydrogen_bonds", str),
        meaning="hydrogen bonds of the filled sites: number, atoms, distance H...A, angle at H",
    )
    n_clashes: int | None = column(
        value=check_value("n_clashes", int),
        meaning="number of atoms too near to a filled site",
    )
    valence_misfit: float = column(
        value=check_value("valence_misfit", float),
        unit="v.u.",
        meaning="root mean square deviation of the bond-valence sums of H, C, N, O, S and halogens "
        "from their valences (global instability index)",
    )
    missing_charge: int | None = column(
        value=check_value("missing_charge", int),
        meaning="positive charges that the cell lacks (negative: has too many) in every known "
        "oxidation state of its cations; 0: balanced; empty: not known",
    )
    host_moved: str = column(
        value=check_value("host_moved", str),
        meaning="host atoms that moved by more than 0.1 Å, the farthest first, "
        "named as in the CIF file",
    )
    host_rms: float = column(
        value=check_value("host_rms", float),
        unit="Å",
        meaning="root mean square displacement of the host atoms",
    )
    host_space_group: str = column(
        value=check_value("host_space_group", str),
        meaning="space group of the host as given, within 0.1 Å",
    )
    space_group: str = column(
        value=check_value("space_group", str),
        meaning="space group of the candidate after its atoms moved by at most 0.1 Å to symmetric "
        "positions",
    )
    symmetry_shift: float = column(
        value=check_value("symmetry_shift", float),
        unit="Å",
        meaning="largest displacement of an atom to such a position",
    )
    wyckoff: str = column(
        value=check_value("wyckoff", str),
        meaning="Wyckoff positions of the filled sites in the standard setting, with their site "
        "symmetry",
    )
    n_special: int | None = column(
        value=check_value("n_special", int),
        meaning="number of filled sites on special positions",
    )
    symmetrised_energy: float = column(
        value=optional_value(SYMMETRISED, "energy_above", float, unknown=math.nan),
        unit="eV/cell",
        meaning="energy of the symmetrised crystal, relaxed again, above that of the candidate; "
        "only for the lowest candidate of a structure and method; empty for P1",
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
        value=verdict("matched"),
        meaning="whether the relaxed candidate is the same crystal as the relaxed reference",
    )
    les: bool | None = column(
        value=verdict("les"),
        meaning="lower energy or structural match: `matched`, or an energy below the reference's",
    )
    host_matched: bool | None = column(
        value=verdict("host_matched"),
        meaning="whether the hosts of the two match after the relaxation",
    )
    rmsd: float = column(
        value=stage_value("evaluate", "rmsd", float),
        unit="Å",
        meaning="root-mean-square distance to the reference over all atoms; empty without a match",
    )
    rmsd_per_site: float = column(
        value=stage_value("evaluate", "rmsd_per_site", float),
        unit="Å",
        meaning="the same if only the filled sites had moved: `rmsd` × √(`n_atoms` / `n_missing`)",
    )
    energy_above_reference: float = column(
        value=stage_value("evaluate", "energy_above_reference", float),
        unit="eV/atom",
        meaning="energy minus that of the relaxed reference",
    )
    site_class: str = column(
        value=stage_value("evaluate", "site_class", str),
        meaning="chemistry of the missing sites in the reference, such as `O-H`",
    )
    message: str = column(
        value=lambda source: source.message,
        meaning="what went wrong",
    )
    dft_status: str = column(
        value=dft_value(DFT, "status", str, unknown=""),
        meaning="`ok`, `unconverged`, `failed` or `refused` by pw.x; empty: not sent",
    )
    dft_energy: float = column(
        value=dft_value(DFT, "energy", float, unknown=math.nan),
        unit="eV/cell",
        meaning="DFT energy after the relaxation (free energy of the smeared electrons)",
    )
    dft_rank: int | None = column(
        value=lambda source: source.dft_rank,
        meaning="rank by DFT energy among the candidates of the structure and method, from 0",
    )
    dft_matched: bool | None = column(
        value=dft_verdict("dft_matched"),
        meaning="as `matched`, for candidate and reference relaxed by DFT",
    )
    dft_les: bool | None = column(
        value=dft_verdict("dft_les"),
        meaning="as `les`, with crystals and energies of DFT",
    )
    dft_rmsd: float = column(
        value=dft_value("evaluate", "dft_rmsd", float, unknown=math.nan),
        unit="Å",
        meaning="as `rmsd`, for candidate and reference relaxed by DFT",
    )
    dft_energy_above_reference: float = column(
        value=dft_value("evaluate", "dft_energy_above_reference", float, unknown=math.nan),
        unit="eV/atom",
        meaning="as `energy_above_reference`, with energies of DFT",
    )
    dft_fmax_start: float = column(
        value=dft_value(DFT, "fmax_start", float, unknown=math.nan),
        unit="eV/Å",
        meaning="largest DFT force at the minimum of the potential",
    )
    dft_shift_host: float = column(
        value=dft_value(DFT, "symmetry_shift_host", float, unknown=math.nan),
        unit="Å",
        meaning="largest displacement of a host atom when the crystal was symmetrised before DFT",
    )
    dft_shift_filled: float = column(
        value=dft_value(DFT, "symmetry_shift_filled", float, unknown=math.nan),
        unit="Å",
        meaning="largest displacement of a filled site when the crystal was symmetrised before DFT",
    )
    dft_n_attempts: int | None = column(
        value=dft_value(DFT, "n_attempts", int, unknown=None),
        meaning="number of pw.x runs; more than 1 after a repair",
    )
