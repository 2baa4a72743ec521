"""Read crystal structures from every accepted input into one form, the `Entry`."""

from xtalfill.structures.entry import Entry
from xtalfill.structures.sources import read_structures

__all__ = ["Entry", "read_structures"]
