"""Plotly figures of a report as plain dictionaries: data, layout and label.

The label says what the figure shows to those who do not see it. figures.js adds the colours of
text and grid, which follow the page.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from xtalfill.results.candidates import CandidateRow

Figure = dict[str, Any]

# Palette of Okabe and Ito, suitable for colour-blind readers; grey instead of black, which a dark
# page would hide.
PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8a8f94")
_OUTCOME_COLOURS = {
    "match": "#2f9e44",
    "lower in energy": "#228be6",
    "other": "#868e96",
    "candidate": "#7561e0",
    "not converged": "#e8820c",
}
_FONT = {"family": "system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif", "size": 13}
# meV/atom; less is below what a potential or DFT resolves.
LEAST_ENERGY_RANGE = 1.0


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
    last = max(data, key=lambda item: len(item["x"]) if "name" in item else 0)["x"][-1]
    ends = [f"{item['name']} {item['y'][-1]:.0f} %" for item in data if "name" in item]
    label = f"{title}, against the number of candidates. At {last} candidates: {', '.join(ends)}"
    return {"data": data, "layout": layout, "label": label}


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
                    "color": "#868e96",
                    "thickness": 1.2,
                },
                "hovertemplate": "%{y:.1f} %<extra>" + name + "</extra>",
            }
        )
    if not data:
        return None
    layout = _layout("", "structures, %") | {"barmode": "group", "bargap": 0.35}
    layout["yaxis"] |= {"range": [0, 105]}
    bars = [
        f"{item['name']}, {part.replace('<br>', ', ')}: {value:.0f} %"
        for item in data
        for part, value in zip(item["x"], item["y"], strict=True)
    ]
    label = f"Structures whose selected candidate matches, %. {'; '.join(bars)}"
    return {"data": data, "layout": layout, "label": label}


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
    values = [value for trace in data for value in trace["y"]]
    layout["yaxis"] |= {"zeroline": True, "range": _energy_range(values)}
    text = f"{label} of {len(values)} candidates, from {min(values):.1f} to {max(values):.1f}"
    return {"data": data, "layout": layout, "label": text}


def _energy_range(values: Sequence[float]) -> list[float]:
    """Return the ends of an axis of energies in meV/atom, with a margin."""
    low, high = min(values), max(values)
    wider = max(0.0, LEAST_ENERGY_RANGE - (high - low)) / 2
    margin = 0.08 * max(high - low, LEAST_ENERGY_RANGE)
    return [low - wider - margin, high + wider + margin]


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
    label = f"E − E(ref) of {len(compared)} candidates, by DFT against by the potential"
    return {"data": data, "layout": layout, "label": label}


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
    times = [f"{stage['stage']} {stage['seconds_sum']:.0f} s" for stage in stages]
    return {"data": data, "layout": layout, "label": f"Time by stage: {', '.join(times)}"}


def _layout(x_title: str, y_title: str) -> dict[str, Any]:
    axis = {"zeroline": False, "automargin": True}
    return {
        "font": _FONT,
        "margin": {"l": 60, "r": 16, "t": 16, "b": 50},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "legend": {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
        "xaxis": {"title": {"text": x_title, "font": {"size": 13}}} | axis,
        "yaxis": {"title": {"text": y_title, "font": {"size": 13}}} | axis,
    }
