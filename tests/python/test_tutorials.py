"""The tutorials have outputs, made by running; the site has every page."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from dft_examples import find_pw, sssp_folder
from nextflow_project import REPOSITORY
from tool_runs import tool_module

NOTEBOOKS = sorted((REPOSITORY / "docs" / "tutorials").glob("*.ipynb"))
LARGEST = 200_000  # bytes of a notebook with its outputs


def cells(path: Path) -> list[dict[str, Any]]:
    return json.loads(path.read_text(encoding="utf-8"))["cells"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_outputs_are_complete_and_of_no_machine(path: Path) -> None:
    code = [cell for cell in cells(path) if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    assert sum(len(cell["outputs"]) for cell in code) >= 4
    assert not [out for cell in code for out in cell["outputs"] if out["output_type"] == "error"]
    text = path.read_text(encoding="utf-8")
    assert not re.search(r"/(tmp|home|root|work)/", text)
    assert len(text) < LARGEST


def test_the_navigation_has_every_tutorial_and_only_pages_that_exist() -> None:
    navigation = (REPOSITORY / "mkdocs.yml").read_text(encoding="utf-8").split("\nnav:\n")[1]
    pages = re.findall(r"([\w./-]+\.(?:md|ipynb))$", navigation, re.MULTILINE)
    assert {str(path.relative_to(REPOSITORY)) for path in NOTEBOOKS} <= set(pages)
    assert [page for page in pages if not (REPOSITORY / page).is_file()] == []


def test_links_to_a_folder_lead_to_its_page() -> None:
    site = tool_module("make_site")
    docs = REPOSITORY / "docs"
    assert site.with_readmes("[a](lab) [b](https://x/lab)", docs) == (
        "[a](lab/README.md) [b](https://x/lab)"
    )


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_notebook_runs(path: Path, tmp_path: Path) -> None:
    pytest.importorskip("nbclient", reason="pip install -r requirements/docs.txt")
    if path.stem == "dft":
        find_pw()
        sssp_folder()
    tool_module("run_tutorials").execute(path, tmp_path)


@pytest.mark.slow
def test_the_site_has_no_broken_link(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("mkdocs", reason="pip install -r requirements/docs.txt")
    monkeypatch.setattr("sys.argv", ["make_site.py"])
    with pytest.raises(SystemExit) as end:
        tool_module("make_site").main()
    assert end.value.code == 0
