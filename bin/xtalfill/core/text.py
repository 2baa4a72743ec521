"""Text for the user: one line, and lists of names that stay short."""

from __future__ import annotations

from collections.abc import Sequence


def one_line(value: object, *, limit: int = 200) -> str:
    """Return `value` as one printable line of at most `limit` characters."""
    text = "".join(char if char.isprintable() else " " for char in str(value))
    text = " ".join(text.split())
    return text if len(text) <= limit else text[: limit - 3] + "..."


def listed(names: Sequence[str], *, most: int = 6) -> str:
    """Return names for the user: "a, b" or, with more than `most`, "a, b and 3 more"."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def shortened(names: Sequence[str], *, most: int = 4) -> str:
    """Return names for the user: "a, b" or, with more than `most`, "a, b, ..."."""
    return ", ".join(names[:most]) + (", ..." if len(names) > most else "")
