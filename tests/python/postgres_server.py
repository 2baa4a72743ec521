"""A PostgreSQL server of its own for the tests: temporary folder, Unix socket, no network."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

DEBIAN = Path("/usr/lib/postgresql")


def find(name: str) -> str | None:
    """Return a program of PostgreSQL; Debian keeps the server out of PATH."""
    folders = sorted(DEBIAN.glob("*/bin"), reverse=True)
    return shutil.which(name, path=os.pathsep.join([os.environ["PATH"], *map(str, folders)]))


@contextmanager
def postgres_server() -> Iterator[str]:
    """Yield the URL of an empty database; skip the test where there is no PostgreSQL."""
    initdb, postgres = find("initdb"), find("postgres")
    if initdb is None or postgres is None:
        pytest.skip("PostgreSQL is not installed (Debian: postgresql): no initdb")
    # The server refuses to run as root.
    user = "postgres" if os.geteuid() == 0 else None
    if user is not None and user not in {entry.pw_name for entry in pwd.getpwall()}:
        pytest.skip("the tests run as root, and there is no user postgres for the server")
    # Not in the folder of pytest, which only its owner can enter; short, for the socket.
    folder = Path(tempfile.mkdtemp(prefix="xtalfill-pg-"))
    server = None
    try:
        if user is not None:
            shutil.chown(folder, user)
        data = folder / "data"
        command = [initdb, "-D", data, "-U", "xtalfill", "-A", "trust", "-E", "UTF8", "--no-sync"]
        options = {"user": user, "cwd": folder, "stderr": subprocess.STDOUT}
        done = subprocess.run(command, check=False, stdout=subprocess.PIPE, **options)
        assert done.returncode == 0, done.stdout
        command = [postgres, "-D", data, "-k", folder, "-c", "listen_addresses=", "-c", "fsync=off"]
        with (folder / "log").open("wb") as log:
            server = subprocess.Popen(command, stdout=log, **options)
        ready = time.monotonic() + 60
        while "ready to accept" not in (folder / "log").read_text():
            stopped = server.poll() is not None or time.monotonic() > ready
            assert not stopped, (folder / "log").read_text()
            time.sleep(0.05)
        yield f"postgresql://xtalfill@/postgres?host={folder}"
    finally:
        if server is not None:
            server.terminate()
            server.wait(timeout=30)
        shutil.rmtree(folder)
