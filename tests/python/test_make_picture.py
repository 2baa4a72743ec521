"""tools/make_picture.py: restored crystals of finished runs as one SVG."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk

from tool_runs import tool_module
from xtalfill.core.errors import InputError

tool = tool_module("make_picture")
SVG = "{http://www.w3.org/2000/svg}"


def lithium_hydride() -> Atoms:
    crystal = bulk("LiH", "rocksalt", a=4.08)
    crystal.arrays["is_host"] = crystal.numbers != 1
    crystal.info["id"] = "LiH"
    return crystal


def drawn(arguments: list[str], folder: Path, monkeypatch: pytest.MonkeyPatch) -> ET.Element:
    ase.io.write(folder / "selected.extxyz", lithium_hydride(), format="extxyz")
    common = ["make_picture", "--selected", str(folder / "selected.extxyz")]
    monkeypatch.setattr("sys.argv", [*common, "--output", str(folder / "x.svg"), *arguments])
    tool.main()
    return ET.parse(folder / "x.svg").getroot()


def test_each_panel_has_a_crystal_and_its_title(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ["--id", "LiH", "--name", "<a & b>", "--host"]
    sheet = drawn(names, tmp_path, monkeypatch)
    titles = [one.text for one in sheet.findall(f"{SVG}text")]
    assert titles == ["<a & b>: host", "<a & b>"]
    host, crystal = (one for one in sheet.findall(f"{SVG}svg") if one.get("role") == "img")
    assert not host.findall(f".//{SVG}circle[@class='new']")
    assert crystal.findall(f".//{SVG}circle[@class='new']")
    shades = {one.get("id") for one in sheet.iter(f"{SVG}radialGradient")}
    used = {one.get("fill") for one in sheet.iter(f"{SVG}circle")}
    assert used <= {f"url(#{name})" for name in shades}


def test_panels_fill_rows() -> None:
    panels = [(str(n), lithium_hydride()) for n in range(5)]
    sheet = ET.fromstring(tool.sheet(panels, 2))
    assert sheet.get("viewBox") == f"0 0 {2 * tool.WIDTH} {3 * (tool.HEIGHT + tool.TITLE)}"
    places = {(one.get("x"), one.get("y")) for one in sheet.findall(f"{SVG}text")}
    assert len(places) == 5
    assert np.ptp([float(x) for x, _ in places]) == tool.WIDTH


def test_an_unknown_crystal_and_a_missing_name_are_errors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InputError, match="no crystal NaH in"):
        drawn(["--id", "NaH"], tmp_path, monkeypatch)
    with pytest.raises(InputError, match="2 names for 1 crystals"):
        drawn(["--id", "LiH", "--name", "a", "b"], tmp_path, monkeypatch)
