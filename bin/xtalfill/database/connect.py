"""Open a results database: a file of SQLite, or PostgreSQL by URL."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.engine import URL, Connection, Engine, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, OperationalError, SQLAlchemyError

from xtalfill.core.errors import ConfigError, TryAgainError
from xtalfill.core.text import one_line
from xtalfill.database.schema import VERSION, metadata, schema_version

# Seconds that a connection waits for another one to finish its transaction.
WAIT = 60
# Number of the lock under which one process alone makes the tables in PostgreSQL.
_LOCK = 0x7874616C
_NETWORK = frozenset({"nfs", "nfs4", "cifs", "smb3", "afs", "9p", "fuse.sshfs"})


class Database:
    """An open results database.

    Attributes:
        name: How messages call it; without a password.
    """

    def __init__(self, engine: Engine, name: str) -> None:
        self._engine = engine
        self.name = name

    @contextmanager
    def transaction(self, *, write: bool = False) -> Iterator[Connection]:
        """Yield a connection; commit at the end, roll back after an error.

        Args:
            write: Take the lock for writing at once. SQLite cannot change a lock for reading
                into one for writing while another process does the same.

        Raises:
            TryAgainError: The database did not answer in time.
            ConfigError: It cannot be used.
        """
        with _explained(self.name), self._engine.connect() as connection:
            marked = connection.execution_options(xtalfill_write=write)
            with marked.begin():
                yield marked

    @property
    def dialect(self) -> str:
        """Either "sqlite" or "postgresql"."""
        return self._engine.dialect.name

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()


def parse_url(text: str) -> URL:
    """Return the URL of a database; a text without "://" is a file of SQLite.

    Raises:
        ConfigError: It is neither.
    """
    if "://" not in text:
        return URL.create("sqlite", database=os.fspath(Path(text).absolute()))
    try:
        url = make_url(text)
    except (ArgumentError, ValueError) as error:
        raise ConfigError(f"--database: not a URL ({one_line(error, limit=80)})") from error
    kind = url.get_backend_name()
    if kind == "postgres":  # as libpq calls it, too
        kind = "postgresql"
    if kind not in ("sqlite", "postgresql") or (kind == "sqlite" and not url.database):
        raise ConfigError(
            f"--database {url.render_as_string()}: give a file of SQLite or postgresql://HOST/NAME"
        )
    return url.set(drivername="postgresql+psycopg") if kind == "postgresql" else url


def shown(text: str) -> str:
    """Return how messages call a database: its file, or its URL without a password."""
    url = parse_url(text)
    return str(url.database) if url.get_backend_name() == "sqlite" else url.render_as_string()


@contextmanager
def open_database(text: str, *, create: bool = False) -> Iterator[Database]:
    """Open a database and check its version.

    Args:
        text: A file of SQLite, or a URL.
        create: Make the file and the tables if they are not there.

    Raises:
        ConfigError: There is no such database, it is of another version, or not one of xtalfill.
        TryAgainError: It did not answer in time.
    """
    url, name = parse_url(text), shown(text)
    if url.get_backend_name() == "sqlite":
        _check_file(Path(name), create=create)
    engine = sa.create_engine(url, connect_args=_arguments(url), poolclass=sa.NullPool)
    if engine.dialect.name == "sqlite":
        _prepare_sqlite(engine)
    database = Database(engine, name)
    try:
        _check_version(database, create=create)
        yield database
    finally:
        database.close()


def _arguments(url: URL) -> dict[str, object]:
    if url.get_backend_name() == "sqlite":
        return {"timeout": WAIT}
    return {"connect_timeout": WAIT, "options": f"-c lock_timeout={WAIT}s"}


def _check_file(path: Path, *, create: bool) -> None:
    if path.exists() and not path.is_file():
        raise ConfigError(f"{path}: not a file; give a file of SQLite")
    if not path.is_file() and not create:
        raise ConfigError(f"{path}: there is no such database; a run with --database makes it")
    if not path.parent.is_dir():
        raise ConfigError(f"{path}: there is no folder {path.parent}; make it first")
    if (kind := _file_system(path.parent)) in _NETWORK:
        print(
            f"NOTE {path} is on a network file system ({kind}), whose locks SQLite needs and may "
            "not get; use a local disk or PostgreSQL for several runs at once",
            file=sys.stderr,
        )


def _file_system(folder: Path) -> str:
    """Return the type of the file system of a folder; empty if unknown."""
    try:
        mounts = Path("/proc/mounts").read_text(encoding="utf-8").splitlines()
    except OSError:
        return ""
    here = folder.resolve()
    found = [(line.split()[1].replace("\\040", " "), line.split()[2]) for line in mounts]
    inside = [(place, kind) for place, kind in found if here.is_relative_to(place)]
    return max(inside, key=lambda one: len(one[0]), default=("", ""))[1]


def _prepare_sqlite(engine: Engine) -> None:
    """Let SQLAlchemy alone begin transactions, and take the lock for writing at once.

    The journal stays that of rollback: the one for write-ahead needs memory that all processes
    share, which processes on several hosts do not have. Transactions here are short.
    """

    @sa.event.listens_for(engine, "connect")
    def _on_connect(connection: object, _record: object) -> None:
        connection.isolation_level = None  # type: ignore[attr-defined]
        connection.execute("PRAGMA foreign_keys=ON")  # type: ignore[attr-defined]

    @sa.event.listens_for(engine, "begin")
    def _on_begin(connection: Connection) -> None:
        writes = connection.get_execution_options().get("xtalfill_write")
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _check_version(database: Database, *, create: bool) -> None:
    with database.transaction() as connection:
        found = _version(connection)
    if found is None and create:
        with database.transaction(write=True) as connection:
            if database.dialect == "postgresql":
                connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCK)))
            if (found := _version(connection)) is None:
                metadata.create_all(connection)
                connection.execute(schema_version.insert().values(version=VERSION))
                found = VERSION
    if found is None:
        raise ConfigError(
            f"{database.name}: not a results database; a run with --database makes it"
        )
    if found != VERSION:
        raise ConfigError(
            f"{database.name}: version {found} of the tables, this release has {VERSION}; use the "
            "release that made it, or import its runs into a new one (xtalfill database add)"
        )


def _version(connection: Connection) -> int | None:
    if not sa.inspect(connection).has_table(schema_version.name):
        return None
    return connection.execute(sa.select(sa.func.max(schema_version.c.version))).scalar()


@contextmanager
def _explained(name: str) -> Iterator[None]:
    """Turn an error of the database into one line."""
    try:
        yield
    except OperationalError as error:
        raise TryAgainError(f"{name}: {one_line(error.orig)}; repeat with -resume") from error
    except DBAPIError as error:
        raise ConfigError(f"{name}: {one_line(error.orig)}; is it a results database?") from error
    except SQLAlchemyError as error:
        raise ConfigError(f"{name}: {one_line(error)}") from error
