"""What CHECK takes from a results database (`xtalfill.database.known`)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from xtalfill.inputs.hosts import CheckedHost


@dataclass(frozen=True)
class Known:
    """What a results database has of the structures of a run.

    Attributes:
        database: Its file, or its URL without a password.
        stored: Id -> what is stored, for each structure that is not filled again.
        reasons: Id -> why it is filled, for each other one.
    """

    database: str = ""
    stored: dict[str, dict[str, Any]] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)


# Divides the structures of a run; None without a database.
Divide = Callable[[Sequence[CheckedHost]], Known] | None
