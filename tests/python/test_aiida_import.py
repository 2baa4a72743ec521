"""The recipe in docs/database.md imports an export into AiiDA."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hand_made_batches import brucite, lithium_hydride
from nextflow_project import REPOSITORY
from test_database import RECIPE, RUN, outdir, records  # noqa: F401  fixtures
from test_exports import database  # noqa: F401  fixture
from xtalfill.cli.parser import main

LIST = """
import json
from aiida import load_profile, orm
load_profile()
found = {}
for node in orm.Group.collection.get(label="xtalfill").nodes:
    sites = [[site.kind_name, site.position] for site in node.sites]
    extras = node.base.extras.get("xtalfill")
    found.setdefault(node.label, []).append({"sites": sites, "cell": node.cell, "extras": extras})
print(json.dumps(found))
"""


def recipe() -> str:
    """Return the code of the documentation."""
    text = (REPOSITORY / "docs" / "database.md").read_text(encoding="utf-8")
    found = re.search(r"<!-- recipe: aiida -->\n```python\n(.+?)```", text, re.DOTALL)
    assert found
    return found[1]


@pytest.fixture
def aiida(tmp_path: Path) -> Any:
    """Return a function that runs code with AiiDA, in a new profile in SQLite."""
    verdi = shutil.which("verdi")
    if verdi is None:
        pytest.skip("no verdi on PATH: AiiDA is not installed (pip install aiida-core ase)")
    environment = os.environ | {"AIIDA_PATH": str(tmp_path), "HOME": str(tmp_path)}
    environment.pop("PYTHONPATH", None)

    def run(*command: str | Path) -> str:
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False,
            timeout=600,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout

    run(verdi, "profile", "setup", "core.sqlite_dos", "--non-interactive", "--profile-name", "test",
        "--email", "a@example.org", "--no-use-rabbitmq")  # fmt: skip
    return lambda code: run(Path(verdi).with_name("python"), "-c", code)


def test_an_export_becomes_nodes_once(aiida: Any, database: str, tmp_path: Path) -> None:  # noqa: F811
    main(["export", database, "--format", "ase", "-o", str(tmp_path / "crystals.db")])
    for _ in range(2):  # the second import finds all of the first
        aiida(recipe())
    found = json.loads(aiida(LIST))
    assert {name: len(nodes) for name, nodes in found.items()} == {"mg": 1, "lih": 1}
    for name, atoms, restored in (
        ("mg", brucite(), [3, 4]),
        ("lih", lithium_hydride(), [4, 5, 6, 7]),
    ):
        (node,) = found[name]
        assert [symbol for symbol, _ in node["sites"]] == list(atoms.symbols)
        np.testing.assert_allclose([at for _, at in node["sites"]], atoms.positions, atol=1e-9)
        np.testing.assert_allclose(node["cell"], atoms.cell.array, atol=1e-9)
        assert node["extras"]["restored_sites"] == restored
        assert node["extras"]["xtalfill_n_missing"] == len(restored)
    assert found["mg"][0]["extras"]["energy"] == -10.0
