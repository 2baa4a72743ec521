"""`xtalfill pattern`: powder patterns of the minima of a run, compared with a measured one."""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import TYPE_CHECKING

from xtalfill.core.errors import ConfigError

if TYPE_CHECKING:
    from rich.table import Table

    from xtalfill.checks.diffraction import Kind, Radiation
    from xtalfill.checks.measured import PatternFile
    from xtalfill.checks.profile import Measured
    from xtalfill.cli.parser import Commands
    from xtalfill.results.patterns import Pattern

KINDS: tuple[Kind, ...] = ("xray", "neutron")


def add_parser(commands: Commands) -> None:
    """Add the command `pattern`."""
    pattern = commands.add_parser(
        "pattern",
        help="powder patterns of the minima of a run, and their fit to a measured one",
        description="Simulate powder patterns of the answers of a run; compare them with each "
        "other, or with a measured pattern.",
    )
    pattern.add_argument("results", type=Path, help="--outdir of a finished run")
    pattern.add_argument("--id", nargs="+", default=[], help="structures; all if left out")
    pattern.add_argument(
        "--pattern", type=Path, help="measured pattern: xy, xye or CIF; needs a single --id"
    )
    pattern.add_argument(
        "--radiation", choices=KINDS, help="both if left out; a CIF --pattern may tell it"
    )
    pattern.add_argument("--wavelength", type=float, help="Å; 1.54056 (xray), 1.5 (neutron)")
    pattern.add_argument(
        "--deuterium", action="store_true", help="the hydrogen of the sample is deuterium"
    )
    pattern.add_argument(
        "--range", type=float, nargs=2, metavar=("FROM", "TO"), help="of 2 theta, degrees"
    )
    pattern.add_argument("--minima", type=int, default=4, help="largest number of minima")
    pattern.add_argument("-o", "--output", type=Path, help="folder for tables and pictures")


def run(args: argparse.Namespace) -> None:
    """Print a table for each structure and radiation; write files with --output.

    Raises:
        ConfigError: The options do not fit together.
        InputError: The run or the pattern cannot be used.
    """
    from rich.console import Console

    from xtalfill.results.patterns import LIMITS, make_pattern, phases_of_run, write_patterns

    if args.minima < 1:
        raise ConfigError(f"--minima is {args.minima}; it must be at least 1")
    limits: tuple[float, float] = tuple(args.range or LIMITS)
    if not 0 < limits[0] < limits[1] < 180:
        raise ConfigError(f"--range is {limits[0]:g} {limits[1]:g}; give degrees in (0, 180)")
    phases = phases_of_run(args.results, args.id, minima=args.minima)
    file = _measured(args, len(phases))
    measured = None if file is None else _within(file, args.range)
    patterns = [
        make_pattern(name, members, radiation, limits=limits, measured=measured)
        for name, members in phases.items()
        for radiation in _radiations(args, file)
    ]
    for one in patterns:
        Console().print(table_of(one))
    if args.output is not None:
        for path in write_patterns(patterns, args.output):
            print(path)


def _measured(args: argparse.Namespace, n_structures: int) -> PatternFile | None:
    from xtalfill.checks.measured import read_pattern

    if args.pattern is None:
        return None
    if n_structures != 1:
        raise ConfigError("--pattern is of one structure; name it with --id")
    file = read_pattern(args.pattern)
    if args.radiation is None and file.kind is None:
        raise ConfigError(f"{args.pattern} does not tell the radiation; give --radiation")
    if args.wavelength is None and file.wavelength is None:
        raise ConfigError(f"{args.pattern} does not tell the wavelength; give --wavelength")
    return file


def _within(file: PatternFile, limits: list[float] | None) -> Measured:
    """Return the part of a measured pattern in a range."""
    from xtalfill.checks.measured import LEAST_POINTS
    from xtalfill.checks.profile import Measured

    found = file.measured
    if limits is None:
        return found
    kept = (found.two_theta >= limits[0]) & (found.two_theta <= limits[1])
    if kept.sum() < LEAST_POINTS:
        raise ConfigError(f"--range: the pattern has fewer than {LEAST_POINTS} points there")
    return Measured(found.two_theta[kept], found.intensity[kept], found.sigma[kept])


def _radiations(args: argparse.Namespace, file: PatternFile | None) -> list[Radiation]:
    from xtalfill.checks.diffraction import WAVELENGTHS, Radiation

    told = None if file is None else file.kind
    only: Kind | None = args.radiation or told
    kinds = KINDS if only is None else (only,)
    length = args.wavelength or (None if file is None else file.wavelength)
    return [Radiation(kind, length or WAVELENGTHS[kind], args.deuterium) for kind in kinds]


def table_of(pattern: Pattern) -> Table:
    """Return the crystals of a pattern as a table for the terminal."""
    from rich.table import Table

    length = pattern.radiation.wavelength
    table = Table(
        title=f"{pattern.id}: {pattern.radiation.kind}, {length:g} Å", title_justify="left"
    )
    fitted = pattern.measured is not None
    heads = ["crystal", "meV/atom", "difference, %"]
    for head in [*heads, *(["R_wp, %", "chi²", "zero, °", "B, Å²"] if fitted else [])]:
        table.add_column(head, justify="left" if head == "crystal" else "right")
    for row in pattern.rows:
        energy = 1000 * row.energy_above_best
        cells = [row.crystal, "" if math.isnan(energy) else f"{energy:.1f}"]
        cells.append(f"{100 * row.difference:.1f}")
        if fitted:
            cells += [f"{100 * row.rwp:.2f}", f"{row.chi2:.1f}", f"{row.zero:.3f}", f"{row.b:.1f}"]
        table.add_row(*cells)
    return table
