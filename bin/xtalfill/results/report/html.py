"""report.html: a single file that needs no network and no other files."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
from ase.geometry import cell_to_cellpar
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from xtalfill.core.batch import Batch, read_batch
from xtalfill.core.relaxations import final_stage
from xtalfill.results.candidates import CandidateRow
from xtalfill.results.collect import best_over_methods
from xtalfill.results.report.figures import (
    Figure,
    dft_differences,
    energy_strip,
    split_bars,
    stage_times,
    success_curves,
)
from xtalfill.results.report.methods import cited, methods_paragraph
from xtalfill.results.report.views import Traces, crystal_view
from xtalfill.results.summary import ALL_METHODS
from xtalfill.results.tables import Tables, structure_rows

MAX_VIEWS = 60
MAX_FAILURES = 500
_SAME_CELL = 0.02  # Angstrom and degrees; CIF files round both
_SPLITS = {
    "size": "Size of the cell",
    "sites": "Number of missing sites",
    "site_class": "Chemistry",
}


def render_report(tables: Tables, *, evaluation: dict[str, Any], provenance: dict[str, Any]) -> str:
    """Return the report as HTML.

    Args:
        tables: All rows of the run.
        evaluation: Content of evaluation.json.
        provenance: Content of provenance.json.
    """
    rows = structure_rows(tables)
    best = best_over_methods(tables)
    shown = sorted(best)[:MAX_VIEWS]
    figures, views = _overview_figures(evaluation, provenance), _views(tables, best, shown)
    figures["dft"] = dft_differences(tables.candidates)
    for name in shown:
        candidates = [row for row in tables.candidates if row.id == name]
        figures[f"energy-{name}"] = energy_strip(candidates)
    drawn = {name: figure for name, figure in figures.items() if figure is not None}
    sentences = methods_paragraph(provenance, evaluation)
    here = Path(__file__).parent
    environment = Environment(
        loader=FileSystemLoader(here), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    environment.filters |= {"number": _number, "percent": _percent, "interval": _interval}
    return environment.get_template("template.html").render(
        rows=rows,
        best=best,
        shown=shown,
        n_left_out=len(best) - len(shown),
        row_of={(row.id, row.method): row for row in rows},
        disputed={row.id for row in rows if row.ranking_agrees is False},
        figures=drawn,
        failures=tables.failures[:MAX_FAILURES],
        n_failures=len(tables.failures),
        counts=evaluation["counts"],
        evaluation=evaluation,
        dft=evaluation.get("dft"),
        dft_rows=[row for row in tables.candidates if row.dft_status],
        provenance=provenance,
        splits=_SPLITS,
        sentences=sentences,
        citations=cited(sentences),
        payload=_json({"figures": drawn, "views": views}),
        plotly=Markup(get_plotlyjs()),  # noqa: S704 - a file of the library
        style=_own_file(here / "style.css"),
        script=_own_file(here / "report.js"),
    )


def _overview_figures(
    evaluation: dict[str, Any], provenance: dict[str, Any]
) -> dict[str, Figure | None]:
    together = evaluation["all_methods"]
    methods = evaluation["methods"] | ({ALL_METHODS: together} if together else {})
    figures = {
        "curve-matched": success_curves(methods, "matched", title="structures matched, %"),
        "curve-les": success_curves(methods, "les", title="lower energy or match, %"),
        "times": stage_times(provenance["stages"]),
    }
    return figures | {f"split-{name}": split_bars(methods, name, "matched") for name in _SPLITS}


def _views(tables: Tables, best: dict[str, CandidateRow], shown: list[str]) -> dict[str, Traces]:
    """Return the 3-D view of the best candidate of each shown structure."""
    views = {}
    for path in sorted({tables.batch_of[name] for name in shown}):
        batch = read_batch(path)
        index_of = {
            (batch.id[i], batch.method[i], int(batch.sample[i])): i for i in range(batch.n_systems)
        }
        for name in shown:
            row = best[name]
            index = index_of.get((name, row.method, row.sample))
            if index is not None:
                views[name] = _view(batch, index)
    return views


def _view(batch: Batch, index: int) -> Traces:
    here = batch.atoms_slice(index)
    reference = batch.reference_of(batch.id[index])
    sites = None if reference is None else _reference_sites(batch, index, reference)
    atoms = batch.to_ase(index, stage=final_stage(batch))
    return crystal_view(atoms, batch.is_host[here], reference_sites=sites)


def _reference_sites(batch: Batch, index: int, reference: int) -> np.ndarray | None:
    """Return the relaxed sites of the reference in the cell of the candidate, (m, 3) Angstrom.

    None if the two cells differ in more than their orientation.
    """
    ours, true = batch.cell[index], batch.cell[reference]
    if not np.allclose(cell_to_cellpar(ours), cell_to_cellpar(true), rtol=0, atol=_SAME_CELL):
        return None
    there = batch.atoms_slice(reference)
    positions = batch.stages[final_stage(batch)].arrays["positions"][there]
    sites = positions[~batch.is_host[there]]
    return np.linalg.solve(true.T, sites.T).T @ ours if np.isfinite(sites).all() else None


def _own_file(path: Path) -> Markup:
    return Markup(path.read_text(encoding="utf-8"))  # noqa: S704 - a file of this package


def _json(content: Any) -> Markup:
    """Return JSON that is safe inside a script element, whatever strings it contains."""
    text = json.dumps(content, allow_nan=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)  # noqa: S704 - escaped above


def _number(value: float | None, digits: int = 3) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "–"
    text = f"{value:.{digits}f}"
    return text.lstrip("-") if float(text) == 0 else text.replace("-", "−")


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f} %"


def _interval(rate: dict[str, Any]) -> str:
    return f"{_percent(rate['mean'])} ({100 * rate['low']:.0f}–{100 * rate['high']:.0f})"
