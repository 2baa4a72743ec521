#!/usr/bin/env python3
"""Compare mixes of candidates on what tools/measure_cover.py measured; search for the best shares.

A mix is its shares and its number of candidates k. For sources whose candidates are alike (host,
random) the rate is the exact mean over all choices of the measured ones; of numbered ways (voids,
symmetric) the first ones are taken. The search gives every mix the largest k that costs no more
core-seconds than the baseline, for each class of hosts. What it promises is measured on crystals
that it did not see (cross-validation).
"""

import argparse
import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any

import numpy as np

from xtalfill.core.errors import run_command
from xtalfill.core.io import read_json, read_json_lines, write_json
from xtalfill.evaluate.metrics import bootstrap_interval, percent_cell, rate_cell, won_lost
from xtalfill.proposals.diffusion.sample_batches import CHUNK
from xtalfill.proposals.ways import ENUMERATED
from xtalfill.registry.mix import CLASSES, MIX, read_mix, schedule

OUTCOMES = ("les", "matched")
MIX_OF_CLASSES = read_mix()
SOURCES = MIX_OF_CLASSES.sources
SEED = 20250101
Counts = tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class Mixture:
    """Shares of sources and a number of candidates; without shares, those of method mix."""

    shares: tuple[tuple[str, float], ...]
    k: int

    @classmethod
    def read(cls, text: str) -> "Mixture":
        """Read "host:6,voids:4": as many candidates as the shares add up to; or "mix:10"."""
        parts = [part.partition(":") for part in text.split(",")]
        shares = tuple((name, float(count)) for name, _, count in parts)
        k = int(sum(count for _, count in shares))
        return cls((), k) if [name for name, _, _ in parts] == [MIX] else cls(shares, k)

    def __str__(self) -> str:
        parts = " + ".join(f"{name} {share:g}" for name, share in self.shares if share)
        return f"{parts or f'{MIX} {self.k}'}, k = {self.k}"


