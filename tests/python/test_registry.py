"""The registry, the functions that it names and the works that it cites agree."""

from __future__ import annotations

import json
import string
from pathlib import Path

import pytest

from stage_settings import REPOSITORY
from xtalfill.proposals.dft_potential.job import METHOD
from xtalfill.proposals.methods import PROPOSERS
from xtalfill.proposals.ways import ENUMERATED
from xtalfill.registry import documentation, methods, potentials, read_entries
from xtalfill.registry.documentation import METHOD_TEXTS, POTENTIAL_TEXTS
from xtalfill.registry.methods import METHODS
from xtalfill.registry.mix import MIX
from xtalfill.registry.potentials import POTENTIALS
from xtalfill.relax.elements import known_elements
from xtalfill.relax.potentials import _LOADERS
from xtalfill.results.citations import citations


@pytest.mark.parametrize("file", [methods.FILE, potentials.FILE])
def test_every_name_is_there_once(file: Path) -> None:
    names = [entry["name"] for entry in read_entries(file)]
    assert len(names) == len(set(names))


def test_every_method_is_filled_by_one_stage() -> None:
    by_stage = {
        stage: {name for name, one in METHODS.items() if one.stage == stage}
        for stage in ("inpaint", "baseline")
    }
    assert by_stage == {"inpaint": {*PROPOSERS, *ENUMERATED, MIX}, "baseline": {METHOD}}
    assert {name for name, one in METHODS.items() if one.needs_pw} == {METHOD}


def test_every_potential_has_a_loader_and_its_elements_are_known() -> None:
    for name, one in POTENTIALS.items():
        assert one.loader in _LOADERS
        if one.bundled is not None:
            assert (REPOSITORY / "assets" / "potential" / one.bundled).is_file()
        assert known_elements(name)
        assert (one.elements is None) == (one.bundled is not None)
    assert len(known_elements("7net-0") or ()) == 89


def test_every_entry_is_documented_and_its_works_are_known() -> None:
    assert (set(METHOD_TEXTS), set(POTENTIAL_TEXTS)) == (set(METHODS), set(POTENTIALS))
    for one in (*METHOD_TEXTS.values(), *POTENTIAL_TEXTS.values()):
        assert one.summary.endswith(".")
        assert set(one.citations) <= set(citations())
    for name, one in METHOD_TEXTS.items():
        assert one.report
        fields = {field for _, field, _, _ in string.Formatter().parse(one.report) if field}
        assert not fields or METHODS[name].weights or METHODS[name].needs_pw


def test_only_the_tables_import_the_documentation() -> None:
    package = REPOSITORY / "bin" / "xtalfill"
    module = documentation.__name__
    users = [
        path.relative_to(package).as_posix()
        for path in package.rglob("*.py")
        if module in path.read_text(encoding="utf-8")
    ]
    assert sorted(users) == ["results/report/methods.py", "results/sentence.py"]


def test_the_schema_names_no_method_and_no_potential() -> None:
    schema = json.loads((REPOSITORY / "nextflow_schema.json").read_text(encoding="utf-8"))
    for group in schema["$defs"].values():
        for parameter in group["properties"].values():
            if "registry" in json.dumps(parameter):
                rules = json.dumps([parameter.get("pattern"), parameter.get("anyOf")])
                assert not any(f'"{name}"' in rules for name in (*METHODS, *POTENTIALS))
