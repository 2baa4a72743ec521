"""Tables of the documentation that are generated from code: fresh, complete, well formed."""

from __future__ import annotations

import re
from types import ModuleType

import pytest

from tool_runs import REPOSITORY, tool, tool_module
from xtalfill.core.errors import InputError
from xtalfill.results.candidates import CandidateRow
from xtalfill.results.citations import SECTIONS, citations
from xtalfill.results.columns import columns_of
from xtalfill.results.structures import StructureRow
from xtalfill.results.tables import FailureRow, StoredRow

TABLES = (StructureRow, CandidateRow, FailureRow, StoredRow)
LATEX = re.compile(r"[\\{}]|--")
KEY = re.compile(r"\b[a-z]+(?:19|20)\d\d\b")


@pytest.fixture(scope="module")
def make_docs() -> ModuleType:
    """Return the tool as a module."""
    return tool_module("make_docs")


def test_generated_parts_are_fresh() -> None:
    assert tool("make_docs.py", "--check") == ""


@pytest.mark.parametrize("kind", TABLES)
def test_every_column_has_a_meaning(kind: type) -> None:
    for column in columns_of(kind):
        assert len(column.meaning) > 5, column.name
        assert not column.meaning.endswith("."), column.name
        numeric = column.name.split("_", 1)[-1] in ("energy", "rmsd", "fmax", "energy_gap")
        assert column.unit or not numeric, column.name


def test_a_column_means_the_same_in_both_tables() -> None:
    own = {"method", "status", "sample"}  # empty where a structure was refused
    of_candidates = {column.name: column for column in columns_of(CandidateRow)}
    for column in columns_of(StructureRow):
        if column.name in of_candidates and column.name not in own:
            assert column == of_candidates[column.name]


def test_a_file_without_a_marker_is_refused(make_docs: ModuleType) -> None:
    text = "a\n<!-- one -->\nold\n<!-- end -->\nb\n"
    assert make_docs.with_parts(text, {"one": "new"}, name="x") == text.replace("old", "\nnew\n")
    with pytest.raises(InputError, match="x: lacks '<!-- two -->'"):
        make_docs.with_parts(text, {"two": "new"}, name="x")


def test_every_parameter_is_in_the_table(make_docs: ModuleType) -> None:
    shown = re.findall(r"^\| `--(\w+)` \|", make_docs.parameters(), re.M)
    schema = make_docs.read_json(REPOSITORY / "nextflow_schema.json")
    known = [name for group in schema["$defs"].values() for name in group["properties"]]
    assert shown == known


def test_every_citation_is_whole() -> None:
    for key, work in citations().items():
        assert re.match(rf"@(article|inproceedings|misc){{{key},\n", work.bibtex)
        assert work.bibtex.count("{") == work.bibtex.count("}")
        for name in ("author", "title", "year"):
            assert f"  {name} = {{" in work.bibtex
        for private in ("keywords", "annote"):
            assert f"  {private} = " not in work.bibtex
        assert "  doi = {" in work.bibtex or "  eprint = {" in work.bibtex
        assert work.section in SECTIONS
        shown = (work.label, work.authors, work.title, work.venue, work.when)
        assert not [text for text in shown if LATEX.search(text)]


@pytest.mark.parametrize(
    ("key", "label", "authors"),
    [
        ("wojdyr2022", "Wojdyr 2022", "M. Wojdyr"),
        ("vanderwalt2014", "van der Walt et al. 2014", "S. van der Walt et al."),
        ("schutt2021", "Schütt et al. 2021", "K. T. Schütt, O. T. Unke and M. Gastegger"),
        ("zeni2025", "Zeni et al. 2025", "C. Zeni et al."),
        (
            "reents2026",
            "Reents et al. 2026",
            "T. Reents, A. Cantarella, M. Bercx, P. Bonfà and G. Pizzi",
        ),
    ],
)
def test_labels_and_authors_follow_from_the_entry(key: str, label: str, authors: str) -> None:
    assert (citations()[key].label, citations()[key].authors) == (label, authors)


def test_the_paper_is_cited_as_published() -> None:
    work = citations()["reents2026"]
    assert work.url == "https://doi.org/10.1038/s41524-026-02090-1"
    assert work.venue == "npj Computational Materials 12, 203 (2026)"
    assert "  eprint = {2601.01959}" in work.bibtex


def test_every_key_in_the_code_exists_and_every_entry_is_cited() -> None:
    package = REPOSITORY / "bin" / "xtalfill"
    files = [path for path in package.rglob("*") if path.suffix in (".py", ".json")]
    texts = (path.read_text(encoding="utf-8") for path in files if path.name != "citations.py")
    cited = {key for text in texts for key in re.findall(rf'"({KEY.pattern})"', text)}
    assert cited == set(citations())
