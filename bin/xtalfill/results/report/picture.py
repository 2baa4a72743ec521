"""A picture of a crystal as SVG: without WebGL, sharp in print, in the colours of the page.

The view is that with which viewer.js starts. style.css sets lines and text; `sphere_shades` is
needed once in the page.
"""

from __future__ import annotations

from html import escape
from itertools import pairwise

import numpy as np
from ase.data import chemical_symbols

from xtalfill.results.report.drawing import (
    RESTORED_COLOUR,
    Drawing,
    cell_edges,
    element_styles,
    sphere_radius,
)

# From the middle of the crystal to the eye; viewer.js has the same.
EYE = (0.55, -1.5, 0.45)
_SCALE = 100  # units of the picture in an Angstrom
_EDGE_PARTS = 3  # each drawn at its own depth
_LABEL_AWAY = 0.45  # Angstrom from the corner
_RESTORED_LARGER = 1.25


def sphere_shades(numbers: set[int]) -> str:
    """Return an invisible SVG element with the shades of the spheres of some elements."""
    colours = {name: style["colour"] for name, style in element_styles(numbers).items()}
    shades = [_shade(name, colour) for name, colour in colours.items()]
    shades.append(_shade("restored", RESTORED_COLOUR))
    return f'<svg class="shades" aria-hidden="true"><defs>{"".join(shades)}</defs></svg>'


def draw_picture(drawing: Drawing, *, label: str) -> str:
    """Return a crystal as SVG.

    Args:
        drawing: What to draw.
        label: What the picture shows, for those who do not see it.
    """
    turn = _axes()
    spheres = drawing.positions @ turn
    radii = _radii(drawing)
    parts = _edges(drawing, turn) + _bonds(drawing, spheres, radii)
    parts += _spheres(drawing, spheres, radii) + _sites(drawing, turn)
    parts.sort(key=lambda part: part[0])
    low = (spheres[:, :2] - radii[:, None]).min(axis=0)
    high = (spheres[:, :2] + radii[:, None]).max(axis=0)
    corners = cell_edges(drawing.cell).reshape(-1, 3) @ turn
    low = np.minimum(low, corners[:, :2].min(axis=0) - 2 * _LABEL_AWAY)
    high = np.maximum(high, corners[:, :2].max(axis=0) + 2 * _LABEL_AWAY)
    x, y = _units(low)
    width, height = (end - start for end, start in zip(_units(high), (x, y), strict=True))
    return (
        f'<svg class="crystal" role="img" aria-label="{escape(label)}" '
        f'viewBox="{x} {y} {width} {height}">'
        f"{''.join(text for _, text in parts)}{_axis_names(drawing, turn)}</svg>"
    )


def _axes() -> np.ndarray:
    """Return the directions right, down and towards the eye as columns."""
    towards = np.array(EYE) / np.linalg.norm(EYE)
    right = np.cross((0.0, 0.0, 1.0), towards)
    right /= np.linalg.norm(right)
    return np.column_stack([right, -np.cross(towards, right), towards])


def _shade(name: str, colour: str) -> str:
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    light, dark = (
        "#" + "".join(f"{round(c + share * (end - c)):02x}" for c in (red, green, blue))
        for share, end in ((0.75, 255), (0.3, 0))
    )
    return (
        f'<radialGradient id="shade-{name}" cx=".38" cy=".34" r=".72"><stop stop-color="{light}"/>'
        f'<stop offset=".45" stop-color="{colour}"/><stop offset="1" stop-color="{dark}"/>'
        "</radialGradient>"
    )


def _radii(drawing: Drawing) -> np.ndarray:
    radii = np.array([sphere_radius(int(number)) for number in drawing.numbers])
    return np.where(drawing.is_host, radii, _RESTORED_LARGER * radii)[drawing.index]


def _spheres(drawing: Drawing, seen: np.ndarray, radii: np.ndarray) -> list[tuple[float, str]]:
    parts = []
    spheres = zip(drawing.index, seen, radii, strict=True)
    for number, (index, place, radius) in enumerate(spheres):
        x, y = _units(place[:2])
        name = chemical_symbols[drawing.numbers[index]]
        new = "" if drawing.is_host[index] else ' class="new"'
        shade = name if drawing.is_host[index] else "restored"
        circle = f'<circle{new} data-atom="{number}" cx="{x}" cy="{y}" r="{round(_SCALE * radius)}"'
        parts.append((float(place[2]), f'{circle} fill="url(#shade-{shade})"/>'))
    return parts


def _bonds(drawing: Drawing, seen: np.ndarray, radii: np.ndarray) -> list[tuple[float, str]]:
    """Return the bonds, each from the surface of one sphere to that of the other."""
    parts = []
    for first, second in drawing.bonds:
        along = seen[second] - seen[first]
        along /= np.linalg.norm(along)
        ends = [
            seen[first] + 0.9 * radii[first] * along,
            seen[second] - 0.9 * radii[second] * along,
        ]
        parts.append(_line("bond", ends[0], ends[1]))
    return parts


def _edges(drawing: Drawing, turn: np.ndarray) -> list[tuple[float, str]]:
    steps = np.linspace(0, 1, _EDGE_PARTS + 1)[:, None]
    parts = []
    for start, end in cell_edges(drawing.cell) @ turn:
        points = start + steps * (end - start)
        parts += [_line("edge", *pair) for pair in pairwise(points)]
    return parts


def _line(kind: str, start: np.ndarray, end: np.ndarray) -> tuple[float, str]:
    (x, y), (u, v) = _units(start[:2]), _units(end[:2])
    return float(start[2] + end[2]) / 2, f'<path class="{kind}" d="M{x} {y}L{u} {v}"/>'


def _sites(drawing: Drawing, turn: np.ndarray) -> list[tuple[float, str]]:
    """Return the sites of the reference: rings around where the spheres should be."""
    number = int(drawing.numbers[~drawing.is_host][0]) if (~drawing.is_host).any() else 1
    radius = round(1.7 * _SCALE * sphere_radius(number))
    parts = []
    for place in drawing.reference @ turn:
        x, y = _units(place[:2])
        ring = f'<circle class="reference" cx="{x}" cy="{y}" r="{radius}"/>'
        parts.append((float(place[2]) + 1.0, ring))
    return parts


def _axis_names(drawing: Drawing, turn: np.ndarray) -> str:
    names = []
    for name, (_, end) in zip("abc", cell_edges(drawing.cell)[:3] @ turn, strict=True):
        flat = end[:2] / max(float(np.linalg.norm(end[:2])), 1e-9)
        x, y = _units(end[:2] + _LABEL_AWAY * 2 * flat)
        names.append(f'<text x="{x}" y="{y}">{name}</text>')
    return "".join(names)


def _units(point: np.ndarray) -> tuple[int, int]:
    return round(_SCALE * float(point[0])), round(_SCALE * float(point[1]))
