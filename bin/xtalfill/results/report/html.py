"""report.html: a single file that needs no network and no other files."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from xtalfill.core.io import csv_cells
from xtalfill.results.columns import columns_of
from xtalfill.results.report.answers import Answer, find_answers, overall_support
from xtalfill.results.report.counted import MAX_SHOWN, compared_structures
from xtalfill.results.report.crystals import CrystalPages
from xtalfill.results.report.drawing import RESTORED_COLOUR, element_styles
from xtalfill.results.report.figures import (
    Figure,
    dft_differences,
    split_bars,
    stage_times,
    success_curves,
)
from xtalfill.results.report.methods import cited, methods_paragraph
from xtalfill.results.report.packed import pack_json, pack_text
from xtalfill.results.report.picture import sphere_shades
from xtalfill.results.structures import StructureRow
from xtalfill.results.summary import ALL_METHODS
from xtalfill.results.tables import Tables, structure_rows

# Some 5 kB each; beyond, the page would be too large to send by mail.
MAX_PAGES = 2000
MAX_FAILURES = 500
_CHUNK = 16  # pages that are unpacked together
HERE = Path(__file__).parent
SCRIPTS = ("parts.js", "viewer.js", "figures.js", "table.js", "crystal.js")
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
    answers = find_answers(tables, rows)
    shown = dict(list(answers.items())[:MAX_PAGES])
    compared = compared_structures(tables.counts)
    figures = _overview_figures(evaluation, provenance, tables)
    sentences = methods_paragraph(provenance, evaluation)
    environment = make_environment()
    pages = CrystalPages(tables, environment)
    chunks = [pack_json(part) for part in _chunks(pages.make(list(shown.values())))]
    overview = {
        "figures": figures,
        "results": _results(rows),
        "styles": element_styles(pages.numbers),
        "restored": RESTORED_COLOUR,
    }
    return environment.get_template("report.html").render(
        table=_one_row_each(rows, answers),
        chunk_of={name: number // _CHUNK for number, name in enumerate(shown)},
        n_left_out=len(answers) - len(shown),
        support=overall_support(list(answers.values())),
        figures=figures,
        failures=tables.failures[:MAX_FAILURES],
        n_failures=len(tables.failures),
        compared=compared[:MAX_SHOWN],
        n_compared=len(compared),
        colour=RESTORED_COLOUR,
        counts=evaluation["counts"],
        evaluation=evaluation,
        dft=evaluation.get("dft"),
        dft_rows=[row for row in tables.candidates if row.dft_status],
        provenance=provenance,
        splits=_SPLITS,
        sentences=sentences,
        citations=cited(sentences),
        overview=pack_json(overview),
        chunks=chunks,
        shades=Markup(sphere_shades(pages.numbers)),  # noqa: S704 - numbers and colours
        plotly=pack_text(get_plotlyjs()),
        style=own_file("style.css"),
        script=Markup("\n").join(own_file(name) for name in SCRIPTS),
    )


def make_environment() -> Environment:
    """Return the templates of this folder with their filters."""
    environment = Environment(
        loader=FileSystemLoader(HERE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "number": _number,
        "percent": _percent,
        "interval": _interval,
        "cell": _cell,
        "plain": _plain,
    }
    return environment


def own_file(name: str) -> Markup:
    """Return a file of this folder as it is."""
    return Markup((HERE / name).read_text(encoding="utf-8"))  # noqa: S704 - of this package


def _chunks(pages: dict[str, dict[str, Any]]) -> Iterator[dict[str, dict[str, Any]]]:
    """Yield some pages at a time."""
    names = list(pages)
    for start in range(0, len(names), _CHUNK):
        yield {name: pages[name] for name in names[start : start + _CHUNK]}


def _one_row_each(
    rows: list[StructureRow], answers: dict[str, Answer]
) -> list[tuple[StructureRow, Answer | None]]:
    """Return the row of each structure: that of its answer, or else the first."""
    first = {row.id: row for row in reversed(rows)}
    found = {name: answers.get(name) for name in sorted(first)}
    return [(first[name] if one is None else one.row, one) for name, one in found.items()]


def _results(rows: list[StructureRow]) -> dict[str, Any]:
    """Return results.csv: the names of its columns and the texts of its cells."""
    cells = [["" if v == "" else str(v) for v in csv_cells(row).values()] for row in rows]
    return {"columns": [item.name for item in columns_of(StructureRow)], "rows": cells}


def _overview_figures(
    evaluation: dict[str, Any], provenance: dict[str, Any], tables: Tables
) -> dict[str, Figure]:
    together = evaluation["all_methods"]
    methods = evaluation["methods"] | ({ALL_METHODS: together} if together else {})
    figures = {
        "curve-matched": success_curves(methods, "matched", title="structures matched, %"),
        "curve-les": success_curves(methods, "les", title="lower energy or match, %"),
        "times": stage_times(provenance["stages"]),
        "dft": dft_differences(tables.candidates),
    }
    figures |= {f"split-{name}": split_bars(methods, name, "matched") for name in _SPLITS}
    return {name: figure for name, figure in figures.items() if figure is not None}


def _number(value: float | None, digits: int = 3) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "–"
    text = f"{value:.{digits}f}"
    return text.lstrip("-") if float(text) == 0 else text.replace("-", "−")


def _percent(value: float | None, digits: int = 1) -> str:
    return "–" if value is None else f"{100 * value:.{digits}f} %"


def _interval(rate: dict[str, Any]) -> str:
    return f"{_percent(rate['mean'])} ({100 * rate['low']:.0f}–{100 * rate['high']:.0f})"


def _cell(value: Any) -> str:
    """Return a value of results.csv as a reader wants it."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return "–" if math.isnan(value) else _number(value, 5).rstrip("0").rstrip(".")
    return "–" if value is None or value == "" else str(value)


def _plain(text: str) -> str:
    """Return Markdown of one line without its marks."""
    return re.sub(r"\s*\(\[[^]]*\]\([^)]*\)\)", "", text).replace("`", "")
