"""Parts of the page that the browser unpacks when it needs them."""

from __future__ import annotations

import base64
import gzip
import json
from typing import Any

from markupsafe import Markup


def pack_text(text: str) -> Markup:
    """Return a text as gzip in base64, which is safe inside a script element.

    Args:
        text: Anything.
    """
    packed = gzip.compress(text.encode(), compresslevel=9, mtime=0)
    return Markup(base64.b64encode(packed).decode("ascii"))  # noqa: S704 - letters and digits


def pack_json(content: Any) -> Markup:
    """Return a value as JSON, packed as by `pack_text`; NaN is not allowed."""
    return pack_text(json.dumps(content, allow_nan=False, separators=(",", ":")))


def unpack_text(packed: str) -> str:
    """Return the text of `pack_text`."""
    return gzip.decompress(base64.b64decode(packed)).decode()
