"""tools/nextflow/nextflow: the options with which it starts Java."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

LAUNCHER = Path(__file__).parents[2] / "tools" / "nextflow" / "nextflow"


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A folder with the launcher, jars without content, and a `java` that prints its arguments."""
    (tmp_path / "tools" / "nextflow").mkdir(parents=True)
    shutil.copy(LAUNCHER, tmp_path / "tools" / "nextflow")
    (tmp_path / ".tools" / "nextflow" / "lib").mkdir(parents=True)
    (tmp_path / ".tools" / "nextflow" / "lib" / "nextflow-1.jar").touch()
    java = tmp_path / "java"
    java.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    java.chmod(0o755)
    return tmp_path


def start(checkout: Path, *arguments: str, options: str = "") -> list[str]:
    """Start the launcher; return the arguments of Java."""
    done = subprocess.run(
        [checkout / "tools" / "nextflow" / "nextflow", *arguments],
        env={**os.environ, "JAVA_CMD": str(checkout / "java"), "NXF_OPTS": options},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.splitlines()


def test_without_an_archive_none_is_asked_for(checkout: Path) -> None:
    given = start(checkout, "run", "a b.nf")
    assert given[-3:] == ["nextflow.cli.Launcher", "run", "a b.nf"]
    assert not any("SharedArchiveFile" in option for option in given)


def test_the_archive_is_used_and_its_warnings_stay_out_of_the_output(checkout: Path) -> None:
    archive = checkout / ".tools" / "nextflow" / "classes.jsa"
    archive.touch()
    given = start(checkout, "run", "main.nf")
    (used,) = [Path(option.partition("=")[2]) for option in given if "SharedArchiveFile" in option]
    assert used.samefile(archive)
    assert "-Xlog:disable" in given
    assert "-Xlog:all=error:stderr" in given


def test_a_collector_of_the_user_is_the_only_one(checkout: Path) -> None:
    """Java refuses to start with two."""
    assert "-XX:+UseSerialGC" in start(checkout, "-v")
    given = start(checkout, "-v", options="-Xmx1g -XX:+UseG1GC")
    assert [option for option in given if "GC" in option] == ["-XX:+UseG1GC"]


@pytest.mark.skipif(shutil.which("java") is None, reason="no Java")
def test_java_starts_with_an_archive_that_is_none(checkout: Path) -> None:
    (checkout / ".tools" / "nextflow" / "classes.jsa").write_text("of another Java")
    options = [option for option in start(checkout) if option.startswith(("-X", "--add-opens"))]
    done = subprocess.run(
        ["java", *options, "-version"], capture_output=True, text=True, check=True
    )
    assert done.stdout == ""
    assert "warning" not in done.stderr


@pytest.mark.parametrize(
    ("given", "used"),
    [({}, "C.UTF-8"), ({"LC_ALL": "C"}, "C.UTF-8"), ({"LANG": "C.UTF-8"}, "")],
)
def test_java_reads_utf8_whatever_the_locale(
    checkout: Path, given: dict[str, str], used: str
) -> None:
    """Recorded: "Unable to parse config file: ... Input length = 1" where LANG is not set."""
    (checkout / "java").write_text('#!/bin/sh\nprintf "%s" "$LC_ALL"\n')
    done = subprocess.run(
        [checkout / "tools" / "nextflow" / "nextflow", "-v"],
        env={"PATH": os.environ["PATH"], "JAVA_CMD": str(checkout / "java"), **given},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == used
