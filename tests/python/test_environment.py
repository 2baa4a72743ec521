"""Environment: imports are pinned, and every image contains the imports of its stages."""

import ast
import re
import sys
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BIN = ROOT / "bin"
STAGES = sorted(path.name for path in BIN.glob("*.py"))
IMAGES = {
    "plan_potential.py": "dft",
    "place_potential.py": "dft",
    "gather_potential.py": "dft",
    "inpaint.py": "inpaint",
    "train.py": "inpaint",
    "relax.py": "relax",
    "fetch_potential.py": "relax",
    "compile_potential.py": "relax",
    "plan_dft.py": "dft",
    "pw_relax.py": "dft",
}  # the other stages use the image tools
PIN = re.compile(r"^([A-Za-z0-9._-]+)==[A-Za-z0-9.+]+$")


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def pins(path: Path) -> dict[str, str]:
    """Return the pins of a requirements file; other lines are errors."""
    lines = [line for line in path.read_text().splitlines() if line and not line.startswith("#")]
    bad = [line for line in lines if not PIN.match(line)]
    assert not bad, f"{path.name} holds more than exact pins: {bad}"
    return {canonical(line.split("==")[0]): line.split("==")[1] for line in lines}


@cache
def imports(path: Path) -> frozenset[str]:
    """Return the dotted names that a Python file imports, also inside functions."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return frozenset(names)


def source_of(module: str) -> Path | None:
    """Return the file of a module of xtalfill, or None."""
    path = BIN.joinpath(*module.split("."))
    candidates = (path.with_suffix(".py"), path / "__init__.py")
    return next((candidate for candidate in candidates if candidate.is_file()), None)


def reach(path: Path) -> set[Path]:
    """Return the project files that ``path`` imports, directly or indirectly."""
    found: set[Path] = set()
    waiting = [path]
    while waiting:
        current = waiting.pop()
        if current not in found:
            found.add(current)
            waiting += [source for name in imports(current) if (source := source_of(name))]
    return found


def third_party(paths: set[Path]) -> set[str]:
    """Return top-level modules outside the standard library and this project."""
    names = {name.split(".")[0] for path in paths for name in imports(path)}
    return names - sys.stdlib_module_names - {"xtalfill"}


def missing(modules: set[str], installed: set[str]) -> set[str]:
    """Return modules that no installed package provides."""
    providers = packages_distributions()
    return {
        module
        for module in modules
        if not {canonical(name) for name in providers.get(module, [])} & installed
    }


def image_packages(name: str) -> set[str]:
    """Return the packages that the recipe of an image installs by name."""
    recipe = (ROOT / "containers" / f"{name}.def").read_text()
    packages = re.search(r"-c \S+constraints\.txt \\\n\s+(.+)\n", recipe)
    assert packages, f"{name}.def installs nothing under the constraints"
    installed = {canonical(package) for package in packages.group(1).split()}
    return installed | ({"mattergen"} if "mattergen.txt" in recipe else set())


def test_imports_are_required() -> None:
    required = pins(ROOT / "requirements.txt") | pins(ROOT / "requirements" / "mattergen.txt")
    assert missing(third_party(set(BIN.rglob("*.py"))), set(required)) == set()


def test_requirements_agree_with_the_constraints() -> None:
    constraints = pins(ROOT / "requirements" / "constraints.txt")
    for name in ("requirements.txt", "requirements/dev.txt"):
        assert pins(ROOT / name).items() <= constraints.items()


@pytest.mark.parametrize("stage", STAGES)
def test_images_contain_the_imports_of_their_stages(stage: str) -> None:
    installed = image_packages(IMAGES.get(stage, "tools"))
    if stage == "place_potential.py":  # --baseline_relax mlip is not supported in the image (docs)
        installed |= image_packages("relax")
    assert missing(third_party(reach(BIN / stage)), installed) == set()


@pytest.mark.parametrize("image", ["dft", "inpaint", "relax", "tools"])
def test_images_install_pinned_packages_only(image: str) -> None:
    required = pins(ROOT / "requirements.txt") | pins(ROOT / "requirements" / "mattergen.txt")
    assert image_packages(image) <= set(required)
    recipe = (ROOT / "containers" / f"{image}.def").read_text()
    files = re.search(r"%files\n((?: +\S+ \S+\n)+)", recipe)
    assert files
    for line in files.group(1).splitlines():
        assert (ROOT / line.split()[0]).is_file()
