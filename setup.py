"""Puts the files of the project that the package reads into the wheel; see pyproject.toml."""

from pathlib import Path
from shutil import copyfile

from setuptools import setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent
# As in bin/xtalfill/core/files.py. An editable install reads them where they are.
FILES = (
    "nextflow_schema.json", "assets/gemnet-dT.json", "assets/sssp/*.json",
    "assets/weights/*.pt", "assets/weights/SHA256SUMS",
    "assets/potential/*.zip", "assets/potential/*.nqx", "assets/potential/SHA256SUMS",
)  # fmt: skip


class BuildWithFiles(build_py):
    """Copies the files below xtalfill/_project, under their paths in the project."""

    def run(self) -> None:
        """Build the package, then add the files."""
        super().run()
        if not self.editable_mode:
            for source in (path for pattern in FILES for path in sorted(ROOT.glob(pattern))):
                target = Path(self.build_lib, "xtalfill", "_project", source.relative_to(ROOT))
                target.parent.mkdir(parents=True, exist_ok=True)
                copyfile(source, target)


setup(cmdclass={"build_py": BuildWithFiles})
