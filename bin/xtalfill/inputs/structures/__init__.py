"""Read crystal structures from every supported input into one form, the `Entry`."""

from xtalfill.inputs.structures.entry import Entry
from xtalfill.inputs.structures.sources import (
    Streamed,
    UnreadFile,
    list_structures,
    read_structures,
    stream_structures,
)

__all__ = [
    "Entry", "Streamed", "UnreadFile", "list_structures", "read_structures", "stream_structures",
]  # fmt: skip
