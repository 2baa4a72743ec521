"""Compare every candidate of a batch with the reference of its structure.

A candidate and its reference go through the same relaxations with the same potentials before
the comparison, so that a difference comes from the sites and not from the level of theory.
docs/evaluation.md defines the measures.

    batch = read_batch("batch_0000.select.h5")
    batch.stages["evaluate"] = evaluate_batch(batch)
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from ase import Atoms
from matscipy.neighbours import neighbour_list
from pymatgen.core import Structure

from xtalfill.core.batch import Batch, Stage
from xtalfill.core.errors import InputError
from xtalfill.core.matching import TOLERANCES, matcher, reduced, same_crystal, to_pymatgen
from xtalfill.core.record import package_versions
from xtalfill.core.relaxations import final_stage

NEIGHBOUR_CUTOFF = 6.0  # Angstrom; larger than any nearest-neighbour distance in a dense crystal
NAMED_NEIGHBOURS = ("O", "N", "C", "B", "H")
OTHER_NEIGHBOUR = "metal/other"
_BEFORE = "inpaint"
# Errors of pymatgen and its lattice reduction on unusual cells; LinAlgError is a ValueError.
MATCHER_ERRORS = (ArithmeticError, LookupError, RuntimeError, TypeError, ValueError)


@dataclass(frozen=True)
class Comparison:
    """Comparison of a candidate with its reference.

    Attributes:
        matched: Whether StructureMatcher finds the two crystals equivalent.
        host_matched: The same for the host sites alone.
        rmsd: Root mean square displacement per atom in Angstrom; NaN without a match.
    """

    matched: bool
    host_matched: bool
    rmsd: float


class Filled:
    """A crystal whose restored sites come last; reduced once, when it is first compared.

    Args:
        atoms: The crystal; host sites first.
        n_missing: Number of restored sites.
    """

    def __init__(self, atoms: Atoms, *, n_missing: int) -> None:
        self.atoms = atoms
        self.n_missing = n_missing

    @cached_property
    def whole(self) -> Structure:
        """All sites, for `same_crystal`."""
        return reduced(self.atoms)

    @cached_property
    def host(self) -> Structure:
        """The host sites alone, for `same_crystal`."""
        return reduced(self.atoms[: len(self.atoms) - self.n_missing])


def filled(batch: Batch, index: int, *, stage: str | None) -> Filled:
    """Return system `index` of a batch; `stage` as in `Batch.to_ase`."""
    n_missing = int(np.count_nonzero(~batch.is_host[batch.atoms_slice(index)]))
    return Filled(batch.to_ase(index, stage=stage), n_missing=n_missing)


def compare(candidate: Filled, reference: Filled) -> Comparison:
    """Compare two crystals.

    `StructureMatcher.fit` decides about a match: the largest displacement of a site is below
    stol (V/N)^(1/3). `get_rms_dist` minimises the root mean square and would also accept pairs with
    one distant site, so it only measures pairs that `fit` has accepted.

    Args:
        candidate: The crystal to compare.
        reference: The true crystal.

    Returns:
        The comparison; lengths in Angstrom.
    """
    matched = same_crystal(reference.whole, candidate.whole)
    rmsd = math.nan
    if matched:
        ours, true = to_pymatgen(candidate.atoms), to_pymatgen(reference.atoms)
        found = matcher().get_rms_dist(true, ours)
        if found is not None:
            rmsd = float(found[0]) * _length_per_atom(ours, true)
    return Comparison(matched, same_crystal(reference.host, candidate.host), rmsd)


def _length_per_atom(first: Structure, second: Structure) -> float:
    """Return (V/N)^(1/3) of the common volume to which the matcher scales both crystals."""
    volumes = (first.volume / len(first)) * (second.volume / len(second))
    return float(volumes ** (1 / 6))


def site_class(reference: Atoms, *, n_missing: int) -> str:
    """Return the chemical class of the missing sites, from their nearest neighbours.

    The element of its nearest neighbour gives the class of a site (O-H, N-H, C-H, B-H, H-H, else
    metal/other-H). The structure gets the most frequent class; ties go to the first in this order.

    Args:
        reference: The true crystal, missing sites last.
        n_missing: Number of missing sites.

    Returns:
        The class, with the symbol of the missing element in place of H.
    """
    sites = np.arange(len(reference) - n_missing, len(reference))
    first, second, distance = neighbour_list("ijd", reference, NEIGHBOUR_CUTOFF)
    symbols = np.array(reference.get_chemical_symbols())
    kinds: Counter[str] = Counter()
    for site in sites:
        here = np.flatnonzero(first == site)
        nearest = symbols[second[here[np.argmin(distance[here])]]] if len(here) else ""
        kinds[nearest if nearest in NAMED_NEIGHBOURS else OTHER_NEIGHBOUR] += 1
    order = (*NAMED_NEIGHBOURS, OTHER_NEIGHBOUR)
    kind = max(order, key=lambda name: (kinds[name], -order.index(name)))
    return f"{kind}-{symbols[-1]}"


def evaluate_batch(batch: Batch) -> Stage:
    """Compare all candidates of a batch with their references.

    A candidate counts as wrong if it failed, did not converge, or causes an error of the matcher. A
    structure is not evaluated (has_reference is False) if its reference is missing or did not
    relax; `message` gives the reason.

    Args:
        batch: A batch after SELECT.

    Returns:
        The stage, with the arrays defined in docs/evaluation.md.

    Raises:
        InputError: The batch has not been relaxed.
    """
    if _BEFORE not in batch.stages:
        raise InputError(f"the batch has no stage '{_BEFORE}'; run INPAINT on it first")
    relaxed = final_stage(batch)
    arrays = _empty_arrays(batch.n_systems)
    for structure_id, members in batch.groups().items():
        reference = batch.reference_of(structure_id)
        if reference is None:
            continue
        given, true = (filled(batch, reference, stage=stage) for stage in (None, relaxed))
        arrays["site_class"][[*members, reference]] = site_class(
            given.atoms, n_missing=given.n_missing
        )
        unusable = _unusable_reason(batch, reference, relaxed=relaxed)
        for index in members:
            _compare_proposal(batch, index, given, arrays)
            if unusable:
                arrays["message"][index] = f"evaluate: the reference is not usable ({unusable})"
                continue
            arrays["has_reference"][index] = True
            if not _unusable_reason(batch, index, relaxed=relaxed):
                found, problem = compare_relaxed(batch, index, reference, true, stage=relaxed)
                arrays["message"][index] = problem or arrays["message"][index]
                for name, value in found.items():
                    arrays[name][index] = value
        matched = [index for index in members if arrays["matched"][index]]
        if matched:
            spread = math.sqrt(len(given.atoms) / given.n_missing)
            arrays["rmsd_per_site"][matched] = arrays["rmsd"][matched] * spread
    attrs = {
        **TOLERANCES,
        "relaxed": relaxed,
        "versions": package_versions(("pymatgen", "ase", "numpy")),
    }
    return Stage(arrays, attrs)


def _empty_arrays(n_systems: int) -> dict[str, np.ndarray]:
    flags = ("has_reference", "matched", "les", "host_matched", "matched_inpaint")
    numbers = ("rmsd", "rmsd_per_site", "energy_above_reference")
    arrays: dict[str, np.ndarray] = {name: np.zeros(n_systems, dtype=np.bool_) for name in flags}
    arrays |= {name: np.full(n_systems, np.nan) for name in numbers}
    return arrays | {
        name: np.full(n_systems, "", dtype=object) for name in ("site_class", "message")
    }


def _unusable_reason(batch: Batch, index: int, *, relaxed: str) -> str:
    """Return why a system cannot be compared; empty if it can."""
    if batch.status[index] != "ok":
        return str(batch.message[index]) or f"status {batch.status[index]}"
    here = batch.atoms_slice(index)
    after = batch.stages[relaxed].arrays
    if not (np.isfinite(after["positions"][here]).all() and np.isfinite(after["energy"][index])):
        return "no relaxed positions or energy"
    return ""


def _compare_proposal(
    batch: Batch, index: int, reference: Filled, arrays: dict[str, np.ndarray]
) -> None:
    """Match a proposal before any relaxation with the reference as given."""
    proposal = batch.to_ase(index, stage=_BEFORE)
    if not np.isfinite(proposal.positions).all():
        return
    try:
        arrays["matched_inpaint"][index] = same_crystal(reference.whole, reduced(proposal))
    except MATCHER_ERRORS as error:
        arrays["message"][index] = _one_line("the proposal could not be matched", error)


def compare_relaxed(
    batch: Batch, index: int, reference: int, true: Filled, *, stage: str
) -> tuple[dict[str, bool | float], str]:
    """Compare a relaxed candidate with its relaxed reference.

    Args:
        batch: A batch with the stage.
        index: The candidate, with finite positions and energy.
        reference: The reference, with finite positions and energy.
        true: The crystal of the reference in this stage.
        stage: The stage whose crystals and energies (eV) count.

    Returns:
        The arrays of docs/evaluation.md that are known, without prefix (nothing for another
        composition), and a message if something failed.
    """
    ours = filled(batch, index, stage=stage)
    if not same_composition(ours.atoms, true.atoms):
        return {}, (
            f"evaluate: composition {ours.atoms.get_chemical_formula()} differs from that of the "
            f"reference, {true.atoms.get_chemical_formula()}"
        )
    energy = batch.stages[stage].arrays["energy"]
    above = float(energy[index] / len(ours.atoms) - energy[reference] / len(true.atoms))
    found: dict[str, bool | float] = {"energy_above_reference": above, "les": above < 0}
    try:
        result = compare(ours, true)
    except MATCHER_ERRORS as error:
        return found, _one_line(f"StructureMatcher failed on {stage}", error)
    return found | {
        "matched": result.matched,
        "host_matched": result.host_matched,
        "les": result.matched or above < 0,
        "rmsd": result.rmsd,
    }, ""


def same_composition(first: Atoms, second: Atoms) -> bool:
    """Return whether two crystals have the same reduced formula."""
    ours, true = to_pymatgen(first).composition, to_pymatgen(second).composition
    return bool(ours.reduced_formula == true.reduced_formula)


def _one_line(what: str, error: Exception) -> str:
    return " ".join(f"evaluate: {what} ({type(error).__name__}: {error})".split())
