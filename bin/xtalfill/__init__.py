"""xtalfill: put back the atoms that experiments cannot see."""

__version__ = "0.1.0"
