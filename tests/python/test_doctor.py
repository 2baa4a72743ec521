"""`xtalfill doctor` and `xtalfill view`."""

from __future__ import annotations

import os
import shutil
import webbrowser
from pathlib import Path

import pytest

from xtalfill.cli.parser import main
from xtalfill.core.errors import ConfigError
from xtalfill.interactive import doctor
from xtalfill.interactive.doctor import Finding, examine


def stub(folder: Path, name: str, text: str) -> None:
    """Write a program that prints a text."""
    path = folder / name
    path.write_text(f"#!/bin/sh\necho '{text}'\n", encoding="utf-8")
    path.chmod(0o755)


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Restrict PATH to an empty folder for stubs."""
    folder = tmp_path / "programs"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setattr(doctor, "_gpu", lambda: "")
    return folder


def by_name(pseudo_dir: Path) -> dict[str, Finding]:
    return {finding.name: finding for finding in examine(pseudo_dir=pseudo_dir)}


def test_what_is_here_has_its_version(programs: Path, tmp_path: Path) -> None:
    stub(programs, "pw.x", "     Program PWSCF v.7.3 starts on  1Jan2026")
    stub(programs, "sbatch", "slurm 24.11.5")
    found = by_name(tmp_path)
    assert (found["pw.x"].found, found["Slurm"].found) == ("7.3", "24.11.5")
    assert found["weights/host.pt"].found == "sha256 agrees"
    assert found["potential/nequip-small.nequip.zip"].found == "sha256 agrees"
    assert "sevennet_0" in found["potential 7net-0"].found


def test_what_is_missing_says_who_needs_it_and_how_to_get_it(
    programs: Path, tmp_path: Path
) -> None:
    found = by_name(tmp_path)
    assert str(found["pw.x"]) == (
        "missing  pw.x: needed by --validate; Debian: apt-get install quantum-espresso (48 MB)"
    )
    assert "103 of 103 files are missing" in str(found["SSSP 1.3.0 PBE efficiency"])
    assert str(found["GPU"]).startswith("missing  GPU: needed by --device cuda only; ")
    for finding in found.values():
        assert "\n" not in str(finding)
        assert finding.use
        assert finding.remedy


def test_the_package_of_the_gemnet_methods(
    programs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "_version", lambda _package: "")
    assert str(by_name(tmp_path)["mattergen"]) == (
        "missing  mattergen: needed by --method td, pos, repaint, mattergen; "
        "pip install --no-deps mattergen==1.0.3 (0.3 MB)"
    )


def test_a_damaged_weights_file_is_missing_and_the_exit_code_says_so(
    programs: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(doctor, "WEIGHTS", shutil.copytree(doctor.WEIGHTS, tmp_path / "w"))
    (tmp_path / "w" / "host.pt").write_bytes(b"torn")
    with pytest.raises(SystemExit) as ended:
        main(["doctor", "--pseudo_dir", str(tmp_path)])
    assert ended.value.code == ConfigError.exit_code
    said = capsys.readouterr()
    assert "missing  w/host.pt: needed by --method host; " in said.out
    assert said.err.splitlines() == ["ERROR: the defaults need what is missing: w/host.pt"]


def test_only_what_the_defaults_need_counts(programs: Path, tmp_path: Path) -> None:
    main(["doctor", "--pseudo_dir", str(tmp_path)])  # no pw.x, no SSSP, no Java


def test_view_opens_the_report_or_prints_its_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["view", str(tmp_path)])
    assert ended.value.code == os.EX_DATAERR
    assert "no report.html" in capsys.readouterr().err
    report = tmp_path / "report.html"
    report.touch()
    opened: list[str] = []

    def browser(address: str) -> bool:
        opened.append(address)
        return len(opened) == 1

    monkeypatch.setattr(webbrowser, "open", browser)
    main(["view", str(tmp_path)])
    assert capsys.readouterr().out == ""
    main(["view", str(report)])
    assert capsys.readouterr().out == f"{report}\n"
    assert opened == [report.as_uri()] * 2
