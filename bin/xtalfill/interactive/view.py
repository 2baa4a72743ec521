"""A crystal for a notebook, as in the report: one frame of HTML that needs no network."""

from __future__ import annotations

import html
import json

import numpy as np
from ase import Atoms

from xtalfill.results.report.drawing import RESTORED_COLOUR, draw_crystal, element_styles
from xtalfill.results.report.html import own_file
from xtalfill.results.report.picture import draw_picture, sphere_shades

_HEIGHT = 420  # pixels
_MARGIN = 16  # of a page around its content, and what a browser adds
# The picture stays where the browser has no WebGL.
_PAGE = """<!DOCTYPE html><html lang="en"><meta charset="utf-8"><title>crystal</title>
<style>{style} body {{ background: #fff; }} :root {{ color-scheme: light; }}</style>
{shades}<div class="view" style="height:{height}px"><div class="picture">{picture}</div></div>
<output>Click two atoms for their distance.</output>
<script type="application/json">{view}</script><script>{plotly}</script><script>{viewer}
viewer.frame(document, {look});</script></html>"""


def crystal_frame(atoms: Atoms, is_host: np.ndarray) -> str:
    """Return an iframe with the view of a crystal as in the report.

    Args:
        atoms: The crystal, n atoms.
        is_host: (n,) False at restored sites.
    """
    from plotly.offline import get_plotlyjs

    drawing = draw_crystal(atoms, is_host)
    numbers = set(atoms.numbers.tolist())
    look = {"styles": element_styles(numbers), "restored": RESTORED_COLOUR}
    look |= {"bond": "#9aa3ab", "edge": "#57616b", "link": "#1864ab"}
    page = _PAGE.format(
        style=own_file("style.css"),
        shades=sphere_shades(numbers),
        height=_HEIGHT - 2 * _MARGIN - 24,
        picture=draw_picture(drawing, label=f"Crystal {atoms.get_chemical_formula()}"),
        view=json.dumps(drawing.payload()),
        plotly=get_plotlyjs(),
        viewer=own_file("viewer.js"),
        look=json.dumps(look),
    )
    style = f"width:100%;height:{_HEIGHT}px;border:0"
    return f'<iframe title="Crystal" srcdoc="{html.escape(page)}" style="{style}"></iframe>'
