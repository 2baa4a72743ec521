"""Image recipes, scripts in containers/, and the check at launch, with mock container engines."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from nextflow_project import REPOSITORY, Project, lines_with, make_image, said

CONTAINERS = REPOSITORY / "containers"
IMAGES = ("dft", "inpaint", "relax", "tools")
VERSION = re.search(r"version += '(.+)'", (REPOSITORY / "nextflow.config").read_text()).group(1)
SECTIONS = ("arguments", "labels", "files", "post", "environment", "test")
# Lines in all recipes: permissions for all users, task metrics, versions.
COMMON = {
    "labels": (
        "org.opencontainers.image.version {{ VERSION }}",
        "org.opencontainers.image.revision {{ REVISION }}",
        "org.opencontainers.image.licenses MIT",
    ),
    "post": ("set -eu", "umask 022", "apt-get update", "export PIP_CONFIG_FILE=/mnt/pip.conf"),
    "environment": (
        "export PATH=/opt/xtalfill/venv/bin:$PATH",
        "export PYTHONNOUSERSITE=1",
    ),
    "test": (
        "set -eu",
        "export TMPDIR=/tmp # TMPDIR of the build machine does not exist in the image",
        "ps --version",
    ),
}
# Mock Apptainer for builds: records its arguments and the pip settings, writes an image.
APPTAINER = """#!/usr/bin/env bash
printf '%s\\n' "$@" > "{log}/arguments"
if [ "$1" = exec ]; then
    echo "${{@: -1}} of the image"
    exit
fi
for word; do [[ $word != *:/mnt:ro ]] || cp -r "${{word%%:*}}" "{log}/settings"; done
[ ! -e "{log}/fail" ] || exit 1
if [[ " $* " == *" --sandbox "* ]]; then
    mkdir "${{@: -2:1}}"
    cp "${{@: -1}}" "${{@: -2:1}}/image"
else
    echo "image of ${{@: -1}}" > "${{@: -2:1}}"
