"""Text files that appear under their names only once they are whole."""

from __future__ import annotations

import csv
import json
import math
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, TextIO


@contextmanager
def atomic_writer(path: Path) -> Iterator[TextIO]:
    """Open a text file that takes its name only when it was written to the end."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("w", encoding="utf-8", newline="") as file:
            yield file
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: Path, content: Any) -> None:
    """Write strict JSON (no NaN), indented."""
    with atomic_writer(path) as file:
        json.dump(content, file, indent=2, allow_nan=False, ensure_ascii=False)
        file.write("\n")


def write_csv(path: Path, kind: type, rows: Iterable[Any]) -> None:
    """Write rows of a dataclass as CSV; what is not known (None, NaN) is an empty cell."""
    with atomic_writer(path) as file:
        writer = csv.DictWriter(
            file, fieldnames=[item.name for item in fields(kind)], lineterminator="\n"
        )
        writer.writeheader()
        for row in rows:
            writer.writerow({name: _cell(name, value) for name, value in asdict(row).items()})


def _cell(name: str, value: Any) -> Any:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    # A spreadsheet would run a text that starts like a formula; these two quote user input.
    if name in ("message", "source") and str(value)[:1] in ("=", "+", "-", "@", "\t", "\r"):
        return f"'{value}"
    return repr(value) if isinstance(value, float) else value
