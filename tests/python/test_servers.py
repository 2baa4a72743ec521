"""Servers as inputs: OPTIMADE answers over HTTP, and rows of an ASE database in PostgreSQL."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import numpy as np
import psycopg
import pytest
from ase import Atoms

from xtalfill.cli.parser import main
from xtalfill.core.errors import InputError
from xtalfill.inputs.structures import Entry, read_structures, stream_structures
from xtalfill.inputs.structures.jsonrecords import STOPPED
from xtalfill.inputs.structures.optimade import Limits, first_page, optimade_records
from xtalfill.inputs.structures.servers import download, server_name

Answer = tuple[int, dict[str, str], bytes]
Respond = Callable[[dict[str, str], int], Answer]


def page(records: list[Any], following: Any = None, **meta: Any) -> bytes:
    """Return an answer of OPTIMADE 1.2."""
    content = {"data": records, "links": {"next": following}, "meta": meta}
    return json.dumps(content).encode()


def brucite_record(name: str) -> dict[str, Any]:
    """Return Mg(OH)2 without hydrogen as OPTIMADE gives it."""
    attributes = {
        "lattice_vectors": [[3.14, 0, 0], [-1.57, 2.719, 0], [0, 0, 4.77]],
        "cartesian_site_positions": [[0, 0, 0], [0, 1.813, 1.049], [1.57, 0.906, 3.721]],
        "species_at_sites": ["Mg", "O", "O"],
        "species": [
            {"name": name, "chemical_symbols": [name], "concentration": [1.0]}
            for name in ("Mg", "O")
        ],
        "dimension_types": [1, 1, 1],
    }
    return {"id": name, "type": "structures", "attributes": attributes}


@pytest.fixture
def serve() -> Iterator[Callable[[Respond], str]]:
    """Return a function that starts a server with given answers and returns its URL."""
    servers: list[ThreadingHTTPServer] = []

    def start(respond: Respond) -> str:
        calls = 0

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                nonlocal calls
                query = parse_qs(urlsplit(self.path).query)
                given = {key: values[0] for key, values in query.items()}
                status, headers, body = respond(given, calls)
                calls += 1
                self.send_response(status)
                for name, value in {"Content-Length": str(len(body)), **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_address[1]}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def listing(count: int, size: int) -> Respond:
    """Return the answers of a server with `count` structures in pages of `size`."""

    def respond(query: dict[str, str], _: int) -> Answer:
        start = int(query.get("page_offset", 0))
        records = [brucite_record(f"x/{n}") for n in range(start, min(start + size, count))]
        more = f"?page_offset={start + size}" if start + size < count else None
        # as a text, and as an object with href: both are in use
        following = {"href": more} if more and start else more
        return 200, {}, page(records, following, data_returned=count)

    return respond


def records_of(url: str, **limits: Any) -> tuple[int, str]:
    """Return how many structures a server gave, and why it stopped."""
    pauses: list[float] = []
    records = list(optimade_records(url, limits=Limits(pause=0.5, **limits), sleep=pauses.append))
    stopped = [record[STOPPED] for record in records if STOPPED in record]
    assert len(stopped) <= 1
    return len(records) - len(stopped), stopped[0] if stopped else ""


def refusal(url: str, **limits: Any) -> str:
    """Return why a server gives nothing."""
    with pytest.raises(InputError) as caught:
        records_of(url, **limits)
    return str(caught.value)


def test_every_page_is_read(serve: Callable[[Respond], str]) -> None:
    entries = [one.entry for one in stream_structures(serve(listing(7, 3)))]
    assert [entry.id for entry in entries] == [f"x/{n}" for n in range(7)]
    assert all(entry.atoms.get_chemical_formula() == "MgO2" for entry in entries if entry.atoms)
    assert (entries[6].source, entries[6].error) == ("127.0.0.1 entry 6", None)


def test_the_query_of_the_user_is_kept() -> None:
    def parts(url: str) -> tuple[str, dict[str, list[str]]]:
        split = urlsplit(first_page(url))
        return split.path, parse_qs(split.query)

    path, query = parts("https://x.org/optimade?filter=elements%20HAS%20%22O%22&page_limit=9")
    assert path == "/optimade/v1/structures"
    assert (query["filter"], query["page_limit"]) == (['elements HAS "O"'], ["9"])
    assert "lattice_vectors" in query["response_fields"][0]
    assert parts("https://x.org/v1.2/")[0] == "/v1.2/structures"
    assert parts("https://x.org/v1/structures/mp-1")[0] == "/v1/structures/mp-1"


def test_a_server_that_never_ends_is_stopped(serve: Callable[[Respond], str]) -> None:
    def again(_: dict[str, str], call: int) -> Answer:
        return 200, {}, page([brucite_record("a")], f"?page={call}")

    def circle(query: dict[str, str], call: int) -> Answer:
        return 200, {}, page([brucite_record(f"a{call}")], "?page=1")

    def ever_new(_: dict[str, str], call: int) -> Answer:
        return 200, {}, page([brucite_record(f"a{call}")], f"?page={call}")

    assert records_of(serve(again)) == (
        1, "page 2 of the server repeats structures that it gave before; "
        "the pages before it are used",
    )  # fmt: skip
    count, why = records_of(serve(circle))
    assert (count, "is one that it gave before" in why) == (2, True)
    url = serve(ever_new)
    assert records_of(url, pages=5)[0] == 5
    assert "limit of 5 pages" in records_of(url, pages=5)[1]
    assert "limit of 0 MiB" in records_of(url, total_bytes=1000)[1]
    assert "limit of -1 s" in refusal(url, seconds=-1)
    assert "is larger than" in refusal(url, page_bytes=99)


def test_a_server_that_fails_half_way(serve: Callable[[Respond], str]) -> None:
    good = listing(9, 3)

    def broken(query: dict[str, str], call: int) -> Answer:
        return good(query, call) if "page_offset" not in query else (502, {}, b"bad gateway")

    def tired(query: dict[str, str], call: int) -> Answer:
        return good(query, call) if call % 2 else (429, {"Retry-After": "1"}, b"")

    def cut(query: dict[str, str], call: int) -> Answer:
        status, _, body = good(query, call)
        return status, {"Content-Length": str(len(body) + 9)}, body

    def promised(query: dict[str, str], call: int) -> Answer:
        return 200, {}, page([brucite_record("a")], None, data_returned=5)

    url = serve(broken)
    assert records_of(url) == (
        3, "page 2 of the server failed 4 times (HTTP 502); the pages before it are used"
    )  # fmt: skip
    assert records_of(serve(tired)) == (9, "")
    assert "5 structures and gave 1" in records_of(serve(promised))[1]
    assert "failed 4 times (9 bytes are missing)" in refusal(serve(cut))


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"<html>hello", "is not JSON (it starts with '<html>hello')"),
        (b"[1]", "it has no 'data'"),
        (b'{"data": 7}', "its 'data' is no list"),
        (b"[" * 100_000, "is not JSON"),
        (b'{"data": []}', "no such structure"),
        (b'{"data": null}', "no such structure"),
    ],
)
def test_nonsense_is_one_line(serve: Callable[[Respond], str], body: bytes, why: str) -> None:
    url = serve(lambda *_: (200, {}, body))
    with pytest.raises(InputError) as caught:
        read_structures(url)
    assert str(caught.value).startswith(url)
    assert why in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_refusal_says_what_the_server_says(serve: Callable[[Respond], str]) -> None:
    body = json.dumps({"errors": [{"detail": "the filter is wrong"}]}).encode()
    url = serve(lambda *_: (400, {}, body))
    with pytest.raises(InputError, match=r"HTTP 400 \(the filter is wrong\)"):
        read_structures(url)


def test_records_that_are_no_structures(serve: Callable[[Respond], str]) -> None:
    odd = [brucite_record("a"), 7, None, {"id": "b"}, {"attributes": {"lattice_vectors": 3}}]
    odd += [{"id": "c", "attributes": {**brucite_record("c")["attributes"], "species": 3}}]
    entries = read_structures(serve(lambda *_: (200, {}, page(odd))))
    assert [entry.error is None for entry in entries] == [True] + [False] * 5
    assert entries[1].fallback_id == "127.0.0.1_1"


def test_scan_reads_what_the_pipeline_downloads(
    serve: Callable[[Respond], str], tmp_path: Path
) -> None:
    good = listing(5, 3)

    def broken(query: dict[str, str], call: int) -> Answer:
        return good(query, call) if "page_offset" not in query else (404, {}, b"gone")

    url = serve(broken)
    (tmp_path / "url.txt").write_text(url)
    command = [sys.executable, Path(__file__).parents[2] / "bin" / "fetch_input.py"]
    options = ["--url", "url.txt", "--outdir", ".", "--record", "record.json"]
    subprocess.run([*command, *options], cwd=tmp_path, check=True)
    assert json.loads((tmp_path / "record.json").read_text())["parameters"]["records"] == 4
    direct = [one.entry for one in stream_structures(url)]
    fetched = read_structures(tmp_path / "127.0.0.1.jsonl")
    for one, other in zip(direct, fetched, strict=True):
        assert (one.id, one.fallback_id, one.error, one.atoms) == (
            other.id, other.fallback_id, other.error, other.atoms
        )  # fmt: skip
    assert (
        direct[-1].error
        == "page 2 of the server was refused: HTTP 404; the pages before it are used"
    )
    main(["scan", url, "-o", str(tmp_path / "out")])
    with (tmp_path / "out" / "scan.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["status"] for row in rows] == ["missing"] * 3 + ["failed"]
    assert rows[3]["id"] == "127.0.0.1_rest"


def test_urls() -> None:
    assert server_name("https://optimade.example.org/v1?filter=x") == "optimade.example.org"
    assert server_name("postgresql://me@host:5432/crystals") == "crystals"
    with pytest.raises(InputError, match=r"password.*PGPASSWORD"):
        server_name("postgresql://me:secret@host/crystals")
    with pytest.raises(InputError, match="names no host"):
        server_name("https:///v1")
    with pytest.raises(InputError, match="not a URL"):
        server_name("https://[x/")


class Cursor:
    """Stands in for psycopg: gives rows, then breaks off."""

    itersize = 0

    def __init__(self, rows: list[Any], error: psycopg.Error | None) -> None:
        self.rows, self.error, self.read_only = rows, error, False

    def __enter__(self) -> Cursor:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def cursor(self, *, name: str) -> Cursor:
        """Return the cursor."""
        assert self.read_only
        assert name
        return self

    def execute(self, query: str) -> Iterator[Any]:
        """Yield the rows."""
        assert "ORDER BY id" in query
        yield from self.rows
        if self.error:
            raise self.error


def test_rows_of_postgresql(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    cell, positions = np.eye(3) * 4.2 / 3, np.random.default_rng(1).random((2, 3)) / 3
    row = (5, [12, 8], positions.tolist(), cell.tolist(), 7, {"material_id": "m", "n_missing": 2})
    bare = (6, [12, 8], positions.tolist(), cell.tolist(), 3, None)
    broken = (7, [12], positions.tolist(), cell.tolist(), 7, {})
    lost = psycopg.OperationalError("server closed the connection\nunexpectedly")
    connection = Cursor([row, bare, broken], lost)
    monkeypatch.setattr(psycopg, "connect", lambda *_, **__: connection)
    url = "postgresql://me@host/crystals"
    path, count = download(url, tmp_path)
    assert (path.name, count) == ("crystals.jsonl", 4)
    for entries in (read_structures(url), read_structures(path)):
        first, second, third, rest = entries
        assert (first.id, first.n_missing) == ("m", 2)
        assert first.atoms == Atoms("MgO", positions, cell=cell, pbc=True)  # to the last bit
        assert (second.id, second.atoms.pbc.tolist() if second.atoms else None) == (
            "crystals_6", [True, True, False]
        )  # fmt: skip
        assert third.error is not None
        assert rest.error == (
            "the database broke off after 3 rows (server closed the connection unexpectedly)"
        )


@pytest.mark.parametrize("error", [psycopg.OperationalError("no route"), None])
def test_a_database_that_gives_nothing(
    monkeypatch: pytest.MonkeyPatch, error: psycopg.Error | None
) -> None:
    monkeypatch.setattr(psycopg, "connect", lambda *_, **__: Cursor([], error))
    with pytest.raises(InputError, match="no route" if error else "no row"):
        read_structures("postgres://host/crystals")


def test_an_entry_of_a_server_has_no_file(serve: Callable[[Respond], str]) -> None:
    (one, *_) = stream_structures(serve(listing(1, 3)))
    assert (type(one.entry), one.file) == (Entry, None)
