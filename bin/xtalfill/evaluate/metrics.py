"""Success rates, confidence intervals and paired tests on plain arrays.

All rates count each structure once. The candidate of lowest energy decides about success, because a
user without a reference would choose it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

SIZE_BINS = (("≤20 atoms", 1, 20), ("21–40 atoms", 21, 40), (">40 atoms", 41, None))
SITE_BINS = (
    ("1 site", 1, 1),
    ("2–4 sites", 2, 4),
    ("5–8 sites", 5, 8),
    ("9–12 sites", 9, 12),
    ("13+ sites", 13, None),
)
_WEIGHTS_AT_ONCE = 4_000_000
_DRAWS = 100_000


def best_of_k(energy: np.ndarray, success: np.ndarray, k: Sequence[int] | np.ndarray) -> np.ndarray:
    """Return the probability that the lowest-energy candidate of k draws is a success.

    The k draws are made with replacement from the n candidates. The result is the closed form of
    the bootstrap mean used in the literature: with the candidates in order of energy, candidate r
    (from 1) is the best of k with the probability ((n - r + 1) / n)^k - ((n - r) / n)^k. Candidates
    of exactly equal energy share the probability of their group evenly.

    Args:
        energy: (n,) eV; a candidate without a usable energy is NaN and ranks last.
        success: (n,) bool; a candidate without an energy counts as a failure.
        k: (n_k,) numbers of draws, at least 1.

    Returns:
        (n_k,) probabilities.
    """
    n = len(energy)
    draws = np.asarray(k, dtype=np.float64)
    if n == 0 or len(success) != n or (draws < 1).any():
        raise ValueError("needs as many energies as outcomes, at least one, and k >= 1")
    usable = np.isfinite(energy)
    ranked = np.where(usable, energy, np.inf)
    flags = np.where(usable, success, False).astype(np.float64)
    levels, group = np.unique(ranked, return_inverse=True)
    size = np.bincount(group, minlength=len(levels))
    share = np.bincount(group, weights=flags, minlength=len(levels)) / size
    above = n - np.concatenate([[0], np.cumsum(size)])
    chance = (above[:-1, None] / n) ** draws - (above[1:, None] / n) ** draws
    return np.asarray(share @ chance)


def any_of_k(success: np.ndarray, k: Sequence[int] | np.ndarray) -> np.ndarray:
    """Return the probability that k draws with replacement contain at least one success.

    This is the result of an ideal ranking, the upper bound of `best_of_k`.

    Args:
        success: (n,) bool.
        k: (n_k,) numbers of draws.

    Returns:
        (n_k,) probabilities.
    """
    return np.asarray(1.0 - (1.0 - np.mean(success)) ** np.asarray(k, dtype=np.float64))


def bootstrap_interval(
    values: np.ndarray,
    *,
    generator: np.random.Generator,
    n_resamples: int = 10_000,
    level: float = 0.95,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the percentile bootstrap interval of a mean over structures.

    Args:
        values: (n_structures,) or (n_structures, n_columns); columns share the resamples.
        generator: Random generator of the resamples.
        n_resamples: Number of resamples.
        level: Coverage.

    Returns:
        Lower and upper ends, each of the shape of one row; NaN without structures.
    """
    values = np.asarray(values, dtype=np.float64)
    n = len(values)
    if n == 0:
        empty = np.full(values.shape[1:], np.nan)
        return empty, empty
    # In chunks: the weights of all resamples of a database would take gigabytes.
    chunk = max(1, _WEIGHTS_AT_ONCE // n)
    means = [
        generator.multinomial(n, np.full(n, 1.0 / n), size=min(chunk, n_resamples - start))
        @ values
        / n
        for start in range(0, n_resamples, chunk)
    ]
    tail = (1.0 - level) / 2
    low, high = np.quantile(np.concatenate(means), [tail, 1.0 - tail], axis=0)
    return low, high


def rate_interval(
    values: np.ndarray,
    *,
    generator: np.random.Generator,
    n_resamples: int = 10_000,
    level: float = 0.95,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the interval of a rate: of a mean over structures of values from 0 to 1.

    Columns of yes (1) and no (0) alone have the Wilson score interval, which has a width also where
    all structures agree. Others, such as the share of right candidates of each structure, have the
    percentile bootstrap interval.

    Args:
        values: (n_structures,) or (n_structures, n_columns), at least one structure.
        generator: Random generator of the resamples.
        n_resamples: Number of resamples.
        level: Coverage.

    Returns:
        Lower and upper ends, each of the shape of one row.
    """
    values = np.asarray(values, dtype=np.float64)
    columns = values.reshape(len(values), -1)
    # Means over draws of a candidate are 0 or 1 up to rounding.
    binary = (np.abs(columns - np.round(columns)) < 1e-9).all(axis=0)
    ends = np.empty((2, columns.shape[1]))
    for number in np.flatnonzero(binary):
        total = round(columns[:, number].sum())
        ends[:, number] = wilson_interval(total, len(columns), level=level)
    if not binary.all():
        ends[:, ~binary] = bootstrap_interval(
            columns[:, ~binary], generator=generator, n_resamples=n_resamples, level=level
        )
    low, high = ends.reshape(2, *values.shape[1:])
    return low, high


def rate_cell(values: np.ndarray, *, generator: np.random.Generator) -> dict[str, float]:
    """Return a rate in percent with its interval, as a cell of a table of docs/benchmarks.

    Args:
        values: (n_structures,) from 0 to 1.
        generator: Random generator of the resamples.
    """
    low, high = rate_interval(values, generator=generator)
    return percent_cell(float(values.mean()), float(low), float(high))


def percent_cell(value: float, low: float, high: float) -> dict[str, float]:
    """Return a number and the ends of its interval in percent, as a cell of a table."""
    named = {"value": value, "low": low, "high": high}
    return {name: round(100.0 * one, 1) for name, one in named.items()}


def share_cell(successes: int, n: int) -> dict[str, float]:
    """Return a share in percent with its Wilson interval, as a cell of a table.

    Args:
        successes: Number of successes.
        n: Number of independent trials, at least 1.
    """
    return percent_cell(successes / n, *wilson_interval(successes, n))


def les_by_dft_cell(
    matched: tuple[int, int], lower: tuple[int, int], *, generator: np.random.Generator
) -> dict[str, float]:
    """Return the rate of match or lower energy by DFT in percent, as a cell of a table.

    The winners that DFT judged stand for all without a match. The interval is the central 95 % of
    the rate over draws of both shares, each from a Beta distribution: a binomial share with
    Jeffreys' prior, which has a width also where all agree.

    Args:
        matched: How many winners match, of how many.
        lower: How many winners without a match are lower by DFT, of how many judged, at least 1.
        generator: Random generator of the draws.
    """
    match, share = (
        generator.beta(good + 0.5, n - good + 0.5, size=_DRAWS) for good, n in (matched, lower)
    )
    low, high = np.quantile(match + (1 - match) * share, (0.025, 0.975))
    first, second = (good / n for good, n in (matched, lower))
    return percent_cell(first + (1 - first) * second, float(low), float(high))


def wilson_interval(successes: int, n: int, *, level: float = 0.95) -> tuple[float, float]:
    """Return the Wilson score interval of a share.

    Args:
        successes: Number of successes.
        n: Number of independent trials, at least 1.
        level: Coverage.
    """
    from scipy.stats import binomtest  # a quarter of the start of STORE, which has no rates

    found = binomtest(successes, n).proportion_ci(confidence_level=level, method="wilson")
    return float(found.low), float(found.high)


def mcnemar(first: np.ndarray, second: np.ndarray) -> dict[str, float]:
    """Test whether two methods succeed equally often on the same structures (exact McNemar).

    Args:
        first: (n_structures,) bool, outcomes of one method.
        second: (n_structures,) bool, outcomes of the other.

    Returns:
        Numbers of structures for which both, neither or only one succeeds, and the two-sided
        p-value; 1 if the outcomes never differ.
    """
    from scipy.stats import binomtest

    first, second = np.asarray(first, dtype=bool), np.asarray(second, dtype=bool)
    only_first = int((first & ~second).sum())
    only_second = int((second & ~first).sum())
    discordant = only_first + only_second
    p_value = float(binomtest(only_first, discordant, 0.5).pvalue) if discordant else 1.0
    return {
        "both": int((first & second).sum()),
        "neither": int((~first & ~second).sum()),
        "only_first": only_first,
        "only_second": only_second,
        "p_value": p_value,
    }


def bin_label(value: int, bins: Sequence[tuple[str, int, int | None]]) -> str:
    """Return the label of the bin that contains `value`; bounds are inclusive."""
    for label, low, high in bins:
        if value >= low and (high is None or value <= high):
            return label
    raise ValueError(f"{value} lies in none of the bins")


def won_lost(ours: np.ndarray, base: np.ndarray) -> str:
    """Return what one way alone gets right, and the other: "won : lost, p = ..." (`mcnemar`).

    Args:
        ours: (n,) bool, right by one way.
        base: (n,) bool, right by the other.
    """
    test = mcnemar(ours, base)
    return f"{test['only_first']} : {test['only_second']}, p = {test['p_value']:.2g}"
