"""Built images: their own tests, and the pipeline in them."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from nextflow_project import REPOSITORY, Project, read_csv, said
from test_images import IMAGES, VERSION

FOLDER = Path(os.environ.get("XTALFILL_IMAGES", REPOSITORY / "containers"))


def find_image(name: str) -> Path:
    """Return an image; skip the test without it or without Apptainer."""
    path = FOLDER / f"xtalfill-{name}-{VERSION}.sif"
    if shutil.which("apptainer") is None:
        pytest.skip("no apptainer on PATH")
    if not path.exists():
        pytest.skip(f"no {path}: build it with 'make images', or name its folder: XTALFILL_IMAGES")
    return path


@pytest.mark.parametrize("name", IMAGES)
def test_image_passes_its_test_and_has_its_version(name: str) -> None:
    image = find_image(name)
    result = subprocess.run(
        ["apptainer", "test", image], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stdout + result.stderr
    labels = subprocess.run(
        ["apptainer", "inspect", "--labels", image], capture_output=True, text=True, check=True
    )
    assert f"org.opencontainers.image.version: {VERSION}" in labels.stdout.splitlines()


@pytest.mark.slow
def test_run_in_images_agrees_with_run_without(tmp_path: Path) -> None:
    for name in ("tools", "inpaint", "relax"):
        find_image(name)
    project = Project.make(tmp_path)
    tables = []
    for profile in ("test", "test,apptainer"):
        outdir = project.launch / profile
        result = project.run("-profile", profile, "--container_dir", FOLDER, "--outdir", outdir)
        assert result.returncode == 0, said(result)
        tables.append(read_csv(outdir / "candidates.csv"))
    assert tables[0] == tables[1]
