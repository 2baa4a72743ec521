"""Method mix: the candidates of a structure come from several sources in turn.

A source is a method of its own, with its own settings. The class of the host and its number of
missing sites give the shares of the sources (mix.json, where the first entry that fits counts).
Shares become an order by the rule of Sainte-Lague: next is the source of largest share / (2 n + 1),
n being its candidates so far. The order does not depend on the number of candidates, so candidate i
is a function of (seed, id, i), and the first k candidates are a mix themselves.

A source that has no further candidate, such as `voids` in a host with one void, leaves its places
to the others.

A source may look at several proposals for each of its candidates. They come after the candidates in
the batch, and RELAX keeps those of lowest energy (relax/screen.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xtalfill.core.errors import ConfigError
from xtalfill.core.io import read_json

MIX = "mix"
FILE = Path(__file__).with_suffix(".json")
# A host without any of these is a metal or metalloid. Hydrogen itself decides nothing.
_NON_METALS = frozenset((2, 6, 7, 8, 9, 10, 15, 16, 17, 18, 34, 35, 36, 53, 54, 86))
_METALLOIDS = frozenset((5, 14, 32, 33, 51, 52, 85))
_HYDROGEN = 1
CLASSES = ("metal", "salt", "molecule")


@dataclass(frozen=True)
class Source:
    """Where candidates come from.

    Attributes:
        name: As in the column `source` of candidates.csv.
        method: The method that proposes them.
        renoise: Replaces that setting of the sampler; None keeps it.
        looks: Proposals for each of its candidates; a larger --oversample replaces it.
    """

    name: str
    method: str
    renoise: float | None = None
    looks: int = 1

    def stream(self, structure_id: str) -> str:
        """Return what stands for the id in the key of the noise.

        A source that is a plain method has the candidates of that method. Another one has noise of
        its own, or its candidates would resemble those of the method.
        """
        return structure_id if self.name == self.method else f"{structure_id}|{self.name}"


@dataclass(frozen=True)
class Share:
    """The shares of sources for some hosts.

    Attributes:
        host_class: One of `CLASSES`.
        max_sites: Largest number of missing sites; None for any.
        shares: Name of a source -> its share, in any unit.
    """

    host_class: str
    max_sites: int | None
    shares: Mapping[str, float]


@dataclass(frozen=True)
class Mix:
    """Sources and their shares.

    Attributes:
        sources: Name -> source.
        entries: The first one that fits a host counts.
        instead_of_molecules: Source of numbered ways that replaces every second candidate with a
            hydrogen molecule, where it has no share; None replaces none (molecules.py).

    Raises:
        ConfigError: A source or class is unknown, a share is negative or all are 0, or a class has
            no entry for any number of sites, or a source has no proposal for a candidate.
    """

    sources: Mapping[str, Source]
    entries: Sequence[Share]
    instead_of_molecules: str | None = None

    def __post_init__(self) -> None:
        if self.instead_of_molecules not in (None, *self.sources):
            raise ConfigError(f"mix: the source {self.instead_of_molecules} is unknown")
        if few := [name for name, source in self.sources.items() if source.looks < 1]:
            raise ConfigError(f"mix: the source {few[0]} must look at 1 proposal or more")
        for entry in self.entries:
            if entry.host_class not in CLASSES:
                raise ConfigError(f"mix: the class {entry.host_class} is unknown")
            if unknown := sorted(entry.shares.keys() - self.sources.keys()):
                raise ConfigError(f"mix: the source {unknown[0]} is unknown")
            values = entry.shares.values()
            if min(values, default=0) < 0 or max(values, default=0) <= 0:
                raise ConfigError(f"mix: the shares of {entry.host_class} must be 0 or more")
        whole = {entry.host_class for entry in self.entries if entry.max_sites is None}
        if missing := [name for name in CLASSES if name not in whole]:
            raise ConfigError(f"mix: the class {missing[0]} has no shares for any number of sites")

    def shares(self, own_class: str, n_sites: int) -> Mapping[str, float]:
        """Return the shares for the class of a host and its number of missing sites."""
        return next(
            entry.shares
            for entry in self.entries
            if entry.host_class == own_class
            and (entry.max_sites is None or n_sites <= entry.max_sites)
        )

    def n_proposals(self, own_class: str, n_sites: int, *, samples: int, oversample: int) -> int:
        """Return the number of proposals for the candidates of a host.

        Args:
            own_class: Of the host.
            n_sites: Its number of missing sites.
            samples: Number of candidates.
            oversample: Least number of proposals for each.
        """
        plan = schedule(self.shares(own_class, n_sites), samples)
        return sum(self.looks(name, oversample) for name, _ in plan)

    def looks(self, name: str, oversample: int) -> int:
        """Return the number of proposals for each candidate of a source."""
        return max(oversample, self.sources[name].looks)


def read_mix(path: Path = FILE) -> Mix:
    """Read sources and shares.

    Raises:
        ConfigError: They do not fit together.
    """
    content: dict[str, Any] = read_json(path)
    sources = {name: Source(name, **values) for name, values in content["sources"].items()}
    entries = [Share(**entry) for entry in content["shares"]]
    return Mix(sources, entries, content.get("instead_of_molecules"))


def host_class(numbers: Iterable[int]) -> str:
    """Return the class of a host.

    Returns:
        "metal" without a non-metal (metalloids are no non-metals here), "molecule" without a metal,
        else "salt".
    """
    elements = set(numbers) - {_HYDROGEN}
    if not elements & _NON_METALS:
        return "metal"
    return "salt" if elements - _NON_METALS - _METALLOIDS else "molecule"


def schedule(
    shares: Mapping[str, float], count: int, *, capacity: Mapping[str, int] | None = None
) -> list[tuple[str, int]]:
    """Return the source of each candidate, and the number of the candidate in it.

    Args:
        shares: Name of a source -> its share.
        count: Number of candidates.
        capacity: Largest number of candidates of a source; no limit for one that is not named.

    Returns:
        (name, number) of each candidate; fewer than `count` if all sources are used up. Ties go to
        the first source in `shares`.
    """
    limit = {} if capacity is None else capacity
    taken = {name: 0 for name, share in shares.items() if share > 0}
    found: list[tuple[str, int]] = []
    for _ in range(count):
        open_ = [name for name in taken if taken[name] < limit.get(name, count)]
        if not open_:
            break
        name = max(open_, key=lambda one: shares[one] / (2 * taken[one] + 1))
        found.append((name, taken[name]))
        taken[name] += 1
    return found


def schedule_within(
    shares: Mapping[str, float], count: int, available: Callable[[str, int], int]
) -> list[tuple[str, int]]:
    """Return the schedule of a host whose sources may be used up.

    Args:
        shares: Name of a source -> its share.
        count: Number of candidates.
        available: Returns how many of the wanted number of candidates a source has.
    """
    capacity: dict[str, int] = {}
    while True:
        found = schedule(shares, count, capacity=capacity)
        short = False
        for name in dict.fromkeys(name for name, _ in found):
            wanted = sum(one == name for one, _ in found)
            has = available(name, wanted)
            if has < wanted:
                capacity[name], short = has, True
        if not short:
            return found
