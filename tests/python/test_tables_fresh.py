"""The tables of the documentation come from the JSON files in docs/benchmarks/data."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tool_runs import REPOSITORY, tool_module

make_tables = tool_module("make_tables")


def run(root: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, REPOSITORY / "tools" / "make_tables.py", "--root", root, *options]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def row(name: str, **cells: Any) -> dict[str, Any]:
    return {"key": name, "label": name, "cells": cells}


def source(table: str, row: str, column: str) -> dict[str, str]:
    return {"from": table, "row": row, "column": column}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Return a repository with two tables and a page that shows one of them."""
    data = tmp_path / "docs" / "benchmarks" / "data"
    data.mkdir(parents=True)
    rates = {
        "title": "Rates",
        "crystals": 24,
        "commands": ["xtalfill compare a=a b=b"],
        "label": "method",
        "columns": [{"key": "match", "title": "match", "unit": "%"}, {"key": "p", "title": "p"}],
        "rows": [
            row("`host`", match={"value": 81.0, "low": 75.5, "high": 86.5}),
            row("`td`", match={"value": 38, "count": 9, "of": 24}, p=7e-18),
        ],
    }
    view = {
        "title": "Summary",
        "crystals": 24,
        "commands_from": "rates",
        "label": "",
        "columns": [{"key": "rate", "title": "rate"}],
        "rows": [row("host", rate=source("rates", "`host`", "match")) | {"unit": "%"}],
    }
    (data / "rates.json").write_text(json.dumps(rates))
    (data / "view.json").write_text(json.dumps(view))
    (tmp_path / "README.md").write_text("# Page\n\n<!-- table: rates -->\n<!-- end -->\n\nEnd.\n")
    return tmp_path


def test_the_tables_of_the_documentation_are_up_to_date() -> None:
    result = run(REPOSITORY, "--check")
    assert result.returncode == 0, f"run make tables\n{result.stdout}{result.stderr}"


def test_every_json_file_is_shown_or_used_by_another_one() -> None:
    folder = REPOSITORY / make_tables.DATA
    shown = {
        marker[2]
        for path in make_tables.documents(REPOSITORY)
        for marker in make_tables.OPENING.finditer(path.read_text())
    }
    used = {
        cell["from"]
        for path in folder.glob("*.json")
        for row in json.loads(path.read_text())["rows"]
        for cell in row["cells"].values()
        if isinstance(cell, dict) and "from" in cell
    }
    assert {path.stem for path in folder.glob("*.json")} == shown | used


def test_a_table_has_values_intervals_counts_and_missing_values(root: Path) -> None:
    assert run(root).returncode == 0
    assert (root / "README.md").read_text() == (
        "# Page\n\n"
        "<!-- table: rates -->\n"
        "| method | match, % | p |\n"
        "| --- | --- | --- |\n"
        "| `host` | 81.0 (75.5–86.5) | – |\n"
        "| `td` | 38 (9 of 24) | 7·10⁻¹⁸ |\n"
        "<!-- end -->\n\nEnd.\n"
    )


def test_a_table_takes_a_cell_and_the_commands_of_another_one(root: Path) -> None:
    page = root / "docs" / "page.md"
    page.write_text(
        "<!-- table: view -->\nold\n<!-- end -->\n<!-- commands: view -->\n<!-- end -->\n"
    )
    assert run(root).returncode == 0
    text = page.read_text()
    assert "| host | 81.0 % (75.5–86.5) |" in text
    assert "```bash\nxtalfill compare a=a b=b\n```" in text
    assert "old" not in text


def test_a_check_reports_a_stale_page_and_does_not_write_it(root: Path) -> None:
    before = (root / "README.md").read_text()
    result = run(root, "--check")
    assert result.returncode == 1
    assert "README.md: out of date; run make tables" in result.stdout
    assert (root / "README.md").read_text() == before
    assert run(root).returncode == 0
    assert run(root, "--check").returncode == 0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<!-- table: unknown -->\n<!-- end -->\n", "unknown.json: cannot be read as a table"),
        ("<!-- table: rates -->\n", "has no <!-- end -->"),
        ("<!-- table: rates -->\n<!-- table: view -->\n<!-- end -->\n", "has no <!-- end -->"),
    ],
)
def test_a_marker_that_cannot_be_used_fails(root: Path, text: str, message: str) -> None:
    (root / "README.md").write_text(text)
    result = run(root, "--check")
    assert result.returncode == 1
    assert message in result.stderr


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"colour": "red"}, "['colour'] unknown"),
        ({"rows": [row("a", x=1)]}, "no column ['x']"),
        ({"rows": [row("a", p={"mean": 1})]}, "value at least"),
        ({"rows": [row("a", p=source("view", "b", "rate"))]}, "there is no such cell"),
        ({"rows": [row("a", p={"from": "view", "row": "host"})]}, "a reference needs the keys"),
        ({"rows": [row("a", p=source("view", "host", "rate"))]}, "unit of the source is %"),
    ],
)
def test_a_json_file_out_of_format_fails(root: Path, change: dict[str, Any], message: str) -> None:
    path = root / make_tables.DATA / "rates.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    result = run(root)
    assert result.returncode == 1
    assert message in result.stderr


@pytest.mark.parametrize(
    ("number", "digits", "text"),
    [
        (81.0, None, "81.0"),
        (81.04, 1, "81.0"),
        (0.4, 2, "0.40"),
        (-0.12, None, "−0.12"),
        (3000, None, "3000"),
        (52000, None, "52,000"),
        (2.5e-4, None, "2.5·10⁻⁴"),
        (0, None, "0"),
        (0.0004, 3, "0.000"),
    ],
)
def test_numbers_are_written_as_in_the_literature(
    number: float, digits: int | None, text: str
) -> None:
    assert make_tables.shown(number, digits) == text


def test_a_cell_has_its_own_unit_and_digits_first() -> None:
    cell = {"value": 1.25, "unit": "h", "digits": 1}
    assert make_tables.cell_text(cell, digits=2, unit="s") == "1.2 h"
    assert make_tables.cell_text([1, 2], digits=None, unit="s") == "1 s, 2 s"
    assert make_tables.cell_text("none", digits=None, unit="s") == "none"
