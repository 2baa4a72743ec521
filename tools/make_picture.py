#!/usr/bin/env python3
"""Draw restored crystals of finished runs as one SVG, with the pictures of the report."""

import argparse
from html import escape
from pathlib import Path

import ase.io
import numpy as np
from ase import Atoms

from xtalfill.core.errors import InputError, run_command
from xtalfill.core.io import atomic_writer
from xtalfill.results.report.drawing import draw_crystal
from xtalfill.results.report.picture import draw_picture, sphere_shades

WIDTH, HEIGHT, TITLE = 360, 300, 34  # of a panel, pixels
STYLE = (
    ".crystal text{font:60px sans-serif;fill:#555;text-anchor:middle;dominant-baseline:middle}"
    ".crystal .new{stroke:#000;stroke-width:6}"
    ".crystal .bond{stroke:#8a8f98;stroke-width:18;stroke-linecap:round}"
    ".crystal .edge{stroke:#b9bec6;stroke-width:5;stroke-linecap:round}"
    ".title{font:15px sans-serif;fill:#222;text-anchor:middle}"
)


def main() -> None:
    """Draw some crystals of selected.extxyz."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--selected", type=Path, nargs="+", required=True, help="selected.extxyz of runs"
    )
    parser.add_argument("--id", nargs="+", required=True, help="ids of the crystals")
    parser.add_argument("--name", nargs="+", help="what to call them; their ids if left out")
    parser.add_argument("--host", action="store_true", help="draw the host beside each crystal")
    parser.add_argument("--references", type=Path, help="draw the crystal with its id beside each")
    parser.add_argument("--columns", type=int, default=3, help="panels side by side")
    parser.add_argument("--output", type=Path, required=True, help="SVG to write")
    args = parser.parse_args()
    crystals = chosen(args.selected, args.id)
    names = args.name or args.id
    if len(names) != len(crystals):
        raise InputError(f"{len(names)} names for {len(crystals)} crystals; give one for each")
    known = chosen([args.references], args.id) if args.references else [None] * len(crystals)
    panels = []
    for name, crystal, reference in zip(names, crystals, known, strict=True):
        if args.host:
            panels.append((f"{name}: host", crystal[crystal.arrays["is_host"]]))
        if reference is not None:
            panels.append((f"{name}: reference", with_hosts(reference, crystal)))
        panels.append((name, crystal))
    with atomic_writer(args.output) as file:
        file.write(sheet(panels, args.columns))


def chosen(paths: list[Path], ids: list[str]) -> list[Atoms]:
    """Return the crystals with some ids.

    Raises:
        InputError: One is in none of the files.
    """
    known = {str(one.info["id"]): one for path in paths for one in ase.io.read(path, ":")}
    for name in ids:
        if name not in known:
            raise InputError(f"no crystal {name} in {', '.join(map(str, paths))}")
    return [known[name] for name in ids]


def with_hosts(reference: Atoms, crystal: Atoms) -> Atoms:
    """Return a reference that says which of its atoms are of the host, by their element."""
    filled = crystal.numbers[~crystal.arrays["is_host"]]
    found = reference.copy()
    found.set_array("is_host", ~np.isin(reference.numbers, filled))
    return found


def sheet(panels: list[tuple[str, Atoms]], columns: int) -> str:
    """Return an SVG with a titled picture for each crystal."""
    rows = -(-len(panels) // columns)
    numbers = {int(number) for _, crystal in panels for number in crystal.numbers}
    parts = [sphere_shades(numbers)]
    for place, (name, crystal) in enumerate(panels):
        x, y = WIDTH * (place % columns), (HEIGHT + TITLE) * (place // columns)
        picture = draw_picture(draw_crystal(crystal, crystal.arrays["is_host"]), label=name)
        size = f'x="{x + 8}" y="{y + TITLE}" width="{WIDTH - 16}" height="{HEIGHT - 8}"'
        parts.append(picture.replace("<svg ", f"<svg {size} ", 1))
        title = f'<text class="title" x="{x + WIDTH // 2}" y="{y + TITLE - 10}">'
        parts.append(f"{title}{escape(name)}</text>")
    width, height = WIDTH * min(columns, len(panels)), (HEIGHT + TITLE) * rows
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}">'
        f'<style>{STYLE}</style><rect width="{width}" height="{height}" fill="#fff"/>'
        f"{''.join(parts)}</svg>\n"
    )


if __name__ == "__main__":
    run_command(main)
