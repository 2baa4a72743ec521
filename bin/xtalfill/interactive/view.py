"""A crystal in 3-D for a notebook: one frame of HTML that needs no network."""

from __future__ import annotations

import html

import numpy as np
from ase import Atoms

from xtalfill.results.report.views import crystal_view

_HEIGHT = 420  # pixels
_MARGIN = 16  # of a page around its content, and what a browser adds


def crystal_frame(atoms: Atoms, is_host: np.ndarray) -> str:
    """Return an iframe with the view of a crystal as in the report.

    Args:
        atoms: The crystal, n atoms.
        is_host: (n,) False at restored sites.
    """
    import plotly.graph_objects as go
    from plotly.io import to_html

    hidden = {"visible": False}
    layout = {
        "margin": {"l": 0, "r": 0, "t": 0, "b": 0},
        "scene": {"aspectmode": "data", "xaxis": hidden, "yaxis": hidden, "zaxis": hidden},
        "legend": {"orientation": "h"},
    }
    figure = go.Figure(crystal_view(atoms, is_host), layout)
    page = to_html(
        figure,
        include_plotlyjs=True,
        config={"displaylogo": False},
        default_height=f"{_HEIGHT - 2 * _MARGIN}px",
    )
    style = f"width:100%;height:{_HEIGHT}px;border:0"
    return f'<iframe srcdoc="{html.escape(page)}" style="{style}"></iframe>'
