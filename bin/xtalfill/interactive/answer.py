"""The answer for one structure: the restored crystal, its minima and all candidates."""

from __future__ import annotations

import html
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

import numpy as np
import pandas as pd
from ase import Atoms
from ase.data import chemical_symbols
from ase.geometry import get_distances

from xtalfill.checks.answer import Checks
from xtalfill.checks.stage import checks_of
from xtalfill.checks.symmetry import SYMMETRY_TOLERANCE, symmetry_dataset
from xtalfill.core.batch import Batch
from xtalfill.core.counts import counted_of
from xtalfill.core.errors import InputError
from xtalfill.core.io import atomic_writer
from xtalfill.core.relaxations import final_stage, ranking_agrees
from xtalfill.interactive.given import Crystal
from xtalfill.results.candidate_source import LAST_RELAXATION, CandidateSource
from xtalfill.results.cif import format_cif
from xtalfill.results.confidence import (
    Confidence,
    Relaxed,
    confidence,
    not_calibrated,
    odds_text,
)
from xtalfill.results.counts import CountRow, count_rows

CANDIDATE_COLUMNS = ("method", "sample", "status", "message", "energy", "rank", "minimum")
CHECK_COLUMNS = tuple(item.name for item in fields(Checks))
COUNT_COLUMNS = tuple(item.name for item in fields(CountRow))
MINIMUM_COLUMNS = (
    "method",
    "minimum",
    "energy_above_best",
    "n_candidates",
    "space_group",
    "shortest_bond",
    "bond",
    "status",
    "sample",
)


@dataclass(frozen=True, eq=False, repr=False)
class Answer:
    """What `restore` found for one structure.

    Attributes:
        id: Name of the structure; with the seed it determines the candidates.
        status: "ok" or "unconverged" of the best candidate, or "failed" if there is none.
        message: Why, in one line; empty if ok.
        notes: What CHECK decided, e.g. where the number of missing sites is from.
        minima: One row for each distinct minimum, the lowest first. `energy_above_best` is in eV
            per atom, `shortest_bond` the shortest distance from a restored site to an atom of the
            host in Å, `bond` the two elements, `sample` the lowest candidate of the minimum.
        candidates: One row for each candidate; `energy` in eV per cell.
        checks: One row for each minimum, with the columns of results.csv from `warnings` to
            `n_special`.
        confidence: Odds of the best crystal, `les` and `matched`; NaN unless `calibration` is
            "calibrated", which else says why not.
        counts: Where `n_missing="auto"` compared numbers: the rows of counts.csv, the likeliest
            first. The answer is that of the likeliest number above 0.
        crystals: The crystals of `minima`, in the type that was given; ASE Atoms for a path.
    """

    id: str
    status: str
    message: str = ""
    notes: tuple[str, ...] = ()
    minima: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=MINIMUM_COLUMNS))
    candidates: pd.DataFrame = field(
        default_factory=lambda: pd.DataFrame(columns=CANDIDATE_COLUMNS)
    )
    checks: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=CHECK_COLUMNS))
    confidence: Confidence = field(default_factory=lambda: not_calibrated("no crystal"))
    counts: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=COUNT_COLUMNS))
    crystals: tuple[Crystal, ...] = ()
    _atoms: tuple[Atoms, ...] = ()
    _is_host: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=bool))

    @property
    def best(self) -> Crystal | None:
        """The crystal of lowest energy, converged ones before others; None if all failed."""
        return self.crystals[0] if self.crystals else None

    def to_cif(self, path: str | Path | None = None, *, number: int = 0) -> str:
        """Return a crystal as CIF text, and write it if a path is given.

        Args:
            path: File to write; None writes nothing.
            number: Row of `minima`; 0 is the best.

        Raises:
            InputError: There is no such crystal.
        """
        if not 0 <= number < len(self._atoms):
            reason = self.message or f"it has {len(self._atoms)} minima"
            raise InputError(f"{self.id}: there is no crystal number {number} ({reason})")
        text = format_cif(self._atoms[number], name=self.id, is_host=self._is_host)
        if path is not None:
            with atomic_writer(Path(path)) as file:
                file.write(text)
        return text

    def __repr__(self) -> str:
        head = f"Answer({self.id!r}, {self.status}"
        if self.message:
            return f"{head}: {self.message})"
        minima = "minimum" if len(self.minima) == 1 else "minima"
        return f"{head}, {len(self.minima)} {minima} of {len(self.candidates)} candidates)"

    def _repr_html_(self) -> str:
        """Return the table of minima and the best crystal in 3-D, for a notebook."""
        odds = odds_text(self.confidence)
        text = "".join(f"<p>{html.escape(line)}</p>" for line in (repr(self), odds) if line)
        if not self._atoms:
            return text
        from xtalfill.interactive.view import crystal_frame

        table = self.minima.to_html(index=False, float_format=lambda value: f"{value:.3f}")
        return text + table + crystal_frame(self._atoms[0], self._is_host)


