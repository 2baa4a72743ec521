"""Where the columns of candidates.csv come from: the arrays of a batch after EVALUATE."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from ase import Atoms

from xtalfill.core.batch import Batch
from xtalfill.core.relaxations import final_stage, merged_with

DFT = "dft"
LAST_RELAXATION = "last relaxation"
Value = Callable[["CandidateSource"], Any]


@dataclass(frozen=True, eq=False)
class CandidateSource:
    """What the row of a candidate is read from.

    Attributes:
        batch: A batch after EVALUATE.
        index: Number of the candidate's system in the batch.
        input_formula: Formula in check.json; empty if unknown.
    """

    batch: Batch
    index: int
    input_formula: str

    @cached_property
    def atoms(self) -> Atoms:
        """The crystal, missing sites included."""
        return self.batch.to_ase(self.index)

    @cached_property
    def filled(self) -> list[str]:
        """Symbols of the filled sites."""
        is_host = self.batch.is_host[self.batch.atoms_slice(self.index)]
        return [self.atoms.symbols[site] for site in np.flatnonzero(~is_host)]

    @property
    def element(self) -> str:
        """Symbols of the elements of the filled sites."""
        return " ".join(sorted(set(self.filled)))

    @property
    def formula(self) -> str:
        """Formula in check.json, or that of the atoms."""
        return self.input_formula or str(self.atoms.get_chemical_formula(mode="metal"))

    @property
    def has_reference(self) -> bool:
        """Whether EVALUATE compared the candidate with a reference."""
        return bool(self.read("evaluate", "has_reference"))

    @property
    def sent_to_dft(self) -> bool:
        """Whether pw.x was asked to relax the candidate."""
        return DFT in self.batch.stages and bool(self.read(DFT, "status"))

    @property
    def compared_after_dft(self) -> bool:
        """Whether candidate and reference both converged with pw.x."""
        return self.sent_to_dft and bool(self.read("evaluate", "dft_has_reference"))

    @property
    def merged_with(self) -> int | None:
        """Sample whose relaxed crystal the candidate took over."""
        return merged_with(self.batch, self.index)

    @property
    def message(self) -> str:
        """Message of the candidate, or else that of EVALUATE."""
        return str(self.batch.message[self.index] or self.read("evaluate", "message"))

    @property
    def dft_rank(self) -> int | None:
        """Rank by DFT energy; None without such an energy."""
        rank = int(self.read("evaluate", "dft_rank")) if self.sent_to_dft else -1
        return rank if rank >= 0 else None

    def arrays(self, stage: str) -> dict[str, np.ndarray]:
        """Return the arrays of a stage; none where it was not run."""
        name = final_stage(self.batch) if stage == LAST_RELAXATION else stage
        return self.batch.stages[name].arrays if name in self.batch.stages else {}

    def read(self, stage: str, name: str) -> Any:
        """Return the candidate's entry in an array of a stage."""
        return self.arrays(stage)[name][self.index]


def check_value(name: str, kind: type) -> Value:
    """Read a check of the candidate; only the lowest one of each minimum has been checked."""
    empty = "" if kind is str else math.nan if kind is float else None

    def value(source: CandidateSource) -> Any:
        found = source.read("checks", name) if name in source.arrays("checks") else empty
        return empty if found is None or found != found else kind(found)  # noqa: PLR0124 - NaN

    return value


def system_value(name: str, kind: type = str) -> Value:
    """Read an array of the batch itself."""
    return lambda source: kind(getattr(source.batch, name)[source.index])


def stage_value(stage: str, name: str, kind: type) -> Value:
    """Read an array of a stage."""
    return lambda source: kind(source.read(stage, name))


def optional_value(stage: str, name: str, kind: type, *, unknown: Any = None) -> Value:
    """Read an array of a stage that may not have run or, in an older release, lacked it."""
    return lambda source: (
        kind(source.read(stage, name)) if name in source.arrays(stage) else unknown
    )


def verdict(name: str) -> Value:
    """Read a verdict of EVALUATE; None without a reference."""
    return lambda source: bool(source.read("evaluate", name)) if source.has_reference else None


def dft_value(stage: str, name: str, kind: type, *, unknown: Any) -> Value:
    """Read an array about a candidate that was sent to pw.x."""
    return lambda source: kind(source.read(stage, name)) if source.sent_to_dft else unknown


def dft_verdict(name: str) -> Value:
    """Read a verdict of EVALUATE on the crystal relaxed by pw.x."""
    return lambda source: bool(source.read("evaluate", name)) if source.compared_after_dft else None
