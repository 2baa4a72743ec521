"""Read the results database: what is stored, by formula, elements, status and energies."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from ase.data import chemical_symbols

from xtalfill.core.errors import ConfigError
from xtalfill.core.text import one_line
from xtalfill.database.connect import Database
from xtalfill.database.records import reduced_formula
from xtalfill.database.schema import candidate, history, recipe, run, structure

_AT_ONCE = 500


@dataclass(frozen=True, kw_only=True)
class Filter:
    """Which structures a query returns; None and () do not restrict.

    Attributes:
        formula: In any order and multiple, as H2MgO2 or Mg(OH)2.
        elements: Symbols that the crystal has, all of them.
        ids: Names of structures.
        status: One of ok, unconverged, failed, refused.
        dft_status: Status of the validation by DFT.
        min_confidence: Least value of the column `confidence` of results.csv; results without odds
            do not pass.
        max_confidence: Its largest value; likewise.
        min_match: Least value of the column `confidence_match`; likewise.
        max_match: Its largest value; likewise.
        min_gap: eV per cell, the least `energy_gap`.
        max_gap: eV per cell, the largest `energy_gap`.
        all_versions: Every stored result of a structure, not only the latest.
        limit: The most structures.
    """

    formula: str | None = None
    elements: tuple[str, ...] = ()
    ids: tuple[str, ...] = ()
    status: str | None = None
    dft_status: str | None = None
    min_confidence: float | None = None
    max_confidence: float | None = None
    min_match: float | None = None
    max_match: float | None = None
    min_gap: float | None = None
    max_gap: float | None = None
    all_versions: bool = False
    limit: int | None = None

    def conditions(self) -> list[sa.ColumnElement[bool]]:
        """Return the conditions in SQL; values are bound, never part of the text.

        Raises:
            ConfigError: A formula or an element does not exist.
        """
        columns, found = structure.c, []
        if self.formula is not None:
            found.append(columns.reduced_formula == _reduced(self.formula))
        for symbol in self.elements:
            if symbol not in chemical_symbols[1:]:
                raise ConfigError(f"{one_line(symbol, limit=20)}: no element; give it as H or Mg")
            found.append(columns.elements.contains(f"-{symbol}-", autoescape=True))
        if self.ids:
            found.append(columns.name.in_(self.ids))
        if self.status is not None:
            found.append(columns.status == self.status)
        if self.dft_status is not None:
            found.append(columns.dft_status == self.dft_status)
        found += self._ranges()
        return found

    def _ranges(self) -> Iterator[sa.ColumnElement[bool]]:
        """Yield the conditions on numbers; NULL passes none of them."""
        best = structure.c.results  # the rows of results.csv, the best one first
        for value, least, most in (
            (structure.c.energy_gap, self.min_gap, self.max_gap),
            (best[(0, "confidence")].as_float(), self.min_confidence, self.max_confidence),
            (best[(0, "confidence_match")].as_float(), self.min_match, self.max_match),
        ):
            if least is not None:
                yield value >= least
            if most is not None:
                yield value <= most


def _reduced(formula: str) -> str:
    try:
        return reduced_formula(formula)
    except (ValueError, KeyError, IndexError) as error:
        raise ConfigError(f"{one_line(formula, limit=40)}: not a formula, as MgO2H2") from error


def select_ids(wanted: Filter) -> sa.Select:
    """Return the statement for the ids of a query, in the order of names and times."""
    newest = (structure.c.stored.desc(), structure.c.id.desc())
    age = sa.func.row_number().over(partition_by=structure.c.name, order_by=newest)
    ranked = sa.select(structure.c.id, age.label("age")).subquery()
    statement = (
        sa.select(structure.c.id)
        .join(ranked, ranked.c.id == structure.c.id)
        .where(*wanted.conditions())
        .order_by(structure.c.name, structure.c.stored, structure.c.id)
    )
    if not wanted.all_versions:
        statement = statement.where(ranked.c.age == 1)
    return statement if wanted.limit is None else statement.limit(wanted.limit)


def read(database: Database, wanted: Filter) -> Iterator[dict[str, Any]]:
    """Yield the columns of each structure, and its `run`, `recipe` and `history`.

    Only ids are held in memory. Each part of the rows is a transaction of its own, so that a long
    export does not lock out a run that stores results.
    """
    with database.transaction() as connection:
        ids = list(connection.execute(select_ids(wanted)).scalars())
    columns: list[Any] = [structure, run.c.uid.label("run"), recipe.c.content.label("recipe")]
    statement = sa.select(*columns, history.c.content.label("history")).select_from(
        structure.join(run).join(recipe).outerjoin(history)
    )
    for start in range(0, len(ids), _AT_ONCE):
        part = ids[start : start + _AT_ONCE]
        with database.transaction() as connection:
            found = connection.execute(statement.where(structure.c.id.in_(part))).mappings()
            rows = {row["id"]: dict(row) for row in found}
        yield from (rows[one] for one in part if one in rows)


def read_candidates(database: Database, structure_id: int) -> list[dict[str, Any]]:
    """Return the rows of candidates.csv of a stored structure."""
    statement = sa.select(candidate.c.summary).where(candidate.c.structure_id == structure_id)
    ordered = statement.order_by(candidate.c.method, candidate.c.sample)
    with database.transaction() as connection:
        return list(connection.execute(ordered).scalars())


def count(database: Database) -> dict[str, Any]:
    """Return the numbers of structures by status, of runs, recipes and candidates."""
    with database.transaction() as connection:

        def number(table: sa.Table) -> int:
            return int(
                connection.execute(sa.select(sa.func.count()).select_from(table)).scalar_one()
            )

        latest = structure.c.id.in_(select_ids(Filter()))
        by_status = {
            name: connection.execute(
                sa.select(structure.c[name], sa.func.count())
                .where(latest)
                .group_by(structure.c[name])
            ).all()
            for name in ("status", "dft_status")
        }
        return {
            "structures": sum(total for _, total in by_status["status"]),
            **{
                name: {key: total for key, total in rows if key} for name, rows in by_status.items()
            },
            "results": number(structure),
            "candidates": number(candidate),
            "runs": number(run),
            "recipes": number(recipe),
            "last_stored": connection.execute(sa.select(sa.func.max(structure.c.stored))).scalar(),
        }