def make_answer(
    batch: Batch,
    members: list[int],
    *,
    notes: tuple[str, ...],
    form: Callable[[Atoms], Crystal],
) -> Answer:
    """Return the answer for one structure of a batch after SELECT.

    Args:
        batch: The batch.
        members: The candidates of the structure.
        notes: Of CHECK.
        form: Converts a crystal to the type that was given.
    """
    candidates = _candidates(batch, members)
    ranked = _ranked_minima(candidates)
    stage = final_stage(batch)
    atoms = tuple(batch.to_ase(members[row], stage=stage) for row in ranked)
    is_host = batch.is_host[batch.atoms_slice(members[0])]
    status, message = _outcome(candidates, ranked)
    return Answer(
        id=str(batch.id[members[0]]),
        status=status,
        message=message,
        notes=notes,
        minima=_minima(candidates, ranked, atoms, is_host),
        candidates=candidates,
        checks=pd.DataFrame(
            [checks_of(batch, members[row], stage) for row in ranked], columns=list(CHECK_COLUMNS)
        ),
        confidence=_confidence(batch, members, ranked),
        counts=_counts(batch, counted_of(str(batch.id[members[0]]))),
        crystals=tuple(form(crystal.copy()) for crystal in atoms),
        _atoms=atoms,
        _is_host=is_host,
    )


def _counts(batch: Batch, name: str) -> pd.DataFrame:
    rows = [row for row in count_rows(batch) if row.id == name]
    return pd.DataFrame([asdict(row) for row in rows], columns=list(COUNT_COLUMNS))


def _candidates(batch: Batch, members: list[int]) -> pd.DataFrame:
    energy = batch.stages[final_stage(batch)].arrays["energy"]
    select = batch.stages["select"].arrays
    columns = {
        "method": batch.method[members],
        "sample": batch.sample[members],
        "status": batch.status[members],
        "message": batch.message[members],
        "energy": energy[members],
        "rank": select["rank_of_all"][members],
        "minimum": select["minimum_of_all"][members],
    }
    return pd.DataFrame(columns, columns=list(CANDIDATE_COLUMNS))


def _ranked_minima(candidates: pd.DataFrame) -> list[int]:
    """Return the row of the lowest candidate of each minimum over all methods, the best first."""
    usable = candidates[candidates["rank"] >= 0].sort_values("rank")
    return [int(row) for row in usable.drop_duplicates("minimum").index]


def _outcome(candidates: pd.DataFrame, ranked: list[int]) -> tuple[str, str]:
    """Return the status of a structure and its message."""
    if ranked:
        best = candidates.loc[ranked[0]]
        return str(best["status"]), str(best["message"])
    failed = candidates[candidates["status"] == "failed"]
    first = (candidates if failed.empty else failed).iloc[0]
    reason = f"no usable candidate of {len(candidates)}; the first: {first['message']}"
    return "failed", reason


def _confidence(batch: Batch, members: list[int], ranked: list[int]) -> Confidence:
    """Return the odds of the best candidate, as in results.csv."""
    if not ranked:
        return not_calibrated("no crystal")
    best, rows = members[ranked[0]], {}
    for index in members:
        if batch.method[index] == batch.method[best] and batch.status[index] != "absent":
            source = CandidateSource(batch, index, input_formula="")
            rows[index] = Relaxed(
                method=str(batch.method[index]),
                element=source.element,
                n_missing=len(source.filled),
                n_atoms=len(source.atoms),
                status=str(batch.status[index]),
                energy=float(source.read(LAST_RELAXATION, "energy")),
                ranking_agrees=ranking_agrees(batch, index),
            )
    stages = {name: stage.attrs for name, stage in batch.stages.items()}
    return confidence(rows[best], list(rows.values()), stages)


def _minima(
    candidates: pd.DataFrame, ranked: list[int], atoms: tuple[Atoms, ...], is_host: np.ndarray
) -> pd.DataFrame:
    sizes = candidates.groupby("minimum").size()
    rows = []
    for row, crystal in zip(ranked, atoms, strict=True):
        one, best = candidates.loc[row], candidates.loc[ranked[0]]
        length, bond = shortest_bond(crystal, is_host)
        rows.append(
            {
                "method": one["method"],
                "minimum": int(one["minimum"]),
                "energy_above_best": (one["energy"] - best["energy"]) / len(crystal),
                "n_candidates": int(sizes[one["minimum"]]),
                "space_group": space_group(crystal),
                "shortest_bond": length,
                "bond": bond,
                "status": one["status"],
                "sample": int(one["sample"]),
            }
        )
    return pd.DataFrame(rows, columns=list(MINIMUM_COLUMNS))


def space_group(atoms: Atoms, *, tolerance: float = SYMMETRY_TOLERANCE) -> str:
    """Return the symbol of the space group within a tolerance in Å; empty if unknown."""
    found = symmetry_dataset(atoms, tolerance)
    return "" if found is None else str(found.international)


def shortest_bond(atoms: Atoms, is_host: np.ndarray) -> tuple[float, str]:
    """Return the shortest distance from a restored site to a host atom, Å, and its elements."""
    restored, host = np.flatnonzero(~is_host), np.flatnonzero(is_host)
    _, lengths = get_distances(
        atoms.positions[restored], atoms.positions[host], cell=atoms.cell, pbc=True
    )
    site, other = np.unravel_index(int(np.argmin(lengths)), lengths.shape)
    pair = [int(atoms.numbers[index]) for index in (host[other], restored[site])]
    return float(lengths[site, other]), "-".join(chemical_symbols[number] for number in pair)
