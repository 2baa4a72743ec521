"""Judge whether a crystal as read lacks hydrogen or another element, from what it states and shows.

What the input states (formula, attached hydrogens, labels, sites without coordinates) decides.
Otherwise a logistic model of the bond valences and the charge balance gives a score;
``tools/measure_scan.py fit`` computed its weights from held-out crystals of the training files.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols, covalent_radii
from ase.formula import Formula
from matscipy.neighbours import neighbour_list

from xtalfill.core.errors import InputError
from xtalfill.core.text import shortened
from xtalfill.inputs.hosts import check_geometry
from xtalfill.inputs.missing import IncompleteStructure, count_sources, other_elements
from xtalfill.inputs.scan_valence import (
    HYDROGEN,
    SiteValences,
    charge_balance,
    counted_protons,
    exceeds_ozonide,
    site_valences,
)
from xtalfill.inputs.structures import Entry

COMPLETE, SUSPECT, MISSING = "complete", "suspect", "missing"
# The weights of the model: constant, what the worst O, N, C and halide lack, charge balance.
WEIGHTS = (-1.95, 4.15, 1.54, 3.54, 2.26, 2.37)
_GROUPS = ((8,), (7,), (6,), (9, 17, 35, 53))
SUSPECT_SCORE, MISSING_SCORE = 0.5, 0.8
# An atom that lacks more than this share of a valence is named as a place of a proton.
LACKS = 0.35
# A sum of bond valences below this is that of an atom without a neighbour.
_ALONE = 0.25
_SHORTEST_BOND = 0.65  # Å; X-ray refinements reach 0.7
_LONGEST_SHARE = 1.4  # of the sum of the covalent radii; 1.25 in the saline hydrides


@dataclass(frozen=True)
class Judgement:
    """What the evidence says about one crystal.

    Attributes:
        status: "complete", "suspect" or "missing".
        element: Atomic number of the missing element.
        score: 0 to 1; 1 if the input itself states that sites are missing.
        n_missing: Number of missing sites per cell if the evidence decides it, or None.
        evidence: One item for each kind of evidence: "kind: what it says".
        sites: Indices of the atoms that lack a proton.
    """

    status: str
    element: int = HYDROGEN
    score: float = 0.0
    n_missing: int | None = None
    evidence: tuple[str, ...] = ()
    sites: tuple[int, ...] = ()


@dataclass
class _Stated:
    """What the input states: element, number if it is one number, and the items of evidence."""

    element: int = HYDROGEN
    count: int | None = None
    missing: bool = False
    evidence: list[str] = field(default_factory=list)


def judge(entry: Entry) -> Judgement:
    """Judge one structure as read.

    Raises:
        InputError: It is no ordered crystal (`hosts.check_geometry`), or it could not be read.
    """
    if entry.error is not None or entry.atoms is None or len(entry.atoms) == 0:
        raise InputError(entry.error or "holds no atoms")
    atoms = entry.atoms
    check_geometry(atoms)
    stated = _stated(entry, atoms)
    valences = site_valences(atoms)
    score = valence_score(atoms.numbers, valences)
    sites = tuple(np.flatnonzero(valences.lacking > LACKS).tolist())
    shown = _shown(atoms, valences, sites) if score >= SUSPECT_SCORE or stated.missing else []
    if exceeds_ozonide(atoms.numbers):
        score = max(score, MISSING_SCORE)
        shown.append("composition: more oxygen than an ozonide of these cations has")
    wrong = impossible_hydrogens(atoms)
    if wrong:
        shown.append(f"hydrogen_distance: {shortened(wrong)}")
    if stated.missing:
        status, score, count = MISSING, 1.0, stated.count
    else:
        status = MISSING if score >= MISSING_SCORE else COMPLETE
        if status == COMPLETE and (score >= SUSPECT_SCORE or wrong or stated.evidence):
            status = SUSPECT
        count = counted_protons(atoms.numbers, valences) if status == MISSING else None
    return Judgement(
        status=status,
        element=stated.element,
        score=score,
        n_missing=count,
        evidence=(*stated.evidence, *shown),
        sites=sites if status != COMPLETE else (),
    )


def formula_of(atoms: Atoms) -> str:
    """Return the chemical formula of a cell."""
    return str(Formula.from_list(list(atoms.symbols)).format("metal"))


def _stated(entry: Entry, atoms: Atoms) -> _Stated:
    """Return what formula, attached hydrogens, labels and sites without coordinates say."""
    declared = sorted({*(entry.evidence.formula or ()), *entry.evidence.unlocated} - {HYDROGEN})
    problem = None
    for target in (HYDROGEN, *declared):
        structure = IncompleteStructure(
            target=target, host=atoms, removed=atoms[:0], evidence=entry.evidence
        )
        problem = problem or other_elements(structure)
        sources = count_sources(structure)
        if not sources:
            continue
        fewest = max(source.fewest for source in sources)
        most = min(source.most for source in sources)
        symbol = chemical_symbols[target]
        evidence = [f"stated: {symbol} missing by {source}" for source in sources]
        if target == HYDROGEN and problem:
            evidence.append(f"formula: {problem}")
        decided = fewest == most > 0 and not (target == HYDROGEN and problem)
        return _Stated(target, fewest if decided else None, True, evidence)
    return _Stated(evidence=[f"formula: {problem}"] if problem else [])


def valence_features(numbers: np.ndarray, valences: SiteValences) -> np.ndarray:
    """Return (6,) the inputs of the model of `WEIGHTS`; all but the constant are at most 1."""
    worst = [
        min(float(valences.lacking[np.isin(numbers, group)].max(initial=0.0)), 1.0)
        for group in _GROUPS
    ]
    balance = charge_balance(numbers, valences)
    agreement = 0.0
    if balance is not None:
        lacking = max(float(valences.lacking.sum()), 0.5)
        agreement = float(np.clip(balance.nearest / lacking, -1.0, 1.0)) * max(worst)
    return np.array([1.0, *worst, agreement])


def valence_score(numbers: np.ndarray, valences: SiteValences) -> float:
    """Return how likely a crystal lacks hydrogen, if half of all crystals did.

    Args:
        numbers: (n,) atomic numbers.
        valences: Of the same sites.
    """
    return 1.0 / (1.0 + math.exp(-float(np.dot(WEIGHTS, valence_features(numbers, valences)))))


def _shown(atoms: Atoms, valences: SiteValences, sites: tuple[int, ...]) -> list[str]:
    """Return the evidence of the geometry, one item for each kind."""
    found = []
    if sites:
        worst = sorted(sites, key=lambda site: -valences.lacking[site])
        names = [f"{_name(atoms, site)} lacks {valences.lacking[site]:.1f}" for site in worst]
        found.append(f"bond_valence: {shortened(names)}")
    balance = charge_balance(atoms.numbers, valences)
    if balance is not None and balance.nearest > 0:
        found.append(f"charge_balance: {balance.nearest} positive charges are missing")
    alone = [site for site in sites if valences.total[site] < _ALONE]
    for kind, number in (("hydrate", 8), ("ammonia", 7), ("methane", 6)):
        if names := [_name(atoms, site) for site in alone if atoms.numbers[site] == number]:
            found.append(f"{kind}: {shortened(names)} without a neighbour")
    skeleton = [
        _name(atoms, site)
        for site in sites
        if atoms.numbers[site] in (6, 7) and valences.total[site] >= _ALONE
    ]
    if skeleton:
        found.append(f"skeleton: {shortened(skeleton)} without hydrogen")
    return found


def _name(atoms: Atoms, site: int) -> str:
    """Return symbol and number of a site, counted from 1, as messages of CHECK do."""
    return f"{atoms.symbols[site]} (site {site + 1})"


def impossible_hydrogens(atoms: Atoms) -> list[str]:
    """Return the hydrogens that are too near to another atom, or bonded to none."""
    sites = np.flatnonzero(atoms.numbers == HYDROGEN)
    if not len(sites):
        return []
    reach = _LONGEST_SHARE * (covalent_radii[HYDROGEN] + covalent_radii[atoms.numbers].max())
    first, second, distance = neighbour_list("ijd", atoms, float(reach))
    radii = covalent_radii[atoms.numbers]
    near = distance < _LONGEST_SHARE * (radii[first] + radii[second])
    shortest = np.full(len(atoms), np.inf)
    np.minimum.at(shortest, first[near], distance[near])
    return [
        f"{_name(atoms, int(site))} is {shortest[site]:.2f} Å from its neighbour"
        if np.isfinite(shortest[site])
        else f"{_name(atoms, int(site))} is bonded to nothing"
        for site in sites
        if not _SHORTEST_BOND <= shortest[site] < np.inf
    ]
