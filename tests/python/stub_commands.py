"""Stub commands for the stages after CHECK, to test outputs and -resume without the engines."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from nextflow_project import Project

# Copies its input batch.
STAGE = """#!/usr/bin/env bash
set -eu
while [ $# -gt 0 ]; do
    case $1 in
        --batch) cp "$2" batch ;;
        --output) output=$2 ;;
        --record) echo '{}' > "$2" ;;
    esac
    shift
done
mv batch "$output"
"""
# Writes tables and files for the structures in check.json.
COLLECT = """#!/usr/bin/env python3
import json, pathlib
found = json.loads(pathlib.Path("check.json").read_text())
ids = [entry["id"] for entry in found["structures"]]
refused = [entry["id"] for entry in found["failures"]]
pathlib.Path("structures").mkdir()
for name in ids:
    pathlib.Path("structures", f"{name}.cif").write_text(name)
for name in ("results.csv", "candidates.csv", "selected.extxyz", "candidates.extxyz"):
    pathlib.Path(name).write_text("\\n".join(["id", *ids]) + "\\n")
pathlib.Path("failures.csv").write_text("\\n".join(["id", *refused]) + "\\n")
counts = {"structures_in": len(ids) + len(refused), "structures_checked": len(ids)}
counts |= {"structures_restored": 0, "structures_with_reference": 0}
pathlib.Path("evaluation.json").write_text(json.dumps({"counts": counts}))
"""
REPORT = """#!/usr/bin/env bash
{ echo report; cat check.json; } > report.html
echo '{}' | tee provenance.json > ro-crate-metadata.json
"""
COMMANDS = {
    "inpaint.py": STAGE,
    "relax.py": STAGE,
    "select_candidates.py": STAGE,
    "evaluate.py": STAGE,
    "collect.py": COLLECT,
    "report.py": REPORT,
}


def install_stubs(project: Project) -> None:
    """Install the stub commands in a copy of the project."""
    for name, text in COMMANDS.items():
        (project.root / "bin" / name).write_text(text, encoding="utf-8")


def write_hosts(path: Path, names: Iterable[str]) -> Path:
    """Write a sample sheet of rock-salt hosts, each in its own POSCAR."""
    rows = []
    for name in names:
        (path.parent / f"{name}.vasp").write_text(
            f"{name}\n4.2\n1 0 0\n0 1 0\n0 0 1\nMg O\n1 1\nDirect\n0 0 0\n0.5 0.5 0.5\n",
            encoding="utf-8",
        )
        rows.append(f"{name},{name}.vasp,1")
    path.write_text("\n".join(["id,structure,n_missing", *rows]) + "\n", encoding="utf-8")
    return path
