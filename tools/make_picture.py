#!/usr/bin/env python3
"""Draw a host and its restored crystal from the results of a run."""

import argparse
from pathlib import Path

import ase.io
from ase import Atoms
from ase.data import covalent_radii
from ase.data.colors import jmol_colors
from ase.visualize.plot import plot_atoms
from matplotlib.axes import Axes
from matplotlib.figure import Figure

RESTORED_COLOUR = (0.95, 0.45, 0.1)


def main() -> None:
    """Draw one crystal of selected.extxyz."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--selected", type=Path, required=True, help="selected.extxyz of a run")
    parser.add_argument("--id", required=True, help="id of the crystal")
    parser.add_argument("--n_missing", type=int, required=True, help="number of filled sites")
    parser.add_argument("--rotation", default="-80x,15y,0z", help="rotation of ASE's plot_atoms")
    parser.add_argument("--repeat", type=int, default=1, help="number of cells along each axis")
    parser.add_argument("--output", type=Path, required=True, help="PNG to write")
    args = parser.parse_args()
    frames = [a for a in ase.io.read(args.selected, ":") if a.info["id"] == args.id]
    if not frames:
        parser.error(f"{args.selected} does not contain crystal {args.id}")
    crystal = frames[0]
    crystal.wrap()
    figure = Figure(figsize=(8.4, 4.0), layout="constrained")
    left, right = figure.subplots(1, 2)
    draw(left, crystal, args, filled=False)
    draw(right, crystal, args, filled=True)
    left.set_title(f"host of {args.id}: what X-rays saw")
    right.set_title(f"restored: {args.n_missing} sites a cell found (orange)")
    figure.savefig(args.output, dpi=130)


def draw(axes: Axes, crystal: Atoms, args: argparse.Namespace, *, filled: bool) -> None:
    """Draw a crystal; the last `n_missing` sites are the filled ones."""
    n_host = len(crystal) - args.n_missing
    shown = crystal if filled else crystal[:n_host]
    colours = [
        RESTORED_COLOUR if index >= n_host else tuple(jmol_colors[number])
        for index, number in enumerate(shown.numbers)
    ]
    repeated = shown.repeat(args.repeat)
    plot_atoms(
        repeated,
        axes,
        rotation=args.rotation,
        radii=0.75 * covalent_radii[repeated.numbers],
        colors=colours * args.repeat**3,
    )
    axes.set_axis_off()


if __name__ == "__main__":
    main()
