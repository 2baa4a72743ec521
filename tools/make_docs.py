#!/usr/bin/env python3
"""Write the tables of the documentation that follow from code: columns, parameters, citations.

Each file is changed between two lines, `<!-- NAME -->` and `<!-- end -->`, only.

    docs/output.md   columns: results.csv, candidates.csv, failures.csv, counts.csv, stored.csv
    docs/scan.md     columns: scan.csv
    docs/usage.md    parameters, from nextflow_schema.json
    CITATIONS.md     citations, from citations.bib
"""

from __future__ import annotations

import argparse
import re
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

from xtalfill.core.errors import InputError, run_command
from xtalfill.core.io import atomic_writer, read_json
from xtalfill.registry.documentation import METHOD_TEXTS, POTENTIAL_TEXTS
from xtalfill.results.candidates import CandidateRow
from xtalfill.results.citations import SECTIONS, Citation, citations
from xtalfill.results.columns import columns_of
from xtalfill.results.counts import CountRow
from xtalfill.results.scan import ScanRow
from xtalfill.results.structures import StructureRow
from xtalfill.results.tables import FailureRow, StoredRow

REPOSITORY = Path(__file__).resolve().parents[1]
NAMES = {"methods": METHOD_TEXTS, "potentials": POTENTIAL_TEXTS}  # of the registry
WIDTH = 100  # characters of a line of prose


def main() -> None:
    """Rewrite the generated parts, or say which are out of date."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="change nothing; fail if out of date")
    args = parser.parse_args()
    stale = []
    for name, parts in PARTS.items():
        path = REPOSITORY / name
        old = path.read_text(encoding="utf-8")
        new = with_parts(old, {marker: make() for marker, make in parts.items()}, name=name)
        if new == old:
            continue
        stale.append(name)
        if not args.check:
            with atomic_writer(path) as file:
                file.write(new)
    for name in stale:
        print(f"{name}: {'out of date; run make docs' if args.check else 'written'}")
    sys.exit(bool(stale and args.check))


def with_parts(text: str, parts: dict[str, str], *, name: str) -> str:
    """Return a text with its generated parts replaced.

    Args:
        text: The file.
        parts: Name of a marker -> what stands between it and the end.
        name: Of the file, for the message.

    Raises:
        InputError: The file lacks a marker.
    """
    for marker, content in parts.items():
        begin = f"<!-- {marker} -->\n"
        pattern = re.compile(re.escape(begin) + r".*?(?=<!-- end -->)", re.DOTALL)
        if not pattern.search(text):
            raise InputError(f"{name}: lacks '{begin.strip()}' before '<!-- end -->'")
        text = pattern.sub(lambda _, new=f"{begin}\n{content}\n\n": new, text)
    return text


def table(head: list[str], rows: list[list[str]]) -> str:
    """Return a Markdown table; a bar inside a cell is escaped."""
    lines = [head, ["---"] * len(head), *([cell.replace("|", r"\|") for cell in r] for r in rows)]
    return "\n".join(f"| {' | '.join(cells)} |".replace("|  |", "| |") for cells in lines)


def columns(kind: type) -> str:
    """Return the table of the columns of a result table."""
    rows = [[f"`{item.name}`", item.unit, item.meaning] for item in columns_of(kind)]
    return table(["column", "unit", "meaning"], rows)


def parameters() -> str:
    """Return a table of parameters for each group of the schema."""
    schema = read_json(REPOSITORY / "nextflow_schema.json")
    groups = []
    for group in schema["$defs"].values():
        rows = [
            [f"`--{name}`", kind_of(spec), default_of(spec), spec["description"]]
            for name, spec in group["properties"].items()
        ]
        head = ["parameter", "type", "default", "meaning"]
        about = wrapped(group["description"])
        groups.append(f"### {group['title']}\n\n{about}\n\n{table(head, rows)}")
    return "\n\n".join(groups)


def kind_of(spec: dict[str, Any]) -> str:
    """Return the choices of a parameter, or its type."""
    registry = [one["registry"] for one in (spec, *spec.get("anyOf", [])) if "registry" in one]
    choices = list(NAMES[registry[0]]) if registry else spec.get("enum")
    if choices:
        return ", ".join(f"`{value}`" for value in choices)
    return "flag" if spec["type"] == "boolean" else str(spec["type"])


def default_of(spec: dict[str, Any]) -> str:
    """Return the default of a parameter; empty if it has none."""
    value = spec.get("default")
    if value is None:
        return ""
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def references() -> str:
    """Return the works to cite, a list for each section."""
    works = citations().values()
    return "\n\n".join(
        f"## {heading}\n\n"
        + "\n".join(reference(work) for work in works if work.section == section)
        for section, heading in SECTIONS.items()
    )


def reference(work: Citation) -> str:
    """Return a work as an item of a Markdown list."""
    short = work.url.removeprefix("https://doi.org/").replace("https://arxiv.org/abs/", "arXiv:")
    text = f"* {work.authors}, *{work.title}*, {work.venue}, [{short}]({work.url})."
    return wrapped(f"{text} {work.when}".strip(), indent="  ")


def wrapped(text: str, *, indent: str = "") -> str:
    """Break a paragraph into lines of at most `WIDTH` characters."""
    wrapper = textwrap.TextWrapper(WIDTH, subsequent_indent=indent)
    wrapper.break_long_words = wrapper.break_on_hyphens = False
    return wrapper.fill(text)


PARTS: dict[str, dict[str, Callable[[], str]]] = {
    "docs/output.md": {
        "columns: results.csv": lambda: columns(StructureRow),
        "columns: candidates.csv": lambda: columns(CandidateRow),
        "columns: failures.csv": lambda: columns(FailureRow),
        "columns: counts.csv": lambda: columns(CountRow),
        "columns: stored.csv": lambda: columns(StoredRow),
    },
    "docs/scan.md": {"columns: scan.csv": lambda: columns(ScanRow)},
    "docs/usage.md": {"parameters": parameters},
    "CITATIONS.md": {"citations": references},
}

if __name__ == "__main__":
    run_command(main)
