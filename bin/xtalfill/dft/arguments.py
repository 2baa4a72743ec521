"""Command-line arguments of the commands that plan or run pw.x."""

from __future__ import annotations

import argparse
from pathlib import Path

from xtalfill.core.arguments import add_restart_arguments


def add_pw_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of a task that runs pw.x: resources, checkpoint, outputs."""
    parser.add_argument("--settings", type=Path, required=True, help="stage parameters (JSON)")
    parser.add_argument("--cores", type=int, required=True, help="MPI processes")
    parser.add_argument("--last_chance", action="store_true", help="this is the last attempt")
    add_restart_arguments(parser)
    parser.add_argument("--kept", type=Path, required=True, help="folder for inputs and outputs")
    parser.add_argument("--output", type=Path, required=True, help="JSON result to write")
    parser.add_argument("--record", type=Path, required=True, help="JSON record to write")


def add_plan_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of a task that plans calculations with pw.x."""
    parser.add_argument("--settings", type=Path, required=True, help="stage parameters (JSON)")
    parser.add_argument("--protocol", type=Path, required=True, help="YAML of assets/protocols")
    parser.add_argument("--table", type=Path, required=True, help="pseudopotentials (JSON)")
    parser.add_argument("--cost", type=Path, required=True, help="cost model (JSON)")
    parser.add_argument("--pseudo_dir", type=Path, required=True, help="files of the table")
    parser.add_argument("--outdir", type=Path, required=True, help="gets jobs/ and plan.json")
    parser.add_argument("--record", type=Path, required=True, help="JSON record to write")
