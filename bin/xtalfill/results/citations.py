"""The works that a report or CITATIONS.md cites, read from citations.bib."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import bibtexparser
from bibtexparser.bibdatabase import BibDatabase
from bibtexparser.bparser import BibTexParser
from bibtexparser.bwriter import BibTexWriter
from bibtexparser.latexenc import latex_to_unicode

# Value of the field keywords -> heading in CITATIONS.md, in this order.
SECTIONS = {
    "method": "Placing the missing sites",
    "relaxation": "Potentials and relaxation",
    "structures": "Structures and matching",
    "dft": "DFT (`--validate`, `--method potential`)",
    "statistics": "Statistics",
    "workflow": "Workflow",
}
_FILE = Path(__file__).with_name("citations.bib")
_OWN_FIELDS = ("keywords", "annote")
_FIELD_ORDER = (
    *("author", "title", "journal", "booktitle", "series", "volume", "pages", "year"),
    *("doi", "eprint", "archiveprefix"),
)


@dataclass(frozen=True)
class Citation:
    """A work to cite; all texts but `bibtex` are Unicode.

    Attributes:
        label: Authors and year for the text, such as "Song et al. 2021".
        url: Its DOI, or else its page at arXiv.
        bibtex: The BibTeX entry.
        authors: Such as "Y. Song, J. Sohl-Dickstein et al.".
        title: Its title.
        venue: Journal or conference, volume, page and year.
        section: A key of `SECTIONS`.
        when: When to cite the work; may be empty.
    """

    label: str
    url: str
    bibtex: str
    authors: str
    title: str
    venue: str
    section: str
    when: str


@cache
def citations() -> dict[str, Citation]:
    """Return the works by their BibTeX keys, in the order of the file."""
    parser = BibTexParser(common_strings=True)
    entries = bibtexparser.loads(_FILE.read_text(encoding="utf-8"), parser=parser).entries
    return {entry["ID"]: _citation(entry) for entry in entries}


def _citation(entry: dict[str, str]) -> Citation:
    names = _names(entry["author"])
    return Citation(
        label=f"{_short([family for family, _ in names])} {entry['year']}",
        url=_url(entry),
        bibtex=_bibtex(entry),
        authors=_short([f"{_initials(given)} {family}" for family, given in names], most=6),
        title=_unicode(entry["title"]),
        venue=_venue(entry),
        section=entry["keywords"],
        when=_unicode(entry.get("annote", "")),
    )


def _names(authors: str) -> list[tuple[str, str]]:
    """Return family and given names; "others" has no given name."""
    pairs = (name.partition(",") for name in re.split(r"\s+and\s+", authors))
    return [(_unicode(family.strip()), _unicode(given.strip())) for family, _, given in pairs]


def _short(names: list[str], *, most: int = 2) -> str:
    """Join names; more than `most`, or "others" at the end, become "et al."."""
    if len(names) > most or names[-1].strip() == "others":
        return f"{names[0]} et al."
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


def _initials(given: str) -> str:
    """Shorten given names: "Shyue Ping" to "S. P.", "Jean-Paul" to "J.-P."."""
    return re.sub(r"(\w)\w+\.?", r"\1.", given)


def _unicode(text: str) -> str:
    """Replace the LaTeX of a field by the characters it stands for."""
    return latex_to_unicode(text).replace("---", "—").replace("--", "–")


def _url(entry: dict[str, str]) -> str:
    if "doi" in entry:
        return f"https://doi.org/{entry['doi']}"
    return f"https://arxiv.org/abs/{entry['eprint']}"


def _venue(entry: dict[str, str]) -> str:
    """Return where the work was published, such as "Nature 639, 624–632 (2025)"."""
    if "journal" in entry:
        venue = " ".join(entry[name] for name in ("journal", "volume") if name in entry)
    else:
        venue = entry.get("booktitle", "arXiv")
    pages = f", {entry['pages']}" if "pages" in entry else ""
    return _unicode(f"{venue}{pages} ({entry['year']})")


def _bibtex(entry: dict[str, Any]) -> str:
    """Return an entry as BibTeX without xtalfill's own fields."""
    database = BibDatabase()
    database.entries = [{name: entry[name] for name in entry if name not in _OWN_FIELDS}]
    writer = BibTexWriter()
    writer.indent, writer.display_order = "  ", _FIELD_ORDER
    return str(writer.write(database)).strip()
