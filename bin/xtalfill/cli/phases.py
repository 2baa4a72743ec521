"""`xtalfill phases`: energies of known phases, for `--competing_phases`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from xtalfill.cli.parser import Commands


def add_parser(commands: Commands) -> None:
    """Add the command `phases`."""
    phases = commands.add_parser(
        "phases",
        help="compute the energies of known phases, the table of --competing_phases",
        description="Relax the lowest structure of each composition with the potential of a run.",
    )
    phases.add_argument("input", help="structures of the phases: an input of the pipeline")
    phases.add_argument("--mlip", required=True, help="potential that ranks in the run")
    phases.add_argument("--potential_dir", type=Path, help="folder of published models")
    phases.add_argument(
        "--max_steps", type=int, help="of a relaxation (0: none; default: that of the pipeline)"
    )
    phases.add_argument("--most_elements", type=int, help="leave out structures of more elements")
    phases.add_argument(
        "--stable", action="store_true", help="only the phases on the hull; it stays the same"
    )
    phases.add_argument("-o", "--output", type=Path, default=Path("phases.csv"))


def run(args: argparse.Namespace) -> None:
    """Write the table; tell what was refused."""
    from xtalfill.interactive.phase_table import phase_table, write_phases

    table = phase_table(
        args.input,
        mlip=args.mlip,
        potential_dir=args.potential_dir,
        max_steps=args.max_steps,
        most_elements=args.most_elements,
        stable=args.stable,
    )
    for message in table.refused:
        print(f"refused: {message}", file=sys.stderr)
    write_phases(args.output, table)
    left_out = f"; {table.n_above} above the hull left out" if args.stable else ""
    print(
        f"{args.output}: {len(table.rows)} compositions of {table.n_structures} structures, "
        f"{len(table.refused)} refused{left_out}"
    )
