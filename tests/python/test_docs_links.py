"""Links of the documentation lead somewhere, and its prose lines are short."""

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
PATTERNS = ("*.md", "docs/**/*.md", "assets/**/*.md", "containers/*.md")
DOCUMENTS = sorted({path for pattern in PATTERNS for path in REPOSITORY.glob(pattern)})
WIDTH = 100
# Works are cited in one line each.
ANY_WIDTH = {"CITATIONS.md"}

LINK = re.compile(r"\[(?:[^\[\]]|\[[^\]]*\])*\]\(([^()\s]+)\)")
HEADING = re.compile(r"^#{1,6} +(.*?) *#*$")
OUTSIDE = re.compile(r"^[a-z]+:")


def prose(text: str) -> Iterator[tuple[int, str]]:
    """Return the lines outside of code blocks, with their numbers from 1."""
    fenced, blank, in_list = False, True, False
    for number, line in enumerate(text.splitlines(), start=1):
        if line.lstrip().startswith("```"):
            fenced = not fenced
            continue
        in_list = line.lstrip().startswith(("* ", "1. ")) or (in_list and not _leaves_list(line))
        code = line.startswith("    ") and blank and not in_list
        # an indented block goes on over blank lines
        blank = not line.strip() or code
        if not fenced and not code:
            yield number, line


def _leaves_list(line: str) -> bool:
    return bool(line.strip()) and not line.startswith(" ")


def anchors(text: str) -> set[str]:
    """Return the anchors that GitHub makes of the headings."""
    seen: Counter[str] = Counter()
    found = set()
    for _, line in prose(text):
        if heading := HEADING.match(line):
            title = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading[1]).lower()
            slug = re.sub(r"[^\w\- ]", "", title).replace(" ", "-")
            found.add(f"{slug}-{seen[slug]}" if seen[slug] else slug)
            seen[slug] += 1
    return found


def broken_links(path: Path) -> list[str]:
    """Return the relative links of a file that lead nowhere."""
    found = []
    text = "\n".join(re.sub(r"`[^`]*`", "``", line) for _, line in prose(path.read_text()))
    for target in LINK.findall(text):
        if OUTSIDE.match(target):
            continue
        name, _, anchor = target.partition("#")
        other = path.parent / name if name else path
        exists = other.exists() and REPOSITORY in other.resolve().parents
        if not exists or (anchor and anchor not in anchors(other.read_text())):
            found.append(target)
    return found


def long_lines(text: str) -> list[int]:
    """Return the numbers of prose lines that are too long, addresses of links not counted."""
    found = []
    for number, line in prose(text):
        visible = re.sub(r"\]\([^()\s]*\)", "]", line)
        visible = re.sub(r"https?://\S+", "", visible)
        if len(visible) > WIDTH and not line.startswith(("|", "<!--", "#")):
            found.append(number)
    return found


def name_of(path: Path) -> str:
    return str(path.relative_to(REPOSITORY))


@pytest.mark.parametrize("path", DOCUMENTS, ids=name_of)
def test_links_lead_to_a_file_and_a_heading(path: Path) -> None:
    assert broken_links(path) == []


@pytest.mark.parametrize("path", [p for p in DOCUMENTS if p.name not in ANY_WIDTH], ids=name_of)
def test_prose_lines_are_short(path: Path) -> None:
    assert long_lines(path.read_text()) == []


def test_broken_links_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"{__name__}.REPOSITORY", tmp_path)
    page = tmp_path / "page.md"
    page.write_text(
        "# Title\n\n## What `--x` does\n\n[a](#what---x-does) [b](#none) [c](none.md)\n"
        "[d](page.md#title)\n\n    [in](code.md)\n\n`[in](code.md)`\n"
        "[outside](https://example.org) ![p](p.png)\n"
    )
    assert broken_links(page) == ["#none", "none.md", "p.png"]


def test_equal_headings_have_numbered_anchors() -> None:
    assert anchors("# A\n\n## B\n\n## B\n\n    # code\n") == {"a", "b", "b-1"}


def test_long_lines_are_found_outside_of_tables_code_and_addresses() -> None:
    word = "x" * 120
    text = f"{word}\n\n    {word}\n\n```\n{word}\n```\n| {word} |\n"
    text += f"[a](https://{word})\n* {word}\n  {word}\n"
    assert long_lines(text) == [1, 10, 11]
