"""Write results into the database: each call is one transaction, all of it or nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Connection

from xtalfill.core.errors import ConfigError
from xtalfill.database import schema
from xtalfill.database.connect import Database
from xtalfill.database.recipe import Recipe, content_digest
from xtalfill.database.records import Record

# The two have the same methods, but no type in common that has them.
_INSERT: dict[str, Any] = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}
_KEY = ("name", "host_key", "recipe_id")


@dataclass(frozen=True)
class RunRecord:
    """A run as it is stored.

    Attributes:
        uid: Differs from run to run; the same after -resume.
        parameters: All parameters.
        workflow: Version, git revision, version of Nextflow and so on.
    """

    uid: str
    parameters: dict[str, Any]
    workflow: dict[str, Any]


def register(database: Database, run: RunRecord) -> str:
    """Note a run, unless the database has it.

    Args:
        database: Where to.
        run: The run.

    Returns:
        When it was noted, UTC (ISO 8601). A database that was lost and made again gives another
        time.

    Raises:
        TryAgainError: The database did not answer in time.
    """
    new = {"uid": run.uid, "first_stored": _now(), "parameters": run.parameters}
    with database.transaction(write=True) as connection:
        run_id = _find(connection, schema.run, "uid", new | {"workflow": run.workflow})
        noted = sa.select(schema.run.c.first_stored).where(schema.run.c.id == run_id)
        return str(connection.execute(noted).scalar_one())


def add(database: Database, records: Sequence[Record], *, uid: str, recipe: Recipe) -> None:
    """Store structures; one with the same name, host and recipe is replaced.

    Args:
        database: Where to.
        records: The structures.
        uid: The run that they are from; it must be registered.
        recipe: What decided their results.

    Raises:
        ConfigError: The database does not know the run.
        TryAgainError: The database did not answer in time.
    """
    now = _now()
    with database.transaction(write=True) as connection:
        insert = _INSERT[connection.dialect.name]
        found = connection.execute(sa.select(schema.run.c.id).where(schema.run.c.uid == uid))
        if (run_id := found.scalar_one_or_none()) is None:
            raise ConfigError(
                f"{database.name}: run {uid} is not registered; was the database replaced? Repeat "
                "the run with -resume"
            )
        content = {"digest": recipe.digest, "content": recipe.content}
        recipe_id = _find(connection, schema.recipe, "digest", content)
        common = {"run_id": run_id, "recipe_id": recipe_id, "stored": now}
        histories: dict[str, int] = {}
        # In one order everywhere: two processes that store the same rows cannot block each other.
        for record in sorted(
            records, key=lambda one: (one.columns["name"], one.columns["host_key"])
        ):
            digest = content_digest(record.history)
            if digest not in histories:
                new = {"digest": digest, "content": record.history}
                histories[digest] = _find(connection, schema.history, "digest", new)
            values = record.columns | common | {"history_id": histories[digest]}
            statement = insert(schema.structure).values(values)
            changed = {name: statement.excluded[name] for name in values if name not in _KEY}
            structure_id = connection.execute(
                statement.on_conflict_do_update(index_elements=_KEY, set_=changed).returning(
                    schema.structure.c.id
                )
            ).scalar_one()
            _replace_candidates(connection, structure_id, record.candidates)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def _find(connection: Connection, table: sa.Table, key: str, values: dict[str, Any]) -> int:
    """Return the id of the row with this key; insert it if there is none."""
    insert = _INSERT[connection.dialect.name]
    connection.execute(insert(table).values(values).on_conflict_do_nothing(index_elements=[key]))
    found = connection.execute(sa.select(table.c.id).where(table.c[key] == values[key]))
    return int(found.scalar_one())


def _replace_candidates(
    connection: Connection, structure_id: int, rows: list[dict[str, Any]]
) -> None:
    table = schema.candidate
    connection.execute(table.delete().where(table.c.structure_id == structure_id))
    if rows:
        shown = ("method", "sample", "status", "energy")
        values = [{name: row[name] for name in shown} | {"summary": row} for row in rows]
        connection.execute(table.insert(), [{"structure_id": structure_id} | one for one in values])
