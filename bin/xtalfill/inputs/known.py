"""What CHECK takes from a results database (`xtalfill.database.known`)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from xtalfill.core.counts import counted_of
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


def together(known: Known) -> Known:
    """Return what a database has, with all numbers of a structure filled again if one is.

    Numbers of missing sites are compared with each other. One that is stored under another name
    was filled for itself.
    """
    apart = {name for name, entry in known.stored.items() if entry["name"] != name}
    again = {counted_of(name) for name in (*known.reasons, *apart)} - {""}
    stored = {name: one for name, one in known.stored.items() if counted_of(name) not in again}
    reasons = {name: "compared" for name in known.stored if name not in stored}
    return replace(known, stored=stored, reasons={**known.reasons, **reasons})
