"""The tables of CONTRIBUTING.md name files, packages, stages and classes that exist."""

import json
import re
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
PACKAGE = REPOSITORY / "bin" / "xtalfill"
TEXT = (REPOSITORY / "CONTRIBUTING.md").read_text(encoding="utf-8")


def rows(header: str) -> list[list[str]]:
    """Return the cells of the table that begins with a header."""
    lines = TEXT.split(f"| {header} |")[1].split("\n\n", maxsplit=1)[0].splitlines()[2:]
    return [line.strip("| ").split(" | ") for line in lines]


def quoted(cell: str) -> list[str]:
    """Return what stands in backticks."""
    return re.findall(r"`([^`]+)`", cell)


def test_every_package_is_described() -> None:
    packages = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert {quoted(cells[0])[0] for cells in rows("package | content")} == packages


def test_every_file_to_change_exists() -> None:
    table = rows("change | files")
    assert len(table) >= 8
    for change, files in table:
        for name in quoted(files):
            if "/" in name or name.endswith((".nf", ".config", ".json")):
                pattern = name.replace("<stage>", "relax")
                assert (REPOSITORY / pattern).exists(), f"{change}: {name}"


def test_every_settings_class_is_where_the_table_says() -> None:
    table = rows("stages in `nextflow_schema.json` | settings dataclass")
    schema = json.loads((REPOSITORY / "nextflow_schema.json").read_text(encoding="utf-8"))
    groups = schema["$defs"].values()
    stages = {
        stage
        for group in groups
        for content in group["properties"].values()
        for stage in content["stages"]
    }
    assert {quoted(cells[0])[0] for cells in table} == stages - {"workflow"}
    for _, cell in table:
        for name, path in re.findall(r"`(\w+)` in `([^`]+)`", cell):
            text = (REPOSITORY / path).read_text(encoding="utf-8")
            assert re.search(rf"^class {name}\b", text, re.MULTILINE), path
