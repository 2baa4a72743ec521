"""`xtalfill status`: what a run of the pipeline has done, and how long the rest takes."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import TYPE_CHECKING

from xtalfill.core.errors import ConfigError

if TYPE_CHECKING:
    from xtalfill.cli.parser import Commands


def add_parser(commands: Commands) -> None:
    """Add the command `status`."""
    status = commands.add_parser(
        "status",
        help="show how far a run of the pipeline is",
        description="Read the files of a run, on any machine that sees them, while it runs or "
        "after it.",
    )
    status.add_argument(
        "outdir", type=Path, nargs="?", default=Path("results"), help="its --outdir"
    )
    status.add_argument("--watch", action="store_true", help="again and again, until the run ends")
    status.add_argument("--interval", type=float, default=10, help="seconds between two looks")
    status.add_argument("--batches", action="store_true", help="a row for each batch, too")
    status.add_argument("--tasks", type=int, default=5, help="most tasks in a list")


def run(args: argparse.Namespace) -> None:
    """Print the state of the run, once or until it ends.

    Raises:
        ConfigError: The interval is not positive.
        InputError: No run wrote to the folder.
    """
    from rich.console import Console
    from rich.live import Live

    from xtalfill.monitor.run import read_run
    from xtalfill.monitor.table import render

    if args.interval <= 0:
        raise ConfigError(f"--interval is {args.interval}; it is more than 0 s")
    console = Console()
    found = read_run(args.outdir)
    if args.watch and console.is_terminal:
        with Live(console=console, auto_refresh=False, transient=True) as screen:
            while found.live:
                screen.update(render(found, number=args.tasks, batches=args.batches), refresh=True)
                time.sleep(args.interval)
                found = read_run(args.outdir)
    console.print(render(found, number=args.tasks, batches=args.batches))
