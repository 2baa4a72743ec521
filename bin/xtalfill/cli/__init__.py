"""Command-line interface ``xtalfill``."""

from xtalfill.cli.parser import main

__all__ = ["main"]
