"""The pinball step: which N of M sites the atoms occupy in the frozen potential of the host.

As in the pinball model (Kahle, Marcolongo, Marzari 2018, doi 10.1103/PhysRevMaterials.2.065405)
the host does not respond to the atoms. A choice S of sites has the energy

    E(S) = sum over i in S of field_i + sum over pairs i < j in S of pair_ij

with the energy field_i of an atom in the potential of the host and the screened repulsion pair_ij
of two atoms with all their images.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

FORBIDDEN = 1e6  # eV; repulsion of a pair that is too close
_COOLING = np.geomspace(1.0, 1e-3, 60)  # in units of the energy spread of a single move
_SWEEP = 15  # moves per temperature and site
_RESTARTS = 3


@dataclass(frozen=True)
class Pinball:
    """Energies of the sites.

    Attributes:
        field: (m,) eV.
        pairs: (m, m) eV, symmetric; `FORBIDDEN` for a pair that is too close.
        permutations: (n_operations, m), see `xtalfill.proposals.sites.Sites`.
    """

    field: np.ndarray
    pairs: np.ndarray
    permutations: np.ndarray

    def energies(self, choices: np.ndarray) -> np.ndarray:
        """Return the energies (c,) in eV of choices (c, n) of sites."""
        pairs = self.pairs[choices[:, :, None], choices[:, None, :]]
        own = self.pairs[choices, choices].sum(axis=1)
        return self.field[choices].sum(axis=1) + (pairs.sum(axis=(1, 2)) - own) / 2


@dataclass(frozen=True)
class SiteChoice:
    """A choice of sites.

    Attributes:
        sites: (n,) ascending.
        energy: eV.
        exact: Whether all choices were evaluated.
    """

    sites: np.ndarray
    energy: float
    exact: bool


def lowest_choices(
    pinball: Pinball, n: int, count: int, *, bound: int, generator: np.random.Generator
) -> list[SiteChoice]:
    """Return the choices of n sites with the lowest energies, without symmetry equivalents.

    Args:
        pinball: The energies.
        n: Number of sites to choose.
        count: Maximum number of choices to return.
        bound: Up to this number of choices, modulo symmetry, all are evaluated; otherwise
            simulated annealing is used (Kirkpatrick et al. 1983, doi 10.1126/science.220.4598.671).
        generator: Random generator of the annealing.

    Returns:
        At most `count` choices, the lowest first; fewer if no more exist without a forbidden pair.
    """
    if not 0 < n <= len(pinball.field):
        return []
    exact = count_choices(pinball.permutations, n) <= bound
    found = distinct_choices(pinball.permutations, n) if exact else _annealed(pinball, n, generator)
    energies = pinball.energies(found)
    order = np.lexsort((*found.T[::-1], energies.round(9)))
    return [
        SiteChoice(found[k], float(energies[k]), exact)
        for k in order[:count]
        if energies[k] < FORBIDDEN / 2
    ]


def count_choices(permutations: np.ndarray, n: int) -> int:
    """Return the number of choices of n sites modulo symmetry (Burnside's lemma)."""
    total = 0
    for permutation in permutations:
        ways = [1] + [0] * n  # coefficients of the product of (1 + x^length) over the cycles
        for length in _cycles(permutation):
            for k in range(n, length - 1, -1):
                ways[k] += ways[k - length]
        total += ways[n]
    return total // len(permutations)


def _cycles(permutation: np.ndarray) -> list[int]:
    seen, lengths = set(), []
    for start in range(len(permutation)):
        length, site = 0, start
        while site not in seen:
            seen.add(site)
            site, length = int(permutation[site]), length + 1
        if length:
            lengths.append(length)
    return lengths


def distinct_choices(permutations: np.ndarray, n: int) -> np.ndarray:
    """Return one of each set of equivalent choices of n sites: (c, n), rows ascending.

    The lexicographically smallest image represents a choice. Its first k sites are then also the
    smallest of their images, so choices grow site by site and others are discarded early (orderly
    generation: Read 1978, Ann. Discrete Math. 2, 107).
    """
    m = permutations.shape[1]
    if n > m - n:
        left_out = distinct_choices(permutations, m - n) if n < m else np.empty((1, 0), dtype=int)
        chosen = np.ones((len(left_out), m), dtype=bool)
        np.put_along_axis(chosen, left_out, values=False, axis=1)
        return np.nonzero(chosen)[1].reshape(len(left_out), n)
    found = np.empty((1, 0), dtype=int)
    for _ in range(n):
        last = found[:, -1] if found.shape[1] else np.full(1, -1)
        grown = [np.column_stack([found[last < site], np.full((last < site).sum(), site)])
                 for site in range(m)]  # fmt: skip
        found = _least(np.concatenate(grown), permutations)
    return found


def _least(choices: np.ndarray, permutations: np.ndarray) -> np.ndarray:
    """Return the choices that no operation maps onto a smaller one."""
    for permutation in permutations:
        difference = np.sort(permutation[choices], axis=1) - choices
        first = np.argmax(difference != 0, axis=1)
        choices = choices[difference[np.arange(len(choices)), first] >= 0]
    return choices


def representative(choice: np.ndarray, permutations: np.ndarray) -> tuple[int, ...]:
    """Return the smallest image of a choice, which is equal for equivalent choices."""
    images = np.sort(permutations[:, choice], axis=1)
    return min(map(tuple, images.tolist()))


def _annealed(pinball: Pinball, n: int, generator: np.random.Generator) -> np.ndarray:
    """Return low-energy choices (c, n) from simulated annealing, without symmetry equivalents."""
    m = len(pinball.field)
    pairs = pinball.pairs - np.diag(np.diag(pinball.pairs))
    allowed = pairs[pairs < FORBIDDEN / 2]
    spread = max(
        float(np.ptp(pinball.field)), float(np.ptp(allowed)) if allowed.size else 0.0, 1e-6
    )
    visited: dict[tuple[int, ...], float] = {}
    for _ in range(_RESTARTS):
        order = generator.permutation(m)
        site_energies = pinball.field + pairs[:, order[:n]].sum(axis=1)
        for temperature in spread * _COOLING:
            for _ in range(_SWEEP * m):
                out, into = int(generator.integers(n)), int(generator.integers(n, m))
                old, new = order[out], order[into]
                change = site_energies[new] - site_energies[old] - pairs[new, old]
                if change < temperature * -math.log(1.0 - generator.random()):
                    order[[out, into]] = new, old
                    site_energies += pairs[:, new] - pairs[:, old]
            key = representative(np.sort(order[:n]), pinball.permutations)
            visited[key] = 0.0
    return np.array(sorted(visited), dtype=int)