class Measured:
    """The candidates of one crystal.

    Args:
        record: A line of tools/measure_cover.py.
    """

    def __init__(self, record: dict[str, Any]) -> None:
        self.id, self.host_class = str(record["id"]), str(record["host_class"])
        self.n_sites = int(record["n_sites"])
        self._known: dict[Counts, tuple[float, ...]] = {}
        self._cost: dict[Counts, float] = {}
        self.asked = Counter(one["source"] for one in record["candidates"])
        self._of: dict[str, list[dict[str, Any]]] = {}
        for one in record["candidates"]:
            if one["status"] != "absent":
                self._of.setdefault(one["source"], []).append(one)

    @cached_property
    def capacity(self) -> dict[str, int]:
        """Number of candidates that each source has."""
        return {name: len(self._of.get(name, [])) for name in SOURCES}

    def of(self, name: str) -> list[dict[str, Any]]:
        """Return the candidates of a source in their order."""
        return self._of.get(name, [])

    def counts(self, mixture: Mixture) -> Counts:
        """Return how many candidates of each source a mix has for this crystal."""
        shares = dict(mixture.shares) or MIX_OF_CLASSES.shares(self.host_class, self.n_sites)
        plan = schedule(shares, mixture.k, capacity=self.capacity)
        return tuple(sorted(Counter(name for name, _ in plan).items()))

    def rates(self, mixture: Mixture) -> tuple[float, ...]:
        """Return the probabilities that the lowest candidate is LES, and that it matches."""
        counts = self.counts(mixture)
        if counts not in self._known:
            self._known[counts] = self._rates(counts)
        return self._known[counts]

    def _rates(self, counts: Counts) -> tuple[float, ...]:
        pool, taken = self._pool(counts), dict(counts)
        size = Counter(one["source"] for one in pool)
        usable = [one for one in pool if one["above"] is not None]
        lower: Counter[str] = Counter()
        rates = np.zeros(len(OUTCOMES))
        for one in sorted(usable, key=lambda one: float(one["above"])):
            name = one["source"]
            none = {key: _none_of(lower[key], size[key], taken[key]) for key in size}
            first = none[name] - _none_of(lower[name] + 1, size[name], taken[name])
            others = math.prod(chance for key, chance in none.items() if key != name)
            rates += first * others * np.array([one[outcome] for outcome in OUTCOMES])
            lower[name] += 1
        return tuple(rates.tolist())

    def _pool(self, counts: Counts) -> list[dict[str, Any]]:
        """Return the candidates that a mix may take."""
        return [
            one
            for name, count in counts
            for one in self._of[name][: count if SOURCES[name].method in ENUMERATED else None]
        ]

    def first(self, mixture: Mixture) -> tuple[bool, ...]:
        """Return the outcomes of the lowest of the first candidates of each source."""
        some = [one for name, count in self.counts(mixture) for one in self._of[name][:count]]
        some = [one for one in some if one["above"] is not None]
        if not some:
            return (False,) * len(OUTCOMES)
        best = min(some, key=lambda one: float(one["above"]))
        return tuple(bool(best[outcome]) for outcome in OUTCOMES)

    def seconds(self, mixture: Mixture) -> float:
        """Return the core-seconds of a mix, expected."""
        counts = self.counts(mixture)
        if counts not in self._cost:
            self._cost[counts] = self._seconds(counts)
        return self._cost[counts]

    def _seconds(self, counts: Counts) -> float:
        pool, taken = self._pool(counts), dict(counts)
        size = Counter(one["source"] for one in pool)
        total = 0.0
        for name, count in counts:
            own = self._of[name]
            drawn = count
            if SOURCES[name].method == "host":
                drawn = -(-count // CHUNK) * CHUNK
            total += drawn * float(np.mean([one["proposed"] for one in own]))
            some = [one["relaxed"] for one in pool if one["source"] == name]
            total += count * float(np.mean(some))
        minima: dict[int, Counter[str]] = {}
        for one in pool:
            minima.setdefault(one["minimum"], Counter())[one["source"]] += 1
        ranked = {one["minimum"]: float(one["ranked"]) for one in pool}
        for number, members in minima.items():
            none = [_none_of(n, size[name], taken[name]) for name, n in members.items()]
            total += ranked[number] * (1.0 - math.prod(none))
        return total


def _none_of(some: int, size: int, taken: int) -> float:
    """Return the probability that `taken` of `size` candidates contain none of `some` of them."""
    return math.comb(size - some, taken) / math.comb(size, taken)


def group_of(crystal: Measured, limits: Sequence[int]) -> tuple[str, int | None]:
    """Return the class of a crystal and the limit of its number of missing sites."""
    limit = next((n for n in sorted(limits) if crystal.n_sites <= n), None)
    return crystal.host_class, limit


def all_shares(names: Sequence[str], total: int) -> list[tuple[tuple[str, float], ...]]:
    """Return all shares of some sources that are integers with this sum."""
    found = []
    for bars in combinations(range(total + len(names) - 1), len(names) - 1):
        ends = [-1, *bars, total + len(names) - 1]
        parts = [end - start - 1 for start, end in pairwise(ends)]
        order = sorted(zip(names, parts, strict=True), key=lambda item: -item[1])
        found.append(tuple((name, float(part)) for name, part in order if part))
    return found


class Search:
    """Mixes of equal cost on the crystals of one group.

    Args:
        crystals: At least one.
        baseline: The mix that gives the cost.
        names: Sources.
        total: Sum of the shares.
        cost: Largest cost, in that of the baseline.
    """

    def __init__(
        self,
        crystals: Sequence[Measured],
        baseline: Mixture,
        names: Sequence[str],
        *,
        total: int,
        cost: float,
    ) -> None:
        limit = cost * sum(one.seconds(baseline) for one in crystals)
        self.mixtures = [
            Mixture(shares, k)
            for shares in all_shares(names, total)
            if (k := _largest(shares, crystals, limit))
        ]
        rates = [[one.rates(mixture) for one in crystals] for mixture in self.mixtures]
        self.goal = np.array(rates).sum(axis=2)  # LES and match count alike

    def best(self, chosen: np.ndarray) -> Mixture:
        """Return the best mix on some crystals, given by their numbers."""
        return self.mixtures[int(np.argmax(self.goal[:, chosen].mean(axis=1).round(9)))]


def _largest(
    shares: tuple[tuple[str, float], ...], crystals: Sequence[Measured], limit: float
) -> int:
    """Return the largest k of a mix within a cost, for which there are enough candidates."""
    asked = {name: min(one.asked[name] for one in crystals) for name, _ in shares}
    enough = {name: count for name, count in asked.items() if count}
    low, high = 0, 0
    while _fits(schedule(dict(shares), high + 1), enough):
        high += 1
    while low < high:
        middle = (low + high + 1) // 2
        cost = sum(one.seconds(Mixture(shares, middle)) for one in crystals)
        low, high = (middle, high) if cost <= limit else (low, middle - 1)
    return low


def _fits(plan: Sequence[tuple[str, int]], measured: Mapping[str, int]) -> bool:
    """Return whether there are as many candidates of each source as a plan has."""
    return all(number < measured.get(name, 0) for name, number in plan)


def compare(
    crystals: Sequence[Measured], mixtures: Sequence[Mixture], baseline: Sequence[Mixture]
) -> dict[str, Any]:
    """Return rates, cost and tests of one mix for each crystal against its baseline."""
    pairs = list(zip(crystals, mixtures, baseline, strict=True))
    ours = np.array([one.rates(mix) for one, mix, _ in pairs])
    theirs = np.array([one.rates(base) for one, _, base in pairs])
    cells: dict[str, Any] = {
        "crystals": len(pairs),
        "seconds": round(float(np.mean([one.seconds(mix) for one, mix, _ in pairs])), 2),
    }
    for number, outcome in enumerate(OUTCOMES):
        random = np.random.default_rng(SEED)
        cells[outcome] = rate_cell(ours[:, number], generator=random)
        cells[f"{outcome}_gain"] = _change(ours[:, number] - theirs[:, number])
        cells[f"{outcome}_test"] = won_lost(
            np.array([one.first(mix)[number] for one, mix, _ in pairs]),
            np.array([one.first(base)[number] for one, _, base in pairs]),
        )
    return cells


def _change(values: np.ndarray) -> dict[str, float]:
    low, high = bootstrap_interval(values, generator=np.random.default_rng(SEED))
    return percent_cell(float(values.mean()), float(low), float(high))


def search(
    crystals: Sequence[Measured], baseline: Mixture, args: argparse.Namespace
) -> dict[str, Any]:
    """Return the best shares of each group, and what cross-validation says of the choice."""
    groups: dict[tuple[str, int | None], list[Measured]] = {}
    for one in crystals:
        groups.setdefault(group_of(one, args.sites), []).append(one)
    entries, promised = [], {}
    for (name, limit), members in sorted(
        groups.items(), key=lambda item: (item[0][0], item[0][1] or 10**9)
    ):
        found = Search(members, baseline, args.sources, total=args.total, cost=args.cost)
        fold = np.random.default_rng(SEED).permutation(len(members)) % args.folds
        for number, one in enumerate(members):
            others = np.flatnonzero(fold != fold[number])
            promised[one.id] = found.best(others if len(others) else np.array([number]))
        best = found.best(np.arange(len(members)))
        own = {"host_class": name, "max_sites": limit, "shares": dict(best.shares)}
        entries.append(
            {
                **own,
                "k": best.k,
                **compare(members, [best] * len(members), [baseline] * len(members)),
            }
        )
    chosen = [promised[one.id] for one in crystals]
    validated = compare(crystals, chosen, [baseline] * len(crystals))
    return {"entries": entries, "cross_validated": validated}


def report(
    crystals: Sequence[Measured], baseline: Mixture, mixtures: Iterable[Mixture]
) -> list[dict[str, Any]]:
    """Return the rows of given mixes, of all crystals and of each class."""
    rows = []
    for mixture in mixtures:
        for name in ("all", *CLASSES):
            some = [one for one in crystals if name in ("all", one.host_class)]
            if some:
                n = len(some)
                rows.append(
                    {
                        "mix": str(mixture),
                        "class": name,
                        **compare(some, [mixture] * n, [baseline] * n),
                    }
                )
    return rows


def write_table(path: Path, table: dict[str, Any]) -> None:
    """Write a table; title and commands of the one that is there are kept."""
    old = read_json(path) if path.exists() else {}
    kept = {key: old[key] for key in ("title", "commands") if key in old}
    write_json(path, {**table, **kept})


def as_table(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the rows of all crystals as a table of docs/benchmarks, without its commands."""
    some = [row for row in rows if row["class"] == "all"]
    titles = {"les": "LES", "matched": "match", "matched_gain": "change of match"}
    columns: list[dict[str, Any]] = [
        {"key": key, "title": title, "unit": "points" if "gain" in key else "%", "digits": 1}
        for key, title in titles.items()
    ]
    columns.append({"key": "matched_test", "title": "matches won : lost"})
    columns.append({"key": "seconds", "title": "core-seconds", "digits": 1})
    return {
        "title": "Lowest of a mix of sources",
        "crystals": some[0]["crystals"],
        "label": "candidates",
        "columns": columns,
        "rows": [
            {
                "key": row["mix"].replace(" ", "_"),
                "label": row["mix"].partition(", k = ")[0],
                "cells": {column["key"]: row[column["key"]] for column in columns},
            }
            for row in some
        ],
    }


def main() -> None:
    """Print and write the comparison and the search."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("measured", type=Path, nargs="+", help="JSON lines of measure_cover.py")
    parser.add_argument("--baseline", default="host:10", help="mix whose cost counts")
    parser.add_argument(
        "--mixes", nargs="*", default=[], metavar="NAME:N,...", help="or mix:N; to compare"
    )
    parser.add_argument("--sources", nargs="*", default=list(SOURCES), help="to search")
    parser.add_argument("--classes", nargs="+", choices=CLASSES, default=CLASSES, help="of hosts")
    parser.add_argument("--total", type=int, default=10, help="sum of the shares")
    parser.add_argument("--cost", type=float, default=1.2, help="largest, in that of the baseline")
    parser.add_argument("--sites", type=int, nargs="*", default=[], help="limits between groups")
    parser.add_argument("--folds", type=int, default=10)
    parser.add_argument("--output", type=Path, help="JSON to write")
    parser.add_argument("--table", type=Path, help="JSON of a table of docs/benchmarks to write")
    args = parser.parse_args()
    records = [line for path in args.measured for line in read_json_lines(path)]
    usable = [record for record in records if record["usable"]]
    crystals = [Measured(record) for record in usable if record["host_class"] in args.classes]
    baseline = Mixture.read(args.baseline)
    result: dict[str, Any] = {"baseline": str(baseline)}
    result["mixes"] = report(crystals, baseline, map(Mixture.read, [args.baseline, *args.mixes]))
    if args.sources:
        result["search"] = search(crystals, baseline, args)
    print(json.dumps(result, indent=1, ensure_ascii=False))
    if args.output:
        write_json(args.output, result)
    if args.table:
        write_table(args.table, as_table(result["mixes"]))


if __name__ == "__main__":
    run_command(main)
