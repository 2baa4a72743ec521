"""Read and write files. Files are written atomically: temporary file, then rename."""

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

from xtalfill.core.errors import InputError


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield the path of a temporary file in the same folder; rename it to `path` at the end.

    After an error the old file is kept and the temporary file removed.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_writer(path: Path) -> Iterator[TextIO]:
    """Open a text file for writing that replaces `path` on exit."""
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        yield file


def make_folder(folder: Path) -> None:
    """Make a folder that a user named, with those above it.

    Raises:
        InputError: It cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{folder}: cannot be made ({error.strerror}); name a folder") from error


def read_json(path: str | Path) -> Any:
    """Read a JSON file.

    Raises:
        InputError: The file is missing or not valid JSON.
    """
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{path}: not readable JSON ({reason}); rerun its stage") from error


def read_json_lines(path: str | Path) -> list[Any]:
    """Read a file with one JSON value a line.

    Raises:
        InputError: The file is missing, or a line is not valid JSON.
    """
    try:
        return [json.loads(line) for line in Path(path).read_text(encoding="utf-8").splitlines()]
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{path}: not readable JSON lines ({reason}); write it again") from error


def write_json(path: Path, content: Any, *, sort_keys: bool = False) -> None:
    """Write strict JSON (no NaN), indented."""
    with atomic_writer(path) as file:
        json.dump(content, file, indent=2, allow_nan=False, ensure_ascii=False, sort_keys=sort_keys)
        file.write("\n")


def write_csv(path: Path, kind: type, rows: Iterable[Any]) -> None:
    """Write rows of a dataclass as CSV; None and NaN are empty cells."""
    with atomic_writer(path) as file:
        writer = csv.DictWriter(
            file, fieldnames=[item.name for item in fields(kind)], lineterminator="\n"
        )
        writer.writeheader()
        for row in rows:
            writer.writerow(csv_cells(row))


def csv_cells(row: Any) -> dict[str, Any]:
    """Return the cells of a row of a dataclass as `write_csv` writes them, by column."""
    return {name: _cell(name, value) for name, value in asdict(row).items()}


def _cell(name: str, value: Any) -> Any:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    # A spreadsheet evaluates text that looks like a formula; these two columns quote user input.
    if name in ("message", "source") and str(value)[:1] in ("=", "+", "-", "@", "\t", "\r"):
        return f"'{value}"
    return repr(value) if isinstance(value, float) else value
