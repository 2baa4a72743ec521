"""Structures of an OPTIMADE server, page by page (specification 1.2).

A server may fail, repeat itself or never end: what was read until then is kept, and the last record
says why it ends there.
"""

from __future__ import annotations

import http.client
import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, urlencode, urljoin, urlsplit, urlunsplit

from xtalfill.core.errors import InputError
from xtalfill.core.text import one_line
from xtalfill.inputs.structures.jsonrecords import STOPPED

_FIELDS = ("lattice_vectors", "cartesian_site_positions", "species_at_sites", "species")
# What a server that sends too much is asked to leave out.
_QUERY = {"response_fields": ",".join((*_FIELDS, "dimension_types")), "response_format": "json"}
_TEMPORARY = {408, 429, 500, 502, 503, 504}


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What is taken from one server at most.

    Attributes:
        pages: Number of answers.
        page_bytes: Size of an answer.
        total_bytes: Size of all answers.
        seconds: Time for all answers.
        timeout: Time without data, seconds.
        attempts: For each page.
        pause: Before the second attempt, seconds; doubled for each further one.
        longest_pause: Also of one that the server asks for.
    """

    pages: int = 20_000
    page_bytes: int = 256 << 20
    total_bytes: int = 8 << 30
    seconds: float = 6 * 3600.0
    timeout: float = 60.0
    attempts: int = 4
    pause: float = 2.0
    longest_pause: float = 60.0


_LIMITS = Limits()


class _PageError(Exception):
    """A page that cannot be read, and why in one line."""


def optimade_records(
    url: str, *, limits: Limits = _LIMITS, sleep: Callable[[float], None] = time.sleep
) -> Iterator[Any]:
    """Yield the structures of an OPTIMADE server.

    Args:
        url: The base URL of the server, or one that ends in `/structures`; its query (`filter`,
            `page_limit`) is kept.
        limits: Where to stop.
        sleep: Waits between attempts.

    Yields:
        Structures as the server gives them; the last record has the key `STOPPED` if it is not the
        end of the server's list.

    Raises:
        InputError: The first page cannot be read.
    """
    page: str | None = first_page(url)
    download = _Download(limits, sleep)
    while page is not None:
        number = len(download.pages) + 1
        try:
            content = download.read(page)
            records = download.new_records(content)
        except _PageError as error:
            if number == 1:
                raise InputError(f"{_without_query(page)}: the answer {error}") from error
            yield {STOPPED: f"page {number} of the server {error}; the pages before it are used"}
            return
        yield from records
        page = _next_page(content, page)
    if not download.given:
        raise InputError(f"{_without_query(url)}: the server has no such structure; check the URL")
    if download.announced is not None and download.given < download.announced:
        given, announced = download.given, download.announced
        yield {STOPPED: f"the server announced {announced} structures and gave {given}"}


class _Download:
    """Reads the pages of one server within its limits.

    Attributes:
        pages: URLs that were read.
        given: Number of structures so far.
        announced: Number that the server promises, or None.
    """

    def __init__(self, limits: Limits, sleep: Callable[[float], None]) -> None:
        self.pages: set[str] = set()
        self.given = 0
        self.announced: int | None = None
        self._limits, self._sleep = limits, sleep
        self._deadline = time.monotonic() + limits.seconds
        self._bytes = 0
        self._known: set[int] = set()

    def read(self, page: str) -> dict[str, Any]:
        """Return the content of a page.

        Raises:
            _PageError: It cannot be read, or a limit is reached.
        """
        limits = self._limits
        if page in self.pages:
            raise _PageError("is one that it gave before")
        if len(self.pages) >= limits.pages:
            raise _PageError(f"is more than the limit of {limits.pages} pages")
        if time.monotonic() > self._deadline:
            raise _PageError(f"comes after the limit of {limits.seconds:g} s")
        if self._bytes > limits.total_bytes:
            raise _PageError(f"is beyond the limit of {limits.total_bytes >> 20} MiB")
        text = _get(page, limits, self._sleep)
        self._bytes += len(text)
        content = _parsed(text)
        self.pages.add(page)
        return content

    def new_records(self, content: dict[str, Any]) -> list[Any]:
        """Return the structures of a page.

        Raises:
            _PageError: There is no list, or all were given before.
        """
        records = _records_of(content)
        keys = {hash(_key(record)) for record in records}
        if records and keys <= self._known:
            raise _PageError("repeats structures that it gave before")
        self._known |= keys
        self.given += len(records)
        meta = content.get("meta")
        number = meta.get("data_returned") if isinstance(meta, dict) else None
        if isinstance(number, int) and not isinstance(number, bool):
            self.announced = number
        return records


def first_page(url: str) -> str:
    """Return the URL of the first page of structures.

    A base URL gets the version and the endpoint: https://host/optimade ->
    https://host/optimade/v1/structures.
    """
    parts = urlsplit(url)
    path = parts.path.rstrip("/")
    segments = path.split("/")
    if "structures" not in segments:
        versioned = segments[-1].startswith("v") and segments[-1][1:2].isdigit()
        path += "/structures" if versioned else "/v1/structures"
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    return urlunsplit((parts.scheme, parts.netloc, path, urlencode(_QUERY | query), ""))


def _without_query(url: str) -> str:
    return url.partition("?")[0]


def _get(url: str, limits: Limits, sleep: Callable[[float], None]) -> bytes:
    """Return the content of a page, with several attempts.

    Raises:
        _PageError: All attempts failed, or the server refuses the request.
    """
    headers = {"Accept": "application/json", "User-Agent": "xtalfill"}
    request = urllib.request.Request(url, headers=headers)  # noqa: S310
    pause = limits.pause
    for attempt in range(1, limits.attempts + 1):
        try:
            with urllib.request.urlopen(request, timeout=limits.timeout) as answer:  # noqa: S310
                content: bytes = answer.read(limits.page_bytes + 1)
                # read(n) returns a body that breaks off as if it were whole
                if len(content) > limits.page_bytes or not answer.length:
                    break
                reason = f"{answer.length} bytes are missing"
        except urllib.error.HTTPError as error:
            reason = f"HTTP {error.code}{_said(error)}"
            if error.code not in _TEMPORARY:
                raise _PageError(f"was refused: {reason}") from error
            pause = max(pause, _asked_pause(error))
        except (OSError, http.client.HTTPException) as error:  # URLError is an OSError
            reason = one_line(getattr(error, "reason", error) or type(error).__name__, limit=120)
        if attempt == limits.attempts:
            raise _PageError(f"failed {attempt} times ({reason})")
        sleep(min(pause, limits.longest_pause))
        pause *= 2
    if len(content) > limits.page_bytes:
        raise _PageError(
            f"is larger than {limits.page_bytes >> 20} MiB; lower page_limit in the URL"
        )
    return content


def _said(error: urllib.error.HTTPError) -> str:
    """Return what the server says about an error, for a message."""
    try:
        told = json.loads(error.read(1 << 16))["errors"][0]
        return f" ({one_line(told.get('detail') or told.get('title'), limit=120)})"
    except (OSError, http.client.HTTPException, ValueError, LookupError, TypeError, AttributeError):
        return ""


def _asked_pause(error: urllib.error.HTTPError) -> float:
    """Return how long the server asks to wait, seconds; 0 if it does not say."""
    asked = str(error.headers.get("Retry-After", ""))
    return float(asked) if asked.isdecimal() else 0.0


def _parsed(text: bytes) -> dict[str, Any]:
    """Return the content of a page.

    Raises:
        _PageError: It is no JSON object.
    """
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        begin = one_line(text[:40].decode(errors="replace"))
        raise _PageError(
            f"is not JSON (it starts with {begin!r}); give an OPTIMADE server"
        ) from error
    if not isinstance(content, dict) or "data" not in content:
        raise _PageError("is not an answer of OPTIMADE: it has no 'data'")
    return content


def _records_of(content: dict[str, Any]) -> list[Any]:
    """Return the structures of a page; `/structures/ID` gives a single one.

    Raises:
        _PageError: There is no list.
    """
    data = content["data"]
    if data is None or isinstance(data, dict):
        return [] if data is None else [data]
    if not isinstance(data, list):
        raise _PageError("is not an answer of OPTIMADE: its 'data' is no list")
    return data


def _key(record: Any) -> str:
    """Return what tells a structure from others: its id, else all of it."""
    name = record.get("id") if isinstance(record, dict) else None
    return str(name) if name is not None else json.dumps(record, sort_keys=True)


def _next_page(content: dict[str, Any], page: str) -> str | None:
    """Return the URL of the next page, or None."""
    links = content.get("links")
    link = links.get("next") if isinstance(links, dict) else None
    if isinstance(link, dict):
        link = link.get("href")
    if not isinstance(link, str) or not link:
        return None
    url = urljoin(page, link)
    return url if urlsplit(url).scheme in ("http", "https") else None
