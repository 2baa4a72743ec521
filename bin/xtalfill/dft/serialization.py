"""JSON files passed between the tasks that run pw.x. Each file states its format and is checked."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from xtalfill.core.errors import InputError
from xtalfill.core.io import write_json

# Message for a job whose task left no result.
JOB_KILLED = "killed in every attempt; see the exit codes in pipeline_info/trace.txt"
_KEY = re.compile(r"[A-Za-z0-9_]+\.\d{1,9}")


def write_content(content: Mapping[str, Any], path: Path, form: str) -> None:
    """Write plain values as strict JSON, together with their format."""
    write_json(path, {"format": form, **content})


def read_content(path: Path, form: str, names: Iterable[str]) -> dict[str, Any]:
    """Return the content of a file that `write_content` wrote.

    Raises:
        OSError, ValueError, TypeError, LookupError: The format or the entries are different.
    """
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    if content.pop("format") != form:
        raise ValueError(f"not of format {form}")
    if set(content) != set(names):
        raise ValueError("has unexpected entries")
    return content


@contextmanager
def input_errors(path: Path, what: str) -> Iterator[None]:
    """Turn the errors of a reader on a damaged file into an `InputError` of one line.

    Args:
        path: The file.
        what: Expected content, for the message.

    Raises:
        InputError: The reader raised an error.
    """
    try:
        yield
    except (OSError, ValueError, TypeError, LookupError, AttributeError) as error:
        reason = " ".join(str(error).split())
        raise InputError(
            f"{path.name}: not {what} ({reason}); rerun the process that writes it"
        ) from error


def check_key(key: str) -> None:
    """Check that a key is a plain file name.

    Raises:
        ValueError: The key is not "<batch>.<system>".
    """
    if not _KEY.fullmatch(key):
        raise ValueError(f"key {key!r} is unsafe")


def check_crystal(n_atoms: int, positions: np.ndarray, cell: np.ndarray) -> None:
    """Check the arrays of a crystal.

    Raises:
        ValueError: A shape is not (n_atoms, 3) or (3, 3), or a value is not finite.
    """
    if positions.shape != (n_atoms, 3) or cell.shape != (3, 3):
        raise ValueError("positions or cell have the wrong shape")
    if not (np.isfinite(positions).all() and np.isfinite(cell).all()):
        raise ValueError("positions or cell are not finite")


def check_keys(results: Iterable[str], plan: Mapping[str, Any]) -> None:
    """Check that every result belongs to a job of the plan.

    Args:
        results: Keys of the results.
        plan: Content of plan.json.

    Raises:
        InputError: A result belongs to no job.
    """
    if unknown := sorted(set(results) - set(plan["jobs"])):
        raise InputError(f"{unknown[0]}: this result belongs to no job of the plan; rerun both")
