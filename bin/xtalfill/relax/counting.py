"""How many sites are missing, by energy: what RELAX adds to a batch, and what SELECT decides.

CHECK makes a host for each number N to compare. RELAX notes the energy E(0) of the host alone and
the chemical potential mu of the element, SELECT compares E(N) - E(0) - N mu. All energies are those
in the given host, before it relaxes: its atoms are where the missing ones put them, so that it fits
the right number best. A number is the more likely the lower this is for a smallest formula unit of
the host, and the higher its prior is.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from ase.data import atomic_numbers

from xtalfill.core.batch import Batch, Stage
from xtalfill.core.counts import ENERGIES, PRIOR, counted_groups, repeats_of
from xtalfill.core.crystal import Crystal
from xtalfill.core.errors import ConfigError
from xtalfill.core.relaxations import SITES
from xtalfill.relax.batched import BatchedRelaxer, Relaxation

HYDROGEN = atomic_numbers["H"]
_BOX = 12.0  # Å; no potential reaches from a molecule to its image
_BOND = 0.75  # Å
# Chosen on held-out crystals (docs/counts.md): the energy per formula unit of the host that makes a
# number e times less likely, eV.
ENERGY_SCALE = 0.5
# No atom is bound more strongly: O and F bind H by up to 5 eV against H2. A potential that says so
# has left the crystals that it was trained on.
_STRONGEST = -6.0


@dataclass(frozen=True)
class Count:
    """A number of missing sites of a structure.

    Attributes:
        n_missing: The number; 0 is the host as given.
        energy: E(N) - E(0) - N mu, eV, of the lowest candidate; infinite without one.
        log_prior: Natural logarithm of its prior probability.
    """

    n_missing: int
    energy: float
    log_prior: float


def probabilities(counts: list[Count], *, repeats: int) -> np.ndarray:
    """Return the probability (n,) of each number.

    Args:
        counts: The numbers; if no energy is finite, the prior decides.
        repeats: Smallest formula units in the cell of the host.
    """
    energies = np.array([one.energy for one in counts])
    if not np.isfinite(energies).any():
        energies = np.zeros(len(counts))
    prior = np.array([one.log_prior for one in counts])
    scores = prior - energies / (repeats * ENERGY_SCALE)
    weights = np.exp(scores - scores.max())
    return np.asarray(weights / weights.sum())


def add_count_energies(
    batch: Batch, driver: BatchedRelaxer, *, mu: float | None, fmax: float, max_steps: int
) -> None:
    """Add energies of hosts and the chemical potential, where numbers are compared.

    Args:
        batch: The batch after its relaxations.
        driver: Relaxes with the potential of relax_sites.
        mu: Chemical potential of the element, eV per atom; None for that of H2.
        fmax: Force threshold for the molecule, eV/Angstrom.
        max_steps: Maximum number of steps for it.

    Raises:
        ConfigError: The potential cannot relax the molecule.
    """
    groups = counted_groups(batch.id)
    if PRIOR not in batch.stages or not groups:
        return
    energy, potential = np.full(batch.n_systems, np.nan), np.full(batch.n_systems, np.nan)
    hosts = [_whole(_host_of(batch, members[0])) for members in groups.values()]
    mu = hydrogen_potential(driver, fmax=fmax, max_steps=max_steps) if mu is None else mu
    results = driver.relax(hosts, fmax=np.inf, max_steps=0)
    for members, result in zip(groups.values(), results, strict=True):
        potential[members] = mu
        if result.evaluation is not None:
            energy[members] = result.evaluation.energy
    batch.stages[ENERGIES] = Stage({"host_energy": energy, "mu": potential})


def compare_counts(batch: Batch) -> dict[str, np.ndarray]:
    """Return what SELECT adds about numbers of missing sites; nothing where none are compared.

    Args:
        batch: The batch after RELAX.

    Returns:
        Arrays (n_systems,), NaN for a host that is not compared: `count_probability`,
        `count_probability_none` (that nothing is missing), `count_energy` (eV; NaN without a
        candidate).
    """
    if ENERGIES not in batch.stages:
        return {}
    names = ("count_probability", "count_probability_none", "count_energy")
    arrays = {name: np.full(batch.n_systems, np.nan) for name in names}
    for members in counted_groups(batch.id).values():
        counts = counts_of(batch, members)
        share = probabilities(counts, repeats=repeats_of(_host_of(batch, members[0]).numbers))
        place = {one.n_missing: number for number, one in enumerate(counts)}
        for index in members:
            number = place[n_missing_of(batch, index)]
            arrays["count_probability"][index] = share[number]
            arrays["count_probability_none"][index] = share[place[0]]
            energy = counts[number].energy
            arrays["count_energy"][index] = energy if np.isfinite(energy) else np.nan
    return arrays


def counts_of(batch: Batch, members: list[int]) -> list[Count]:
    """Return the numbers of a structure with their energies, 0 first."""
    stage = batch.stages[SITES].arrays["energy"]
    prior, noted = batch.stages[PRIOR].arrays, batch.stages[ENERGIES].arrays
    first = members[0]
    empty = float(noted["host_energy"][first])
    base = empty if np.isfinite(empty) else 0.0
    found = {0: Count(0, 0.0 if np.isfinite(empty) else np.inf, prior["log_prior_none"][first])}
    for index in members:
        number = n_missing_of(batch, index)
        energy = np.inf
        if batch.status[index] != "failed" and np.isfinite(stage[index]):
            energy = float(stage[index]) - base - number * float(noted["mu"][index])
            if np.isfinite(empty) and energy < number * _STRONGEST:
                energy = np.inf
        if number not in found or energy < found[number].energy:
            found[number] = Count(number, energy, float(prior["log_prior"][index]))
    return [found[number] for number in sorted(found)]


def n_missing_of(batch: Batch, index: int) -> int:
    """Return the number of filled sites of a system."""
    return int((~batch.is_host[batch.atoms_slice(index)]).sum())


def hydrogen_potential(driver: BatchedRelaxer, *, fmax: float, max_steps: int) -> float:
    """Return half the energy of a hydrogen molecule, eV.

    Args:
        driver: Relaxes with the potential.
        fmax: Force threshold, eV/Angstrom.
        max_steps: Maximum number of steps.

    Raises:
        ConfigError: The potential cannot relax the molecule.
    """
    positions = np.array([[0.0, 0.0, 0.0], [_BOND, 0.0, 0.0]])
    molecule = Crystal(np.full(2, HYDROGEN), positions, np.eye(3) * _BOX)
    found = driver.relax([_whole(molecule)], fmax=fmax, max_steps=max_steps)[0]
    if found.evaluation is None:
        raise ConfigError(f"the potential cannot relax H2 ({found.error}); give --mu")
    return found.evaluation.energy / 2


def _host_of(batch: Batch, index: int) -> Crystal:
    here = batch.atoms_slice(index)
    is_host = batch.is_host[here]
    return Crystal(
        batch.atomic_numbers[here][is_host], batch.positions[here][is_host], batch.cell[index]
    )


def _whole(crystal: Crystal) -> Relaxation:
    return Relaxation(crystal, np.ones(len(crystal.numbers), dtype=bool))
