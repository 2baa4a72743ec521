"""Read crystal structures from every supported input into one form, the `Entry`."""

from xtalfill.inputs.structures.entry import Entry
from xtalfill.inputs.structures.sources import read_structures

__all__ = ["Entry", "read_structures"]
