"""Errors of a command in one line."""

from __future__ import annotations

import os
import sys

import pytest

from xtalfill.core.errors import run_command


def test_an_environment_without_the_packages_says_what_to_do(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def main() -> None:
        raise ModuleNotFoundError("No module named 'numpy'", name="numpy")

    with pytest.raises(SystemExit) as ended:
        run_command(main)
    assert ended.value.code == os.EX_CONFIG
    assert capsys.readouterr().err == (
        f"ERROR: {sys.executable} has no package numpy: run make setup in the checkout of "
        "xtalfill, or use -profile apptainer\n"
    )


def test_a_missing_module_of_xtalfill_is_a_fault_of_the_program() -> None:
    def main() -> None:
        raise ModuleNotFoundError("No module named 'xtalfill.none'", name="xtalfill.none")

    with pytest.raises(ModuleNotFoundError):
        run_command(main)
