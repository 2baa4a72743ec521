"""The reference server of OPTIMADE serves an export, and our reader gets the same crystals back."""

from __future__ import annotations

import importlib.util
import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from test_database import RECIPE, RUN, outdir, records  # noqa: F401  fixtures
from test_exports import database  # noqa: F401  fixture
from xtalfill.cli.parser import main
from xtalfill.database.optimade import PREFIX
from xtalfill.inputs.structures import Entry, read_structures

NEEDED = ("fastapi", "mongomock", "uvicorn")  # of optimade[server]
PROVIDER = {"prefix": "xtalfill", "name": "xtalfill", "description": "restored crystals"}


def free_port() -> int:
    """Return a port of this host that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def get(url: str) -> Any:
    """Return the JSON of an address."""
    with urllib.request.urlopen(url, timeout=60) as answer:
        return json.load(answer)


@pytest.fixture
def export(database: str, tmp_path: Path) -> Path:  # noqa: F811
    """Return the JSON lines of the database."""
    path = tmp_path / "export.jsonl"
    main(["export", database, "--format", "optimade", "-o", str(path)])
    return path


@pytest.fixture
def url(export: Path, tmp_path: Path) -> Iterator[str]:
    """Serve the export with optimade-python-tools, one structure a page."""
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        pytest.skip(f"the server of optimade-python-tools needs {', '.join(missing)}")
    properties = json.loads(export.read_text().splitlines()[1])["properties"]
    fields = [{"name": name, **spec} for name, spec in properties.items()]
    config = {
        "provider_fields": {"structures": fields},
        "insert_test_data": False, "insert_from_jsonl": str(export), "page_limit": 1,
        "database_backend": "mongomock", "provider": PROVIDER, "log_dir": str(tmp_path),
    }  # fmt: skip
    (tmp_path / "server.json").write_text(json.dumps(config), encoding="utf-8")
    port = free_port()
    command = [sys.executable, "-m", "uvicorn", "optimade.server.main:app", "--port", str(port)]
    variables = {"OPTIMADE_CONFIG_FILE": str(tmp_path / "server.json"), "HOME": str(tmp_path)}
    with (tmp_path / "log").open("wb") as log:
        server = subprocess.Popen(
            command, stdout=log, stderr=log, env=os.environ | variables, cwd=tmp_path
        )
    address = f"http://127.0.0.1:{port}"
    try:
        limit = time.monotonic() + 240
        while True:
            try:
                get(f"{address}/v1/info")
                break
            except (urllib.error.URLError, ConnectionError):
                alive = server.poll() is None and time.monotonic() < limit
                assert alive, (tmp_path / "log").read_text()
                time.sleep(0.2)
        yield address
    finally:
        server.terminate()
        server.wait(timeout=60)


def by_id(entries: list[Entry]) -> dict[str, Entry]:
    """Return structures that could be read by their ids."""
    assert [entry.error for entry in entries] == [None] * len(entries)
    return {str(entry.id): entry for entry in entries}


def test_what_is_served_is_what_was_exported(url: str, export: Path) -> None:
    exported = {line["id"]: line for line in map(json.loads, export.read_text().splitlines()[2:])}
    for line in exported.values():
        (served,) = [get(f"{url}/v1/structures/{line['id']}")["data"]]
        for name, value in line["attributes"].items():
            assert served["attributes"][name] == value, name
    # our reader, page by page, against the file itself
    found, expected = by_id(read_structures(url)), by_id(read_structures(export))
    assert set(found) == set(expected) == {"mg", "lih"}
    for name, entry in found.items():
        atoms, other = entry.atoms, expected[name].atoms
        assert atoms is not None
        assert other is not None
        assert list(atoms.symbols) == list(other.symbols)
        np.testing.assert_array_equal(atoms.positions, other.positions)
        np.testing.assert_array_equal(atoms.cell.array, other.cell.array)


@pytest.mark.parametrize(
    ("query", "ids"),
    [
        ('elements HAS "Mg"', {"mg"}),
        ('chemical_formula_reduced="HLi"', {"lih"}),
        ("nelements=2 OR nelements=3", {"mg", "lih"}),
        (f"{PREFIX}energy<0", {"mg", "lih"}),
        (f'{PREFIX}status="ok" AND nelements=3', {"mg"}),
        (f"{PREFIX}energy>1000", set()),
    ],
)
def test_the_server_filters_by_standard_fields_and_ours(
    url: str, query: str, ids: set[str]
) -> None:
    asked = urllib.parse.urlencode({"filter": query, "page_limit": 10})
    answer = get(f"{url}/v1/structures?{asked}")
    assert {entry["id"] for entry in answer["data"]} == ids
    assert not [one for one in answer["meta"].get("warnings", []) if PREFIX in str(one)]
