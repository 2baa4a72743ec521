"""Reading of JSON lines."""

from pathlib import Path

import pytest

from xtalfill.core.errors import InputError
from xtalfill.core.io import read_json_lines


def test_each_line_is_a_value(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text('{"id": "Å"}\n[1]\n', encoding="utf-8")
    assert read_json_lines(path) == [{"id": "Å"}, [1]]


@pytest.mark.parametrize("content", ['{"id": 1}\n{"id"', '{"id": 1}\n\n{"id": 2}'])
def test_a_damaged_line_names_the_file(tmp_path: Path, content: str) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text(content)
    with pytest.raises(InputError, match="not readable JSON lines"):
        read_json_lines(path)
    with pytest.raises(InputError, match="not readable"):
        read_json_lines(tmp_path / "missing.jsonl")
