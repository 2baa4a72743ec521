"""Command-line arguments that several commands in bin/ share."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_restart_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of a task that continues from the checkpoint of its previous attempt."""
    parser.add_argument("--max_seconds", type=float, help="time limit of the task")
    parser.add_argument("--previous", type=Path, help="checkpoint of the previous attempt, if any")
    parser.add_argument("--checkpoint", type=Path, required=True, help="folder for the checkpoint")
