"""The proposal methods and the potentials: one entry each in methods.json and potentials.json.

Groovy (lib/Registry.groovy) and Python read the same files. `methods` and `potentials` give what
the stages need. `documentation` gives what only people read: texts and citations. lib/StageCode
leaves these out of the digest of a stage that does not import `documentation`, so that the edit of
a text repeats no calculation.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

DOCUMENTATION = "documentation"


def read_entries(path: Path) -> list[dict[str, Any]]:
    """Return the entries of a file of the registry."""
    entries: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
    return entries


def without_documentation(entry: dict[str, Any]) -> dict[str, Any]:
    """Return an entry without what only people read."""
    return {name: value for name, value in entry.items() if name != DOCUMENTATION}
