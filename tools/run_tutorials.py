#!/usr/bin/env python3
"""Execute the notebooks of docs/tutorials and write their outputs into them.

Each runs in an empty folder, so that its files do not come into the repository.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient

REPOSITORY = Path(__file__).resolve().parents[1]
TUTORIALS = REPOSITORY / "docs" / "tutorials"
SECONDS = 3600  # of one cell, on a busy machine


def execute(path: Path, folder: Path) -> nbformat.NotebookNode:
    """Return a notebook with its outputs.

    Args:
        path: The notebook.
        folder: Where it runs.

    Raises:
        nbclient.exceptions.CellExecutionError: A cell failed.
    """
    os.environ["XTALFILL"] = str(REPOSITORY)
    os.environ["PYTHONPATH"] = str(REPOSITORY / "bin")  # this checkout, not an installed one
    programs = [Path(sys.executable).parent, REPOSITORY / ".tools" / "bin"]
    os.environ["PATH"] = os.pathsep.join([*map(str, programs), os.environ["PATH"]])
    notebook = nbformat.read(path, as_version=4)
    resources = {"metadata": {"path": str(folder)}}
    NotebookClient(notebook, timeout=SECONDS, resources=resources).execute()
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)  # times of this machine
        for output in cell.get("outputs", []):
            if "text" in output:
                output["text"] = without_paths(output["text"], folder)
    notebook.metadata.pop("widgets", None)
    notebook.metadata["language_info"] = {"name": "python"}
    return notebook


def without_paths(text: str, folder: Path) -> str:
    """Return a text without the folders of this machine and the colours of a terminal."""
    text = re.sub(r"\x1b\[[0-9;]*m", "", text)
    return text.replace(str(folder), ".").replace(str(REPOSITORY), "xtalfill")


def main() -> None:
    """Execute the given notebooks, by default all."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("notebooks", type=Path, nargs="*", help="default: all of docs/tutorials")
    args = parser.parse_args()
    for path in args.notebooks or sorted(TUTORIALS.glob("*.ipynb")):
        with tempfile.TemporaryDirectory() as folder:
            notebook = execute(path, Path(folder))
        nbformat.write(notebook, path)
        print(path)


if __name__ == "__main__":
    main()
