"""meta.yml of a module describes exactly the inputs and outputs of its main.nf."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

MODULES = sorted((Path(__file__).resolve().parents[2] / "modules").glob("*/main.nf"))
DECLARED = re.compile(r"\b(?:val|path|env)\s*\(?\s*('[^']*'|\"[^\"]*\"|\w+)")


def block(text: str, begin: str, end: str) -> list[str]:
    """Return the declarations between two labels of a process, one a line, without comments."""
    between = text.split(f"    {begin}:\n")[1].split(f"    {end}:\n", maxsplit=1)[0]
    lines = (line.split("//")[0].strip() for line in between.splitlines())
    return [line for line in lines if line]


def declared(line: str) -> list[str]:
    """Return the names that a declaration gives to its values and files."""
    return [name.strip("'\"") for name in DECLARED.findall(line.split(", emit:", maxsplit=1)[0])]


def described(entry: dict[str, Any] | list[dict[str, Any]]) -> list[str]:
    """Return the names in an entry of meta.yml, a single one or a tuple."""
    parts = entry if isinstance(entry, list) else [entry]
    for part in parts:
        for content in part.values():
            assert content["type"] in {"map", "file", "directory", "string"}
            assert content["description"]
    return [name for part in parts for name in part]


@pytest.mark.parametrize("module", MODULES, ids=lambda path: path.parent.name)
def test_meta_yml_describes_the_module(module: Path) -> None:
    text = module.read_text(encoding="utf-8")
    meta = yaml.safe_load((module.parent / "meta.yml").read_text(encoding="utf-8"))
    assert re.search(rf"^process {meta['name'].upper()} ", text, re.MULTILINE)
    for name in ("description", "keywords", "tools", "authors"):
        assert meta[name]
    inputs = block(text, "input", "output")
    assert [described(entry) for entry in meta["input"]] == [declared(line) for line in inputs]
    outputs = {
        re.search(r"emit: (\w+)", line)[1]: declared(line)
        for line in block(text, "output", "script")
    }
    found = {
        name: described(parts[0] if isinstance(parts[0], list) else parts)
        for name, parts in meta["output"].items()
    }
    assert found == outputs
