"""The command ``xtalfill``."""

from xtalfill.cli.parser import main

__all__ = ["main"]
