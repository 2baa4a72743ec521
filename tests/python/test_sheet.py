"""The sample sheet: the files it names are those that CHECK reads."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xtalfill.core.errors import InputError
from xtalfill.inputs.sheet import named_files, parse_sheet
from xtalfill.inputs.structures import read_structures

SHEETS = {
    "plain": "id,structure\na,one.cif\nb,a;b.cif\n",
    "told": '\ufeffsep=;\nid;structure\na;one.cif\nb;"a;b.cif"\n',
    "quoted": '\n"sep=|"\r\nid|structure\r\na|one.cif\r\nb|a;b.cif\r\n',
    "comments": "# from a, b\n\nstructure,id\n# not,this.cif\none.cif,a\na;b.cif,b\n",
    "tabs": "id\tstructure\n\tone.cif\n\ta;b.cif\n",
    "repeated": "id,structure\na,one.cif\nb,a;b.cif\nc,one.cif\n,\n",
}


@pytest.mark.parametrize("name", SHEETS)
def test_each_file_is_named_once(tmp_path: Path, name: str) -> None:
    sheet = tmp_path / "sheet.csv"
    sheet.write_text(SHEETS[name], encoding="utf-8", newline="")
    assert named_files(parse_sheet(sheet)) == ["one.cif", "a;b.cif"]


def test_names_that_no_path_can_have_are_left_out(tmp_path: Path) -> None:
    sheet = tmp_path / "sheet.csv"
    sheet.write_text('structure\n"two\nlines.cif"\nnul\0.cif\none.cif\n', encoding="utf-8")
    assert named_files(parse_sheet(sheet)) == ["one.cif"]


@given(st.binary(max_size=200))
def test_any_bytes_are_a_sheet_or_one_line(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    sheet = tmp_path_factory.mktemp("sheet") / "sheet.csv"
    sheet.write_bytes(content)
    try:
        names = named_files(parse_sheet(sheet))
    except InputError as error:
        assert "\n" not in str(error)  # noqa: PT017
        with pytest.raises(InputError):
            read_structures(sheet)
        return
    assert all("\n" not in name and "\0" not in name for name in names)
