"""`xtalfill doctor`: what is here, what is missing, what needs it and how to get it."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from xtalfill.core.errors import ConfigError

if TYPE_CHECKING:
    from xtalfill.cli.parser import Commands


def add_parser(commands: Commands) -> None:
    """Add the command `doctor`."""
    doctor = commands.add_parser("doctor", help="list what is installed and what is missing")
    doctor.add_argument("--pseudo_dir", type=Path, help="folder of pseudopotentials")


def run(args: argparse.Namespace) -> None:
    """Print a line for each thing that xtalfill uses.

    Raises:
        ConfigError: Something that the defaults need is missing.
    """
    from xtalfill.interactive.doctor import PSEUDOS, examine

    missing = []
    for finding in examine(pseudo_dir=args.pseudo_dir or PSEUDOS):
        print(finding, flush=True)
        if finding.essential and not finding.found:
            missing.append(finding.name)
    if missing:
        raise ConfigError(f"the defaults need what is missing: {', '.join(missing)}")
