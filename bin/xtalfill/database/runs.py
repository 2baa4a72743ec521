"""The runs that a results database knows."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Connection

from xtalfill.database import schema
from xtalfill.database.connect import Database

# The two have the same methods, but no type in common that has them.
INSERT: dict[str, Any] = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}


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
    new = {"uid": run.uid, "first_stored": now(), "parameters": run.parameters}
    with database.transaction(write=True) as connection:
        run_id = id_of(connection, schema.run, "uid", new | {"workflow": run.workflow})
        noted = sa.select(schema.run.c.first_stored).where(schema.run.c.id == run_id)
        return str(connection.execute(noted).scalar_one())


def now() -> str:
    """Return the time, UTC (ISO 8601)."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def id_of(connection: Connection, table: sa.Table, key: str, values: dict[str, Any]) -> int:
    """Return the id of the row with this key; insert it if there is none."""
    insert = INSERT[connection.dialect.name]
    connection.execute(insert(table).values(values).on_conflict_do_nothing(index_elements=[key]))
    found = connection.execute(sa.select(table.c.id).where(table.c[key] == values[key]))
    return int(found.scalar_one())
