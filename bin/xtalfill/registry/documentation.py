"""What only people read of the methods and potentials.

Of the stages only COLLECT and REPORT import this module.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from xtalfill.registry import DOCUMENTATION, methods, potentials, read_entries


@dataclass(frozen=True)
class Documentation:
    """Texts of an entry of the registry.

    Attributes:
        summary: One sentence for --help and the documentation.
        citations: Keys of the works to cite.
        report: Of a method: completes "candidates per structure were ..." in the report. The
            fields in braces are parameters that INPAINT or BASELINE recorded.
    """

    summary: str
    citations: tuple[str, ...]
    report: str = ""


def _read(path: Path) -> dict[str, Documentation]:
    texts = {entry["name"]: entry[DOCUMENTATION] for entry in read_entries(path)}
    return {
        name: Documentation(text["summary"], tuple(text["citations"]), text.get("report", ""))
        for name, text in texts.items()
    }


METHOD_TEXTS = _read(methods.FILE)
POTENTIAL_TEXTS = _read(potentials.FILE)
