"""The potentials that have a name of their own, from potentials.json."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xtalfill.registry import read_entries, without_documentation

FILE = Path(__file__).with_name("potentials.json")


@dataclass(frozen=True)
class PotentialEntry:
    """A potential.

    Attributes:
        name: As in --mlip and --mlip_rank.
        loader: Key of the class in `xtalfill.relax.potentials` that loads it.
        bundled: Its model file in assets/potential; None if the project has none.
        cutoff: Angstrom; longest edge. lib/Sizes.groovy estimates memory with it.
        elements: Nuclear charges that it knows; None where its model file gives them.
        url: Where FETCH_POTENTIAL downloads its model file; None if no download is needed.
        sha256: Of that file.
        ranks: Whether it is the default of --mlip_rank where --potential_dir has its file: it
            orders minima best by DFT (docs/benchmarks/potentials.md).
    """

    name: str
    loader: str
    bundled: str | None
    cutoff: float
    elements: frozenset[int] | None
    url: str | None = None
    sha256: str | None = None
    ranks: bool = False

    @property
    def needs_file(self) -> bool:
        """Whether a model file is loaded: bundled, or downloaded before."""
        return self.bundled is not None or self.url is not None


def short_name(mlip: str) -> str:
    """Return the name of a potential for a table; of a model file without folder and ending."""
    return Path(mlip).name.removesuffix(".nqx").removesuffix(".nequip.zip")


def _entry(content: dict[str, Any]) -> PotentialEntry:
    """Return an entry; the file has ranges of elements, the ends included."""
    ranges = content.pop("elements")
    numbers = None if ranges is None else (n for a, b in ranges for n in range(a, b + 1))
    return PotentialEntry(**content, elements=None if numbers is None else frozenset(numbers))


POTENTIALS = {entry["name"]: _entry(without_documentation(entry)) for entry in read_entries(FILE)}
