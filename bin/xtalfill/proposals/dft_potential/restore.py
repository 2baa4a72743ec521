"""The DFT-potential method for one host (Reents et al. 2026, arXiv:2601.01959, Methods IV.5).

The electrons of the missing atoms accumulate where an atom would sit: at the maxima of the
potential energy of an electron, which are the minima of that of a proton. Atoms are placed there
and relaxed with the host fixed. The potential is calculated again with the remaining excess
electrons, until no atom is missing.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

import numpy as np

from xtalfill.core.crystal import Crystal
from xtalfill.core.settings import parameter
from xtalfill.proposals.dft_potential.ewald import pair_energies
from xtalfill.proposals.dft_potential.peaks import periodic_maxima
from xtalfill.proposals.dft_potential.pinball import (
    FORBIDDEN,
    Pinball,
    SiteChoice,
    lowest_choices,
    representative,
)
from xtalfill.proposals.sites import Sites, distances, far_from_atoms, symmetric_sites, within_reach


class PlacementError(Exception):
    """The method cannot continue with this structure; the message gives the reason."""


@dataclass(frozen=True, kw_only=True)
class Rules:
    """Parameters of the choice of sites.

    Attributes:
        degenerate: Maxima above this share of the highest one, relative to the mean of the
            potential, count as equal.
        bond: Minimum distance to another element, in sums of covalent radii.
        apart: Minimum distance of two atoms of the missing element in Angstrom.
        charge: Charge of a placed atom, as felt by the others, in e.
        bound: Maximum number of choices, modulo symmetry, that are all evaluated.
        merge: Maxima closer than this are merged, in Angstrom.
    """

    degenerate: float = field(metadata=parameter("baseline_degenerate"))
    bond: float = field(metadata=parameter("baseline_bond"))
    apart: float = field(metadata=parameter("baseline_apart"))
    charge: float = field(metadata=parameter("baseline_charge"))
    bound: int = field(metadata=parameter("baseline_choices"))
    merge: float = field(default=0.5, metadata=parameter(None))


@dataclass(frozen=True)
class Round:
    """One placement.

    Attributes:
        missing: Number of missing atoms before it.
        maxima: Number of maxima far enough from the atoms.
        degenerate: Number of maxima that count as equal to the highest.
        placed: Number of placed atoms.
        exact: Whether all choices were evaluated.
        highest: Highest maximum above the mean of the potential, in eV.
    """

    missing: int
    maxima: int
    degenerate: int
    placed: int
    exact: bool
    highest: float


@dataclass
class Placement:
    """The result for one sample.

    Attributes:
        sites: (n, 3) Angstrom; None if the method failed.
        message: Reason of the failure.
        rounds: The placements, in order.
    """

    sites: np.ndarray | None
    message: str = ""
    rounds: list[Round] = field(default_factory=list)

    @property
    def pinball(self) -> bool:
        """Whether there was a choice: more equal maxima than missing atoms."""
        return any(one.degenerate > one.missing for one in self.rounds)

    def as_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {
            "sites": None if self.sites is None else self.sites.tolist(),
            "message": self.message,
            "rounds": [asdict(one) for one in self.rounds],
            "pinball": self.pinball,
        }


class Solver(Protocol):
    """Calculates the potential of a crystal with excess electrons."""

    def potential(self, crystal: Crystal, extra: int) -> np.ndarray:
        """Return the potential energy (n1, n2, n3) of an electron, eV."""
        ...

    def relaxed(self, crystal: Crystal, free: np.ndarray, extra: int) -> tuple[Crystal, np.ndarray]:
        """Relax the free atoms and return the crystal and its potential."""
        ...


def restore(
    host: Crystal,
    element: int,
    n_sites: int,
    *,
    samples: int,
    rules: Rules,
    solver: Solver,
    generator: np.random.Generator,
) -> list[Placement]:
    """Fill the missing sites of a host.

    The first candidate is the result of the method. The others are the choices of n_sites maxima of
    the host's potential with the next lowest energies, without further DFT.

    Args:
        host: The atoms that are present.
        element: Atomic number of the missing ones.
        n_sites: Number of missing sites.
        samples: Number of candidates.
        rules: Parameters of the choice of sites.
        solver: Calculates potentials and relaxes.
        generator: Random generator of the annealing in the pinball step.
    """
    try:
        potential = solver.potential(host, n_sites)
        sites = _sites(potential, host, element, rules)
    except PlacementError as error:
        return [Placement(None, str(error)) for _ in range(samples)]
    first, placed = _place_iteratively(host, element, n_sites, sites, rules, solver, generator)
    others = _further_candidates(sites, host, n_sites, samples, placed, rules, generator)
    return [first, *others][:samples]


def _place_iteratively(
    host: Crystal,
    element: int,
    n_sites: int,
    sites: Sites,
    rules: Rules,
    solver: Solver,
    generator: np.random.Generator,
) -> tuple[Placement, np.ndarray]:
    """Place and relax repeatedly; return the candidate and the sites (k, 3) of the first round."""
    n_host = len(host.positions)
    crystal, first, rounds = host, np.empty((0, 3)), []
    while True:
        missing = n_sites - (len(crystal.positions) - n_host)
        try:
            chosen, placed_round = _place(sites, crystal, missing, rules, generator)
            rounds.append(placed_round)
            first = chosen if len(rounds) == 1 else first
            crystal = crystal.with_atoms(element, chosen @ crystal.cell)
            if placed_round.placed == missing:
                return Placement(crystal.positions[n_host:], "", rounds), first
            free = np.arange(len(crystal.numbers)) >= n_host
            crystal, potential = solver.relaxed(crystal, free, missing - placed_round.placed)
            sites = _sites(potential, crystal, element, rules)
        except PlacementError as error:
            placed = sum(one.placed for one in rounds)
            return Placement(None, f"{placed} of {n_sites} placed: {error}", rounds), first


def _sites(potential: np.ndarray, crystal: Crystal, element: int, rules: Rules) -> Sites:
    """Return the maxima of a potential that are neither too close to nor too far from the atoms.

    A periodic potential has no absolute zero; that of pp.x depends on the pseudopotentials. Values
    are relative to the mean, as in the Ewald sums of the pinball step.
    """
    scaled, values = periodic_maxima(potential)
    sites = symmetric_sites(scaled, values - potential.mean(), crystal, merge=rules.merge)
    sites = far_from_atoms(sites, crystal, element, fraction=rules.bond, same_element=rules.apart)
    if not len(sites):
        raise PlacementError(
            f"none of the {len(values)} maxima of the potential is far enough from the atoms"
        )
    touching = within_reach(sites, crystal, element)
    if not len(touching):
        raise PlacementError(
            f"none of the {len(sites)} remaining maxima of the potential is near an atom"
        )
    return touching


def _pinball(sites: Sites, cell: np.ndarray, rules: Rules) -> Pinball:
    """Return the energies of charges in the frozen potential.

    A charge q has the energy -q V, with the potential energy V of an electron, and two charges have
    q^2 J. Both are divided by q, which does not change the order.
    """
    pairs = rules.charge * pair_energies(sites.scaled, cell)
    near = distances(sites.scaled, sites.scaled, cell) < rules.apart
    np.fill_diagonal(near, val=False)
    return Pinball(-sites.values, np.where(near, FORBIDDEN, pairs), sites.permutations)


def _place(
    sites: Sites, crystal: Crystal, missing: int, rules: Rules, generator: np.random.Generator
) -> tuple[np.ndarray, Round]:
    """Choose among the highest maxima; if not all atoms fit, place as many as possible."""
    highest = float(sites.values.max())
    window = (1.0 - rules.degenerate) * abs(highest)
    equal = sites.subset(sites.values >= highest - window)
    pinball = _pinball(equal, crystal.cell, rules)
    for n in range(min(missing, len(equal)), 0, -1):
        best = lowest_choices(pinball, n, 1, bound=rules.bound, generator=generator)
        if best:
            placed_round = Round(
                missing, len(sites), len(equal), n, best[0].exact, round(highest, 4)
            )
            return equal.scaled[best[0].sites], placed_round
    raise AssertionError("a single site has no pair to forbid it")


def _further_candidates(
    sites: Sites,
    host: Crystal,
    n_sites: int,
    samples: int,
    placed: np.ndarray,
    rules: Rules,
    generator: np.random.Generator,
) -> list[Placement]:
    """Return the candidates after the first."""
    if samples == 1:
        return []
    pinball = _pinball(sites, host.cell, rules)
    # One more, because they include the choice of the first candidate.
    found = lowest_choices(pinball, n_sites, samples, bound=rules.bound, generator=generator)
    if len(placed) == n_sites:
        own = distances(placed, sites.scaled, host.cell).argmin(axis=1)
        key = representative(own, sites.permutations)
        found = [one for one in found if representative(one.sites, sites.permutations) != key]
    filled = [_candidate(one, sites, host, n_sites) for one in found[: samples - 1]]
    n_absent = samples - 1 - len(filled)
    reason = f"{len(sites)} maxima of the potential allow no further choice of {n_sites} sites"
    return filled + [Placement(None, reason) for _ in range(n_absent)]


def _candidate(choice: SiteChoice, sites: Sites, host: Crystal, n_sites: int) -> Placement:
    m, highest = len(sites), round(float(sites.values.max()), 4)
    placed_round = Round(n_sites, m, m, n_sites, choice.exact, highest)
    return Placement(sites.scaled[choice.sites] @ host.cell, "", [placed_round])
