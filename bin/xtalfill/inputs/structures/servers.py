"""Servers as inputs: OPTIMADE (http, https) and ASE databases in PostgreSQL.

Each gives records, which `jsonrecords` reads; the stage FETCH_INPUT writes them as JSON lines.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from xtalfill.core.errors import InputError
from xtalfill.core.io import atomic_writer
from xtalfill.core.text import one_line
from xtalfill.inputs.structures.ase_postgresql import database_records
from xtalfill.inputs.structures.entry import Entry
from xtalfill.inputs.structures.jsonrecords import read_records
from xtalfill.inputs.structures.optimade import optimade_records

_SCHEMES = {
    "http": optimade_records,
    "https": optimade_records,
    "postgresql": database_records,
    "postgres": database_records,
}


def is_server(source: str | Path) -> bool:
    """Return whether an input is the URL of a server."""
    return isinstance(source, str) and source.partition("://")[0].lower() in _SCHEMES


def server_name(url: str) -> str:
    """Return the start of the ids of a server's structures: its host, or the name of the database.

    Raises:
        InputError: The URL has a password, or names no host.
    """
    try:
        parts = urlsplit(url)
        host, password = parts.hostname or "", parts.password
    except ValueError as error:
        raise InputError(f"--input: not a URL ({one_line(error, limit=80)}); correct it") from error
    if password:
        raise InputError(
            "--input: the URL has a password, which the records of a run would show; give it in "
            "PGPASSWORD or ~/.pgpass"
        )
    name = host if parts.scheme.startswith("http") else parts.path.strip("/") or host
    if not name:
        raise InputError(f"{one_line(url)}: names no host; give https://host/optimade")
    return re.sub(r"[^A-Za-z0-9._-]+", "_", name)


def server_records(url: str) -> Iterator[Any]:
    """Yield the records of a server one by one.

    Args:
        url: As in `optimade.optimade_records` or `ase_postgresql.database_records`.

    Yields:
        Records of any kind that `jsonrecords` knows; the last one has the key
        `jsonrecords.STOPPED` if the server did not give all.

    Raises:
        InputError: The server gives nothing.
    """
    server_name(url)
    return _SCHEMES[url.partition("://")[0].lower()](url)


def download(url: str, folder: Path) -> tuple[Path, int]:
    """Write the records of a server as JSON lines.

    Args:
        url: As in `server_records`.
        folder: Where the file goes, named after the server.

    Returns:
        The file and its number of lines.

    Raises:
        InputError: The server gives nothing.
    """
    path, count = folder / f"{server_name(url)}.jsonl", 0
    with atomic_writer(path) as file:
        for record in server_records(url):
            file.write(json.dumps(record, ensure_ascii=False) + "\n")
            count += 1
    return path, count


def read_download(path: Path) -> Iterator[Entry]:
    """Yield the structures of a file of `download`, with the ids and sources of the server's own.

    Raises:
        InputError: A line is not JSON.
    """
    try:
        with path.open(encoding="utf-8") as file:
            yield from read_records(map(json.loads, file), path.stem, path.stem)
    except ValueError as error:
        raise InputError(f"{path}: not what a server gave; repeat the run") from error
