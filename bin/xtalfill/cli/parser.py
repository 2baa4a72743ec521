"""Argument parser of the command ``xtalfill``."""

from __future__ import annotations

import argparse
import os
from typing import TypeAlias

from xtalfill import __version__
from xtalfill.cli import (
    compare,
    database,
    doctor,
    export,
    pattern,
    phases,
    query,
    restore,
    scan,
    status,
    train,
    view,
)  # fmt: skip
from xtalfill.core.errors import run_command

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"


def parser() -> argparse.ArgumentParser:
    """Return the argument parser."""
    top = argparse.ArgumentParser(
        prog="xtalfill",
        description="Fill the missing sites of crystals: one with `xtalfill restore`, many with "
        "`nextflow run main.nf`; `nextflow run main.nf --help` lists its parameters.",
    )
    top.add_argument("--version", action="version", version=f"xtalfill {__version__}")
    commands = top.add_subparsers(dest="command", required=True)
    for command in (
        restore, scan, status, view, pattern, doctor, compare, database, query, export, phases,
    ):  # fmt: skip
        command.add_parser(commands)
    help_format = argparse.ArgumentDefaultsHelpFormatter
    train.add_arguments(
        commands.add_parser("train", help="train a score model", formatter_class=help_format)
    )
    return top


def main(arguments: list[str] | None = None) -> None:
    """Run the command with the given arguments, by default those of the process."""
    run_command(lambda: _main(arguments))


def _main(arguments: list[str] | None) -> None:
    top = parser()
    if "_ARGCOMPLETE" in os.environ:  # a shell asks how the line can go on
        import argcomplete

        argcomplete.autocomplete(top)
    args = top.parse_args(arguments)
    commands = {
        "restore": restore.run,
        "scan": scan.run,
        "status": status.run,
        "view": view.run,
        "doctor": doctor.run,
        "compare": compare.run,
        "database": database.run,
        "query": query.run,
        "export": export.run,
        "pattern": pattern.run,
        "phases": phases.run,
        "train": train.run,
    }
    commands[args.command](args)
