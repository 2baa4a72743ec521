"""Rows of an ASE database in PostgreSQL, read-only, some at a time.

The package ase-db-backends opens such a database, too, but it creates the tables where there are
none, and it needs the clients of MySQL.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from xtalfill.core.errors import InputError
from xtalfill.core.text import one_line
from xtalfill.inputs.structures.entry import ID_KEYS
from xtalfill.inputs.structures.jsonrecords import STOPPED

# Rows that are in memory at once.
_CHUNK = 500
_QUERY = "SELECT id, numbers, positions, cell, pbc, key_value_pairs FROM systems ORDER BY id"
_KEYS = (*ID_KEYS[1:], "element", "n_missing")


def database_records(url: str) -> Iterator[dict[str, Any]]:
    """Yield the rows of an ASE database as records with numbers, positions, cell and pbc.

    Args:
        url: `postgresql://user@host/database`, as `ase.db.connect` reads it.

    Yields:
        Records; the last one has the key `STOPPED` if the connection broke.

    Raises:
        InputError: The database cannot be read.
    """
    import psycopg

    name = url.rpartition("/")[2].partition("?")[0]
    count = 0
    try:
        with psycopg.connect(url, connect_timeout=30) as connection:
            connection.read_only = True
            with connection.cursor(name="xtalfill") as cursor:
                cursor.itersize = _CHUNK
                for row in cursor.execute(_QUERY):
                    count += 1
                    yield _record(row, name)
    except psycopg.Error as error:
        reason = one_line(error, limit=200)
        if not count:
            raise InputError(
                f"{name}: cannot be read as an ASE database in PostgreSQL ({reason}); check the "
                "URL, and the password in PGPASSWORD or ~/.pgpass"
            ) from error
        yield {STOPPED: f"the database broke off after {count} rows ({reason})"}
        return
    if not count:
        raise InputError(f"{name}: the database has no row; check the URL")


def _record(row: tuple[Any, ...], name: str) -> dict[str, Any]:
    """Return the record of a row; without an id of its own it has the number of the row."""
    row_id, numbers, positions, cell, pbc, pairs = row
    given: Mapping[str, Any] = pairs if isinstance(pairs, dict) else {}
    keys = {key: given[key] for key in _KEYS if key in given}
    if not keys.keys() & set(ID_KEYS):
        keys["id"] = f"{name}_{row_id}"
    periodic = [bool(pbc >> axis & 1) for axis in range(3)]
    return {"numbers": numbers, "positions": positions, "cell": cell, "pbc": periodic, **keys}
