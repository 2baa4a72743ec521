"""Write results into the database: each call is one transaction, all of it or nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from xtalfill.core.errors import ConfigError
from xtalfill.database import schema
from xtalfill.database.connect import Database
from xtalfill.database.recipe import Recipe, content_digest
from xtalfill.database.records import Record
from xtalfill.database.runs import INSERT, id_of, now

_KEY = ("name", "host_key", "recipe_id")


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
    stored = now()
    with database.transaction(write=True) as connection:
        insert = INSERT[connection.dialect.name]
        found = connection.execute(sa.select(schema.run.c.id).where(schema.run.c.uid == uid))
        if (run_id := found.scalar_one_or_none()) is None:
            raise ConfigError(
                f"{database.name}: run {uid} is not registered; was the database replaced? Repeat "
                "the run with -resume"
            )
        content = {"digest": recipe.digest, "content": recipe.content}
        recipe_id = id_of(connection, schema.recipe, "digest", content)
        common = {"run_id": run_id, "recipe_id": recipe_id, "stored": stored}
        histories: dict[str, int] = {}
        # In one order everywhere: two processes that store the same rows cannot block each other.
        for record in sorted(
            records, key=lambda one: (one.columns["name"], one.columns["host_key"])
        ):
            digest = content_digest(record.history)
            if digest not in histories:
                new = {"digest": digest, "content": record.history}
                histories[digest] = id_of(connection, schema.history, "digest", new)
            values = record.columns | common | {"history_id": histories[digest]}
            statement = insert(schema.structure).values(values)
            changed = {name: statement.excluded[name] for name in values if name not in _KEY}
            structure_id = connection.execute(
                statement.on_conflict_do_update(index_elements=_KEY, set_=changed).returning(
                    schema.structure.c.id
                )
            ).scalar_one()
            _replace_candidates(connection, structure_id, record.candidates)


def _replace_candidates(
    connection: Connection, structure_id: int, rows: list[dict[str, Any]]
) -> None:
    table = schema.candidate
    connection.execute(table.delete().where(table.c.structure_id == structure_id))
    if rows:
        shown = ("method", "sample", "status", "energy")
        values = [{name: row[name] for name in shown} | {"summary": row} for row in rows]
        connection.execute(table.insert(), [{"structure_id": structure_id} | one for one in values])
