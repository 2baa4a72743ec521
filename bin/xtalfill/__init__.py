"""xtalfill: put back the atoms that experiments cannot see."""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

# Imported at their first use: torch and pymatgen take seconds. Named as text, so that the digest of
# a stage does not depend on them (lib/StageCode).
_LAZY = {
    "restore": "xtalfill.interactive.restore",
    "Answer": "xtalfill.interactive.answer",
    "read_results": "xtalfill.interactive.finished",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_LAZY[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_LAZY])