fi
"""
# Mock Apptainer for runs: runs the task without a container.
RUNNER = """#!/usr/bin/env bash
exec "${@: -3}"
"""
STAGES = {
    "SHEET_FILES": "tools",
    "CHECK": "tools",
    "INPAINT": "inpaint",
    "PLAN_POTENTIAL": "dft",
    "PLACE_POTENTIAL": "dft",
    "GATHER_POTENTIAL": "dft",
    "COMPILE_POTENTIAL": "relax",
    "RELAX": "relax",
    "SELECT": "tools",
    "PLAN_DFT": "dft",
    "PW_RELAX": "dft",
    "GATHER_DFT": "tools",
    "EVALUATE": "tools",
    "COLLECT": "tools",
    "REPORT": "tools",
}
# Mock Docker: records its arguments and the archive, has no images.
DOCKER = """#!/usr/bin/env bash
[ "$1" = import ] || exit 1
printf '%s\\n' "$@" > "{log}/docker"
tar -xO ./image > "{log}/content"
"""


def sections(image: str) -> dict[str, list[str]]:
    """Return the lines of each section of a recipe; the header has the key ''."""
    found: dict[str, list[str]] = {"": []}
    name = ""
    for line in (CONTAINERS / f"{image}.def").read_text().splitlines():
        if line.startswith("%"):
            name = line[1:]
            found[name] = []
        else:
            found[name].append(line.strip())
    return found


@pytest.mark.parametrize("image", IMAGES)
def test_recipes_share_common_lines(image: str) -> None:
    recipe = sections(image)
    assert [name for name in recipe if name] == list(SECTIONS)
    assert f"org.opencontainers.image.title xtalfill-{image}" in recipe["labels"]
    for name, lines in COMMON.items():
        assert set(lines) <= set(recipe[name]), name
    assert any(" procps " in line for line in recipe["post"])
    assert not any("://" in line for lines in recipe.values() for line in lines)


@pytest.mark.parametrize("image", IMAGES)
def test_debian_release_agrees_for_both_bootstraps(image: str) -> None:
    arguments = dict(line.split("=", 1) for line in sections(image)["arguments"] if line)
    release = {"debian:12-slim": "bookworm", "debian:13-slim": "trixie"}
    assert arguments["OS_VERSION"] == release[arguments["FROM"]]


@pytest.mark.parametrize("image", IMAGES)
def test_image_test_computes_something(image: str) -> None:
    test = "\n".join(sections(image)["test"])
    assert re.search(r"assert .*==|assert .*<|exit !found", test)


@pytest.fixture
def builder(tmp_path: Path) -> Project:
    """Return a copy of the input of build.sh, with a mock Apptainer first on PATH."""
    root = tmp_path / "project"
    for name in ("containers", "requirements"):
        ignore = shutil.ignore_patterns("*.sif")
        shutil.copytree(REPOSITORY / name, root / name, ignore=ignore)
    shutil.copy2(REPOSITORY / "nextflow.config", root / "nextflow.config")
    path = tmp_path / "path"
    path.mkdir()
    (path / "apptainer").write_text(APPTAINER.format(log=tmp_path), encoding="utf-8")
    (path / "docker").write_text(DOCKER.format(log=tmp_path), encoding="utf-8")
    (path / "debootstrap").write_text("#!/bin/sh\n", encoding="utf-8")
    for program in path.iterdir():
        program.chmod(0o755)
    return Project(root, tmp_path, [path])


def build(builder: Project, *arguments: str, **environment: str) -> subprocess.CompletedProcess:
    """Run build.sh of the copy."""
    return script(builder, "build.sh", *arguments, **environment)


def script(
    builder: Project, name: str, *arguments: str, **environment: str
) -> subprocess.CompletedProcess:
    """Run a script of containers/ in the copy, with the pip settings of ``environment`` only."""
    path = os.pathsep.join([*map(str, builder.path), os.environ["PATH"]])
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PIP_")}
    return subprocess.run(
        [builder.root / "containers" / name, *arguments],
        env={**kept, "PATH": path, "PIP_CONFIG_FILE": os.devnull, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_images_are_built_once_with_version_and_checksum(builder: Project) -> None:
    output = builder.launch / "images"
    result = build(builder, "--output", str(output), "tools", "dft")
    assert result.returncode == 0, result.stderr
    names = [f"xtalfill-{image}-{VERSION}.sif" for image in ("dft", "tools")]
    assert sorted(path.name for path in output.iterdir()) == ["SHA256SUMS", *names]
    sums = [f"{hashlib.sha256((output / name).read_bytes()).hexdigest()}  {name}" for name in names]
    assert (output / "SHA256SUMS").read_text().splitlines() == sums
    assert (builder.launch / "arguments").read_text().count(f"VERSION={VERSION}\n") == 1
    again = build(builder, "--output", str(output), "tools", "dft")
    assert again.stdout.count("is up to date") == 2
    (builder.root / "requirements" / "constraints.txt").touch()
    assert "building" in build(builder, "--output", str(output), "tools").stdout
    assert (output / "SHA256SUMS").read_text().splitlines() == sums


def test_failed_build_keeps_the_old_image(builder: Project) -> None:
    output = builder.launch / "images"
    assert build(builder, "--output", str(output), "tools").returncode == 0
    before = {path: path.read_bytes() for path in output.iterdir()}
    (builder.launch / "fail").touch()
    (builder.root / "containers" / "tools.def").touch()
    assert build(builder, "--output", str(output), "tools").returncode != 0
    assert {path: path.read_bytes() for path in output.iterdir()} == before


def test_mirror_is_passed_on(builder: Project) -> None:
    build(builder, "--mirror", "http://mirror.example/debian", "tools")
    arguments = (builder.launch / "arguments").read_text().splitlines()
    assert {"BOOTSTRAP=debootstrap", "MIRROR=http://mirror.example/debian"} <= set(arguments)


def test_pip_settings_are_mounted_during_the_build(builder: Project) -> None:
    certificate = builder.launch / "own.crt"
    certificate.write_text("a certificate", encoding="utf-8")
    pip = {"PIP_INDEX_URL": "https://user:secret@index.example/simple", "PIP_CERT": certificate}
    build(builder, "tools", **{name: str(value) for name, value in pip.items()})
    settings = (builder.launch / "settings" / "pip.conf").read_text().splitlines()
    assert settings == [
        "[global]",
        "index-url = https://user:secret@index.example/simple",
        "cert = /mnt/certificates.crt",
    ]
    assert (builder.launch / "settings" / "certificates.crt").read_text() == "a certificate"
    assert "secret" not in (builder.launch / "arguments").read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--mirror"], "ERROR: --mirror needs the URL of a Debian mirror"),
        (["--output"], "ERROR: --output needs a folder"),
        (["--magic"], "ERROR: unknown option --magic; see the header of containers/build.sh"),
        (["../tools"], "ERROR: recipe containers/../tools.def does not exist"),
        (["magic"], "ERROR: recipe containers/magic.def does not exist"),
    ],
)
def test_invalid_argument_of_build_gives_one_line(
    builder: Project, arguments: list[str], message: str
) -> None:
    result = build(builder, *arguments)
    assert (result.returncode, result.stderr) == (1, f"{message}\n")


def test_image_is_imported_into_docker_with_its_environment(builder: Project) -> None:
    images = str(builder.launch)
    assert build(builder, "--output", images, "tools").returncode == 0
    result = script(builder, "load.sh", "--images", images, "docker", "tools")
    assert result.returncode == 0, result.stderr
    changes = [f"ENV {name}={name} of the image" for name in ("PATH", "PYTHONNOUSERSITE")]
    expected = ["import", "--change", changes[0], "--change", changes[1], "-"]
    arguments = (builder.launch / "docker").read_text().splitlines()
    assert arguments == [*expected, f"xtalfill-tools:{VERSION}"]
    assert (builder.launch / "content").read_text() == "image of containers/tools.def\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "ERROR: give the engine: containers/load.sh docker or containers/load.sh podman"),
        (["--images"], "ERROR: --images needs a folder"),
        (
            ["docker", "dft"],
            f"ERROR: containers/xtalfill-dft-{VERSION}.sif does not exist; "
            "build it with containers/build.sh dft",
        ),
    ],
)
def test_invalid_argument_of_load_gives_one_line(
    builder: Project, arguments: list[str], message: str
) -> None:
    result = script(builder, "load.sh", *arguments)
    assert (result.returncode, result.stderr) == (1, f"{message}\n")


def test_missing_and_damaged_images_are_reported_before_any_task(tmp_path: Path) -> None:
    project = Project.make(tmp_path)
    work = tmp_path / "never"
    paths = {name: tmp_path / f"xtalfill-{name}-{VERSION}.sif" for name in IMAGES}
    sums = [make_image(path) for path in paths.values()]
    (tmp_path / "SHA256SUMS").write_text("".join(sums), encoding="utf-8")
    cut, changed = (paths[name].read_bytes() for name in ("relax", "tools"))
    paths["relax"].write_bytes(cut[:-1])
    paths["tools"].write_bytes(changed[:-1] + b"?")
    paths["dft"].unlink()
    command = ["-profile", "test,apptainer", "--validate", "--container_dir", tmp_path]
    text = said(project.run(*command, "-w", work))
    assert "3 problem(s) with the parameters, nothing was run" in text
    assert len(lines_with(text, [f"{paths['dft'].name} is missing in", "make images"])) == 1
    assert len(lines_with(text, [f"{paths['relax']} is truncated or not a SIF image"])) == 1
    assert len(lines_with(text, [f"{paths['tools']} differs from its checksum in SHA256SUMS"])) == 1
    path = tmp_path / "path"
    path.mkdir()
    (path / "docker").write_text("#!/bin/sh\nexit 1\n", encoding="utf-8")
    (path / "docker").chmod(0o755)
    project.path.append(path)
    text = said(project.run("-profile", "test,docker", "-w", work))
    for name in ("tools", "inpaint", "relax"):
        words = [f"docker has no image xtalfill-{name}:{VERSION}", "containers/load.sh docker"]
        assert len(lines_with(text, words)) == 1, text
    # without --validate the image of DFT is not needed
    assert "3 problem(s) with the parameters" in text
    assert not list(work.glob("*/*"))


def test_image_of_every_stage(tmp_path: Path) -> None:
    project = Project.make(tmp_path)
    for name in IMAGES:
        make_image(tmp_path / f"xtalfill-{name}-{VERSION}.sif")
    path = tmp_path / "path"
    path.mkdir()
    (path / "apptainer").write_text(RUNNER, encoding="utf-8")
    (path / "apptainer").chmod(0o755)
    project.path.append(path)
    command = ["-profile", "test,apptainer", "-stub", "--container_dir", tmp_path]
    command += ["--method", "host,potential", "--validate", "--dft_scratch", "/scratch"]
    result = project.run(*command, "--mlip", "nequip-small", "--mlip_compile")
    assert result.returncode == 0, said(result)
    found = {}
    for run in project.launch.glob("work/*/*/.command.run"):
        text = run.read_text()
        stage = re.search(r"### name: '(?:\w+:)*(\w+)", text).group(1)
        start = re.search(r"apptainer exec .*xtalfill-(\w+)-.*", text)
        found[stage] = start.group(1)
        assert '${TMPDIR:+-B "$TMPDIR"}' in start.group(0)
        on_scratch = stage in ("PLACE_POTENTIAL", "PW_RELAX")
        assert ("-B '/scratch'" in start.group(0)) == on_scratch
    assert found == STAGES
