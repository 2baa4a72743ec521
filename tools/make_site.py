#!/usr/bin/env python3
"""Build the site of the documentation with mkdocs; broken links are errors.

The pages keep their paths in the repository, so links are right on the site and on a code host.
Links to files that are no page lead to a copy of the file, links to folders to its README.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
PAGES = ("*.md", "docs/**/*.md", "docs/**/*.ipynb", "assets/**/*.md", "containers/*.md")
LINK = re.compile(r"(\]\()([^()\s#]+)([^()\s]*\))")
OUTSIDE = re.compile(r"^[a-z]+:")


def stage(target: Path) -> None:
    """Copy the pages and the files that they link to below a folder."""
    shutil.rmtree(target, ignore_errors=True)
    pages = {page for pattern in PAGES for page in REPOSITORY.glob(pattern)}
    for page in sorted(pages):
        copy(page, target)
        text = page.read_text(encoding="utf-8")
        if page.suffix == ".md":
            copied = target / page.relative_to(REPOSITORY)
            copied.write_text(with_readmes(text, page.parent), encoding="utf-8")
        for _, name, _ in LINK.findall(text):
            other = (page.parent / name).resolve()
            if not OUTSIDE.match(name) and other.is_file() and other not in pages:
                copy(other, target)


def with_readmes(text: str, folder: Path) -> str:
    """Return a page whose links to folders lead to the READMEs of the folders."""

    def changed(link: re.Match[str]) -> str:
        opened, name, rest = link.groups()
        if not OUTSIDE.match(name) and (folder / name / "README.md").is_file():
            name = f"{name.rstrip('/')}/README.md"
        return f"{opened}{name}{rest}"

    return LINK.sub(changed, text)


def copy(path: Path, target: Path) -> None:
    """Copy a file of the repository to its place below a folder."""
    copied = target / path.relative_to(REPOSITORY)
    copied.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(path, copied)


def main() -> None:
    """Stage the pages and build the site."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--stage", type=Path, help="only copy the pages to this folder")
    args = parser.parse_args()
    stage(args.stage or REPOSITORY / "build" / "site" / "pages")
    if args.stage is None:
        command = [sys.executable, "-m", "mkdocs", "build", "--strict"]
        sys.exit(subprocess.run(command, cwd=REPOSITORY, check=False).returncode)  # noqa: S603


if __name__ == "__main__":
    main()
