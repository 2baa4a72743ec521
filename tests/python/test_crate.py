"""ro-crate-metadata.json: a Workflow Run RO-Crate that agrees with the folder it describes."""

from __future__ import annotations

import hashlib
import json
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hand_made_batches import Case, Made, brucite
from test_report import make_run
from xtalfill.results.report.crate import PROFILES
from xtalfill.results.report.write import write_report

RUN = {
    "params": {"seed": 42, "input": "it's <here>.csv", "fmax": 0.05, "merge": False, "model": None},
    "workflow": {
        "name": "xtalfill", "revision": "0123456789abcdef", "nextflow": "24.10.0",
        "license": "MIT", "contributors": ["xtalfill developers"],
    },
}  # fmt: skip

Entities = dict[str, dict[str, Any]]


@pytest.fixture(scope="module")
def outdir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder as a run leaves it, a refused and a restored structure inside."""
    work, folder = (tmp_path_factory.mktemp(name) for name in ("work", "results"))
    cases = [Case("mg", brucite(), 2, [Made(), Made(method="random")])]
    refused = [{"id": "torn", "source": "torn.cif", "message": "cannot be read"}]
    arguments = make_run(work, cases, refused)
    arguments["params"].write_text(json.dumps(RUN), encoding="utf-8")
    write_report(**arguments)
    shutil.copytree(work / "structures", folder / "structures")
    shutil.copytree(work / "pipeline_info", folder / "pipeline_info")
    shutil.copy(work / "check.json", folder / "pipeline_info")
    (folder / "batches").mkdir()
    shutil.copy(work / "batch_0000.h5", folder / "batches")
    for path in work.iterdir():
        if path.suffix in (".csv", ".extxyz", ".html") or path.stem in ("evaluation", "provenance"):
            shutil.copy(path, folder)
    shutil.copy(work / "ro-crate-metadata.json", folder)
    return folder


@pytest.fixture(scope="module")
def crate(outdir: Path) -> dict[str, Any]:
    return json.loads((outdir / "ro-crate-metadata.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def entities(crate: dict[str, Any]) -> Entities:
    return {entity["@id"]: entity for entity in crate["@graph"]}


def kinds(entity: dict[str, Any]) -> list[str]:
    found = entity["@type"]
    return found if isinstance(found, list) else [found]


def links(value: Any) -> Iterator[str]:
    """Yield every identifier that an entity refers to."""
    if isinstance(value, list):
        for item in value:
            yield from links(item)
    elif isinstance(value, dict):
        yield value["@id"]


def test_the_root_is_a_workflow_run_crate(crate: dict[str, Any], entities: Entities) -> None:
    assert crate["@context"][0] == "https://w3id.org/ro/crate/1.1/context"
    descriptor = entities["ro-crate-metadata.json"]
    assert descriptor["about"] == {"@id": "./"}
    assert {"@id": "https://w3id.org/ro/crate/1.1"} in descriptor["conformsTo"]
    root = entities["./"]
    assert root["@type"] == "Dataset"
    assert set(links(root["conformsTo"])) == set(PROFILES)
    for name in ("name", "description", "datePublished", "license", "author"):
        assert root[name]


def test_identifiers_are_unique_and_every_link_leads_somewhere(
    crate: dict[str, Any], entities: Entities
) -> None:
    assert len(entities) == len(crate["@graph"])
    outside = {"https://w3id.org/ro/crate/1.1", "https://www.nextflow.io/"}
    for entity in crate["@graph"]:
        for name, value in entity.items():
            for target in links(value) if not name.startswith("@") else ():
                known = target in entities or target in outside
                assert known or name in ("url", "conformsTo"), (name, target)


def test_every_file_exists_and_has_its_size_and_checksum(outdir: Path, entities: Entities) -> None:
    named = {name: entity for name, entity in entities.items() if "File" in kinds(entity)}
    assert set(links(entities["./"]["hasPart"])) == {*named, "structures/"}
    assert (outdir / "structures").is_dir()
    for name, entity in named.items():
        content = (outdir / name).read_bytes()
        assert entity["description"]
        if "sha256" in entity:
            assert entity["sha256"] == hashlib.sha256(content).hexdigest()
            assert entity["contentSize"] == str(len(content))
    assert "sha256" in named["report.html"]
    assert "sha256" in named["batches/batch_0000.h5"]
    published = {str(path.relative_to(outdir)) for path in outdir.rglob("*") if path.is_file()}
    loose = {name for name in published if not name.startswith("structures/")}
    assert loose == {*named, "ro-crate-metadata.json"}


def test_the_run_tells_workflow_parameters_and_software(outdir: Path, entities: Entities) -> None:
    workflow, run = entities["pipeline_info/main.nf"], entities["#run"]
    assert {"File", "SoftwareSourceCode", "ComputationalWorkflow"} == set(kinds(workflow))
    assert workflow["version"] == "0123456789abcdef"
    assert workflow["license"] == {"@id": "https://spdx.org/licenses/MIT"}
    assert [entities[name]["name"] for name in links(workflow["creator"])] == [
        "xtalfill developers"
    ]
    assert run["instrument"] == {"@id": "pipeline_info/main.nf"}
    values = {entities[name]["name"]: entities[name]["value"] for name in links(run["object"])}
    assert values == {name: value for name, value in RUN["params"].items() if value is not None}
    types = [entities[name]["additionalType"] for name in links(workflow["input"])]
    assert types == ["Integer", "Text", "Float", "Boolean"]
    versions = json.loads((outdir / "provenance.json").read_text())["versions"]
    software = [entities[name] for name in links(workflow["softwareRequirements"])]
    assert {one["name"]: [one["softwareVersion"]] for one in software} == versions


def test_a_run_without_restored_structures_has_no_folder_of_them(tmp_path: Path) -> None:
    cases = [Case("mg", brucite(), 2, [Made(status="failed", message="relax_sites: blew up")])]
    write_report(**make_run(tmp_path, cases, []))
    crate = json.loads((tmp_path / "ro-crate-metadata.json").read_text(encoding="utf-8"))
    assert "structures/" not in {entity["@id"] for entity in crate["@graph"]}


def test_the_official_validator_finds_nothing_required_missing(outdir: Path) -> None:
    """Runs where roc-validator is installed; the project itself does not need it."""
    services = pytest.importorskip("rocrate_validator.services")
    models = pytest.importorskip("rocrate_validator.models")
    try:
        socket.gethostbyname("w3id.org")
    except OSError:
        pytest.skip("the validator reads the contexts of the crate from w3id.org")
    settings = services.ValidationSettings(
        rocrate_uri=str(outdir),
        profile_identifier="workflow-run-crate",
        requirement_severity=models.Severity.REQUIRED,
    )
    result = services.validate(settings)
    assert not result.has_issues(), [issue.message for issue in result.get_issues()]
