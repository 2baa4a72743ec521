"""Plotly figures of a report as plain dictionaries: data and layout."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from xtalfill.results.candidates import CandidateRow

Figure = dict[str, Any]

# Palette of Okabe and Ito, suitable for colour-blind readers.
PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
_OUTCOME_COLOURS = {
    "match": "#2b8a3e",
    "lower in energy": "#1971c2",
    "other": "#868e96",
    "candidate": "#495057",
    "not converged": "#f08c00",
}
_FONT = {"family": "system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif", "size": 13}
_GRID = "#e9ecef"


def success_curves(methods: dict[str, Any], outcome: str, *, title: str) -> Figure | None:
    """Return success rates against the number of candidates: a line with a band for each method.

    Args:
        methods: "methods" of evaluation.json.
        outcome: "matched" or "les".
        title: Title of the vertical axis.

    Returns:
        The figure, or None if no structure has a reference.
    """
    data: list[dict[str, Any]] = []
    for number, (name, content) in enumerate(methods.items()):
        if outcome not in content:
            continue
        k, curve = content[outcome]["k"], content[outcome]["best_of_k"]
        colour = PALETTE[number % len(PALETTE)]
        data += [
            {
                "x": [*k, *reversed(k)],
                "y": [100 * v for v in [*curve["high"], *reversed(curve["low"])]],
                "fill": "toself",
                "fillcolor": colour,
                "opacity": 0.15,
                "line": {"width": 0},
                "mode": "lines",
                "hoverinfo": "skip",
                "showlegend": False,
            },
            {
                "x": k,
                "y": [100 * v for v in curve["mean"]],
                "name": name,
                "mode": "lines+markers",
                "line": {"color": colour, "width": 2},
                "hovertemplate": "best of %{x}: %{y:.1f} %<extra>" + name + "</extra>",
            },
        ]
    if not data:
        return None
    layout = _layout("candidates per structure, k", title)
    layout["yaxis"] |= {"range": [0, 103]}
    layout["xaxis"] |= {"dtick": 1 if max(len(item["x"]) for item in data) < 45 else None}
    return {"data": data, "layout": layout}


def split_bars(methods: dict[str, Any], split: str, outcome: str) -> Figure | None:
    """Return the rate of the selected candidate in each part of a split, as bars.

    Args:
        methods: "methods" of evaluation.json.
        split: "size", "sites" or "site_class".
        outcome: "matched" or "les".

    Returns:
        The figure, or None if no structure has a reference.
    """
    data = []
    for number, (name, content) in enumerate(methods.items()):
        parts = content.get("splits", {}).get(split, [])
        if not parts:
            continue
        rates = [part[outcome]["selected"] for part in parts]
        data.append(
            {
                "type": "bar",
                "name": name,
                "x": [f"{part['label']}<br>n = {part['n_structures']}" for part in parts],
                "y": [100 * rate["mean"] for rate in rates],
                "marker": {"color": PALETTE[number % len(PALETTE)]},
                "error_y": {
                    "type": "data",
                    "symmetric": False,
                    "array": [100 * (rate["high"] - rate["mean"]) for rate in rates],
                    "arrayminus": [100 * (rate["mean"] - rate["low"]) for rate in rates],
                    "color": "#343a40",
                    "thickness": 1.2,
                },
                "hovertemplate": "%{y:.1f} %<extra>" + name + "</extra>",
            }
        )
    if not data:
        return None
    layout = _layout("", "structures, %") | {"barmode": "group", "bargap": 0.35}
    layout["yaxis"] |= {"range": [0, 105]}
    return {"data": data, "layout": layout}


def energy_strip(rows: Sequence[CandidateRow]) -> Figure | None:
    """Return the energies of the candidates of a structure, one column for each method.

    Energies are per atom and relative to the reference, or to the lowest candidate if there is
    no reference.

    Args:
        rows: All candidates of one structure.

    Returns:
        The figure, or None if no candidate has an energy.
    """
    finite = [row for row in rows if math.isfinite(row.energy)]
    if not finite:
        return None
    zero, label = _energy_zero(finite)
    methods = sorted({row.method for row in rows})
    kinds: dict[str, list[CandidateRow]] = {}
    for row in finite:
        kinds.setdefault(_kind(row), []).append(row)
    data = [_strip(kind, kinds[kind], methods, zero) for kind in _OUTCOME_COLOURS if kind in kinds]
    layout = _layout("", label)
    layout["xaxis"] |= {
        "tickvals": list(range(len(methods))),
        "ticktext": methods,
        "range": [-0.6, len(methods) - 0.4],
    }
    layout["yaxis"] |= {"zeroline": True, "zerolinecolor": "#ced4da"}
    return {"data": data, "layout": layout}


def _energy_zero(rows: Sequence[CandidateRow]) -> tuple[float, str]:
    for row in rows:
        if math.isfinite(row.energy_above_reference):
            zero = row.energy / row.n_atoms - row.energy_above_reference
            return zero, "E − E(ref), meV/atom"
    return min(row.energy for row in rows) / rows[0].n_atoms, "E − E(lowest), meV/atom"


def _kind(row: CandidateRow) -> str:
    if row.status != "ok":
        return "not converged"
    if not row.has_reference:
        return "candidate"
    if row.matched:
        return "match"
    return "lower in energy" if row.les else "other"


def _strip(kind: str, rows: list[CandidateRow], methods: list[str], zero: float) -> dict[str, Any]:
    symbols = ["star" if row.selected else "circle" for row in rows]
    return {
        "mode": "markers",
        "name": kind,
        # Spread by sample, so that candidates in the same minimum do not overlap.
        "x": [methods.index(row.method) + 0.5 * ((row.sample * 0.618) % 1 - 0.5) for row in rows],
        "y": [1000 * (row.energy / row.n_atoms - zero) for row in rows],
        "marker": {
            "color": _OUTCOME_COLOURS[kind],
            "symbol": symbols,
            "size": [14 if row.selected else 9 for row in rows],
            "line": {"color": "#ffffff", "width": 1},
        },
        "text": [f"sample {row.sample}, {row.n_steps} steps" for row in rows],
        "hovertemplate": "%{text}<br>%{y:.1f} meV/atom<extra>" + kind + "</extra>",
    }


def dft_differences(rows: Sequence[CandidateRow]) -> Figure | None:
    """Return energies relative to the reference by DFT against those by the potential.

    Args:
        rows: All candidates of the run.

    Returns:
        The figure, or None if no candidate was compared after DFT.
    """
    compared = [
        row
        for row in rows
        if math.isfinite(row.energy_above_reference)
        and math.isfinite(row.dft_energy_above_reference)
    ]
    if not compared:
        return None
    kinds: dict[str, list[CandidateRow]] = {}
    for row in compared:
        kind = "match" if row.dft_matched else "lower in energy" if row.dft_les else "other"
        kinds.setdefault(kind, []).append(row)
    data = [_differences(kind, kinds[kind]) for kind in _OUTCOME_COLOURS if kind in kinds]
    values = [value for trace in data for axis in ("x", "y") for value in trace[axis]]
    ends = [min(0.0, *values) - 1, max(0.0, *values) + 1]
    data.append(
        {
            "x": ends,
            "y": ends,
            "mode": "lines",
            "line": {"color": "#adb5bd", "width": 1},
            "showlegend": False,
            "hoverinfo": "skip",
        }
    )
    layout = _layout("E − E(ref) by the potential, meV/atom", "E − E(ref) by DFT, meV/atom")
    return {"data": data, "layout": layout}


def _differences(kind: str, rows: list[CandidateRow]) -> dict[str, Any]:
    return {
        "mode": "markers",
        "name": kind,
        "x": [1000 * row.energy_above_reference for row in rows],
        "y": [1000 * row.dft_energy_above_reference for row in rows],
        "marker": {"color": _OUTCOME_COLOURS[kind], "size": 9},
        "text": [f"{row.id}, {row.method} {row.sample}" for row in rows],
        "hovertemplate": "%{text}<br>%{x:.1f}, %{y:.1f} meV/atom<extra>" + kind + "</extra>",
    }


def stage_times(stages: Sequence[dict[str, Any]]) -> Figure | None:
    """Return the total time of the tasks of each stage.

    Args:
        stages: "stages" of provenance.json.
    """
    if not stages:
        return None
    names = [stage["stage"] for stage in stages][::-1]
    data = [
        {
            "type": "bar",
            "orientation": "h",
            "y": names,
            "x": [stage["seconds_sum"] for stage in stages][::-1],
            "marker": {"color": PALETTE[0]},
            "hovertemplate": "%{x:.1f} s<extra>%{y}</extra>",
        }
    ]
    layout = _layout("total time of the tasks, s", "")
    layout["yaxis"] |= {"automargin": True}
    return {"data": data, "layout": layout}


def _layout(x_title: str, y_title: str) -> dict[str, Any]:
    axis = {"gridcolor": _GRID, "zeroline": False, "linecolor": "#ced4da", "automargin": True}
    return {
        "font": _FONT,
        "margin": {"l": 60, "r": 16, "t": 16, "b": 50},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "legend": {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
        "xaxis": {"title": {"text": x_title, "font": {"size": 13}}} | axis,
        "yaxis": {"title": {"text": y_title, "font": {"size": 13}}} | axis,
    }
