"""Which package of xtalfill may import which: layers, no cycles, and what -resume depends on."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterable
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from nextflow_project import REPOSITORY
from test_pipeline_graph import BIN, COMMANDS, closure

PACKAGE = BIN / "xtalfill"
# From the bottom up: a package imports only packages of the lines before its own.
LAYERS = (
    {"core"},
    {"registry"},
    {"models", "dft", "relax"},
    {"inputs", "proposals", "evaluate"},
    {"training", "checks"},
    {"results", "monitor"},
    {"database"},
    {"interactive"},
    {"cli"},
)
LAYER = {name: number for number, names in enumerate(LAYERS) for name in names}
STAGES = set().union(*LAYERS[2:5])
TABLES = {
    "collect.py",
    "list_incomplete.py",
    "report.py",
    "store.py",
}  # the commands that may depend on results/

Arrows = dict[tuple[str, str], list[str]]


def modules_in(node: ast.AST) -> Iterable[str]:
    """Yield the modules that a statement imports."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom) and node.module:
        # "from xtalfill import core" imports a package, too.
        yield node.module
        yield from (f"{node.module}.{alias.name}" for alias in node.names)


def find_arrows(package: Path) -> Arrows:
    """Return (importing, imported) package -> the modules that import, wherever in them."""
    arrows: Arrows = defaultdict(list)
    for path in sorted(package.rglob("*.py")):
        here = path.relative_to(package)
        source = here.parts[0] if len(here.parts) > 1 else ""
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            for module in modules_in(node):
                parts = module.split(".")
                if parts[0] == package.name and len(parts) > 1:
                    target = parts[1]
                    if (package / target).is_dir() and target != source:
                        arrows[source, target].append(str(here))
    return arrows


def drawn(arrows: Arrows) -> str:
    """Return the graph as text, a line for each arrow."""
    lines = [f"  {a} -> {b}: {', '.join(sorted(set(f)))}" for (a, b), f in sorted(arrows.items())]
    return "\n".join(["packages of xtalfill and what they import:", *lines])


def forbidden(arrows: Arrows) -> list[str]:
    """Return the arrows that point sideways or up, and packages without a layer."""
    unknown = sorted({name for arrow in arrows for name in arrow} - set(LAYER))
    found = [f"{name} has no layer" for name in unknown]
    known = [(a, b) for a, b in sorted(arrows) if a in LAYER and b in LAYER]
    return found + [f"{a} imports {b}" for a, b in known if LAYER[b] >= LAYER[a]]


@pytest.fixture(scope="module")
def arrows() -> Arrows:
    return find_arrows(PACKAGE)


def test_every_package_imports_only_lower_layers(arrows: Arrows) -> None:
    assert forbidden(arrows) == [], drawn(arrows)
    packages = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert packages == set(LAYER)


def test_there_are_no_cycles_between_packages(arrows: Arrows) -> None:
    graph: dict[str, set[str]] = defaultdict(set)
    for source, target in arrows:
        graph[source].add(target)
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"{error.args[1]}\n{drawn(arrows)}")


def test_core_stands_alone_and_no_stage_knows_the_results(arrows: Arrows) -> None:
    assert not [b for a, b in arrows if a == "core"], drawn(arrows)
    assert not [(a, b) for a, b in arrows if a in STAGES and b in ("results", "cli")], drawn(arrows)
    assert not [a for a, b in arrows if b == "cli"], drawn(arrows)


def test_an_arrow_up_is_found(tmp_path: Path) -> None:
    package = tmp_path / "xtalfill"
    for name in ("core", "inputs", "results"):
        (package / name).mkdir(parents=True)
        (package / name / "__init__.py").touch()
    (package / "inputs" / "check.py").write_text(
        "def f():\n    from xtalfill import results\n    import xtalfill.core.io\n", "utf-8"
    )
    arrows = find_arrows(package)
    assert set(arrows) == {("inputs", "results"), ("inputs", "core")}
    assert forbidden(arrows) == ["inputs imports results"]
    assert "inputs -> results: inputs/check.py" in drawn(arrows)


@pytest.mark.parametrize("command", sorted(set(COMMANDS.values()) - TABLES))
def test_an_edit_of_the_results_redoes_no_stage(command: str) -> None:
    files = closure(command, BIN)
    assert not [name for name in files if name.startswith("xtalfill/results/")]


@pytest.mark.parametrize("command", sorted(set(COMMANDS.values())))
def test_no_stage_depends_on_what_runs_without_nextflow(command: str) -> None:
    assert not [name for name in closure(command, BIN) if "/interactive/" in name]


def test_only_the_report_imports_the_report() -> None:
    assert not [name for name in closure("collect.py", BIN) if "/report/" in name]


def test_modules_are_imported_by_their_full_names() -> None:
    """StageCode and the closure above follow no others."""
    for path in PACKAGE.rglob("*.py"):
        relative = re.search(r"^\s*from\s+\.", path.read_text(encoding="utf-8"), re.M)
        assert relative is None, path.relative_to(REPOSITORY)


def test_check_starts_without_what_only_poscar_needs() -> None:
    code = "import sys, xtalfill.inputs.check; sys.exit('pymatgen.io.vasp' in sys.modules)"
    environment = os.environ | {"PYTHONPATH": str(BIN)}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True, timeout=300)
