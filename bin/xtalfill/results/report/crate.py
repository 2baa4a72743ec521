"""ro-crate-metadata.json: the results as a Workflow Run RO-Crate, made from provenance.json.

Profiles: RO-Crate 1.1, Workflow RO-Crate 1.0 and Workflow Run Crate 0.5
(https://www.researchobject.org/workflow-run-crate). The root of the crate is --outdir. Its
parameters are values with a name; the inputs themselves are not part of the crate.
"""

from __future__ import annotations

import mimetypes
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from xtalfill.core.record import file_sha256

Entity = dict[str, Any]

PROFILES = {
    "https://w3id.org/ro/wfrun/process/0.5": ("Process Run Crate", "0.5"),
    "https://w3id.org/ro/wfrun/workflow/0.5": ("Workflow Run Crate", "0.5"),
    "https://w3id.org/workflowhub/workflow-ro-crate/1.0": ("Workflow RO-Crate", "1.0"),
}
_CONTEXT = [
    "https://w3id.org/ro/crate/1.1/context",
    "https://w3id.org/ro/terms/workflow-run/context",
]
_SPECIFICATION = "https://w3id.org/ro/crate/1.1"
_BIOSCHEMAS = "https://bioschemas.org/profiles"
_WORKFLOW_PROFILE = f"{_BIOSCHEMAS}/ComputationalWorkflow/1.0-RELEASE"
_PARAMETER_PROFILE = f"{_BIOSCHEMAS}/FormalParameter/1.0-RELEASE"
_RESULTS_LICENSE = "#licence-of-the-results"
_LANGUAGE = "https://w3id.org/workflowhub/workflow-ro-crate#nextflow"
# JSON value -> type of schema.org
_TYPES = {bool: "Boolean", int: "Integer", float: "Float", str: "Text"}
# Files that a mimetypes table seldom knows.
_FORMATS = {".extxyz": "chemical/x-xyz", ".h5": "application/x-hdf5", ".nf": "text/x-nextflow"}


@dataclass(frozen=True)
class Output:
    """A file or folder of the results.

    Attributes:
        name: Path in --outdir; that of a folder ends with "/".
        description: One sentence.
        path: The file where it lies now, for its size and checksum; None if it is elsewhere.
    """

    name: str
    description: str
    path: Path | None = None


def describe_crate(
    provenance: dict[str, Any], *, workflow: Output, outputs: list[Output]
) -> dict[str, Any]:
    """Return the content of ro-crate-metadata.json.

    Args:
        provenance: Content of provenance.json.
        workflow: main.nf, with its path.
        outputs: All other files and folders of the results, each once.

    Raises:
        ConfigError: A file cannot be read.
    """
    formal, values = _parameters(provenance["parameters"])
    software = _software(provenance["versions"])
    people = [
        _entity(f"#{quote(name)}", "Organization", name=name) for name in _creators(provenance)
    ]
    results = [_output(output) for output in outputs]
    graph = [
        _descriptor(),
        _root(provenance, workflow=workflow, outputs=outputs, people=people),
        _workflow(provenance, workflow, formal=formal, software=software, people=people),
        _run(provenance, workflow, values=values, results=results),
        *_context_entities(provenance),
        *people,
        *results,
        *formal,
        *values,
        *software,
    ]
    return {"@context": _CONTEXT, "@graph": graph}


def _entity(identifier: str, kind: str | list[str], /, **properties: Any) -> Entity:
    """Return an entity of the graph, without empty properties and lists of one value."""
    found = {
        name: value[0] if isinstance(value, list) and len(value) == 1 else value
        for name, value in properties.items()
        if value not in (None, [], "")
    }
    return {"@id": identifier, "@type": kind, **found}


def _links(identifiers: Iterable[str]) -> list[Entity]:
    return [{"@id": identifier} for identifier in identifiers]


def _ids(entities: Iterable[Entity]) -> list[Entity]:
    return _links(entity["@id"] for entity in entities)


def _creators(provenance: dict[str, Any]) -> list[str]:
    return list(provenance["workflow"].get("contributors") or [])


def _license(provenance: dict[str, Any]) -> str | None:
    """Return the page of the workflow's licence, from its SPDX name."""
    name = provenance["workflow"].get("license")
    return f"https://spdx.org/licenses/{quote(name)}" if name else None


def _descriptor() -> Entity:
    return _entity(
        "ro-crate-metadata.json",
        "CreativeWork",
        about={"@id": "./"},
        conformsTo=_links([_SPECIFICATION, "https://w3id.org/workflowhub/workflow-ro-crate/1.0"]),
    )


def _root(
    provenance: dict[str, Any], *, workflow: Output, outputs: list[Output], people: list[Entity]
) -> Entity:
    counts = provenance["counts"]
    return _entity(
        "./",
        "Dataset",
        name="Crystal structures restored with xtalfill",
        description=f"{counts['structures_restored']} of {counts['structures_in']} structures "
        "restored: tables, structure files, report and provenance of one run.",
        datePublished=provenance["created"],
        license={"@id": _RESULTS_LICENSE},
        author=_ids(people),
        conformsTo=_links(PROFILES),
        mainEntity={"@id": workflow.name},
        mentions={"@id": "#run"},
        hasPart=_links([workflow.name, *(output.name for output in outputs)]),
    )


def _workflow(
    provenance: dict[str, Any],
    workflow: Output,
    *,
    formal: list[Entity],
    software: list[Entity],
    people: list[Entity],
) -> Entity:
    license_page = _license(provenance)
    return _output(workflow) | _entity(
        workflow.name,
        ["File", "SoftwareSourceCode", "ComputationalWorkflow"],
        name=provenance["workflow"].get("name", "xtalfill"),
        version=provenance["workflow"].get("revision") or provenance["xtalfill"],
        softwareVersion=provenance["xtalfill"],
        license={"@id": license_page} if license_page else None,
        creator=_ids(people),
        conformsTo={"@id": _WORKFLOW_PROFILE},
        programmingLanguage={"@id": _LANGUAGE},
        input=_ids(formal),
        softwareRequirements=_ids(software),
    )


def _run(
    provenance: dict[str, Any], workflow: Output, *, values: list[Entity], results: list[Entity]
) -> Entity:
    return _entity(
        "#run",
        "CreateAction",
        name=f"Run of xtalfill {provenance['xtalfill']}",
        description="provenance.json holds the machines, the times of the stages, the seeds and "
        "the checksums of the weights.",
        endTime=provenance["created"],
        actionStatus="http://schema.org/CompletedActionStatus",
        instrument={"@id": workflow.name},
        object=_ids(values),
        result=_ids(results),
    )


def _context_entities(provenance: dict[str, Any]) -> list[Entity]:
    """Return the profiles, the language and the licence that other entities refer to."""
    found = [
        _entity(page, "CreativeWork", name=name, version=version)
        for page, (name, version) in PROFILES.items()
    ]
    found.append(
        _entity(
            _LANGUAGE,
            "ComputerLanguage",
            name="Nextflow",
            identifier={"@id": "https://www.nextflow.io/"},
            url={"@id": "https://www.nextflow.io/"},
            version=provenance["workflow"].get("nextflow"),
        )
    )
    text = "xtalfill sets no licence for the results; that is for their owner to do."
    found.append(_entity(_RESULTS_LICENSE, "CreativeWork", name="Licence", description=text))
    if page := _license(provenance):
        found.append(_entity(page, "CreativeWork", name=provenance["workflow"]["license"]))
    return found


def _output(output: Output) -> Entity:
    """Return a file or folder of the results."""
    if output.name.endswith("/"):
        return _entity(output.name, "Dataset", name=output.name, description=output.description)
    suffix = Path(output.name).suffix
    known = {}
    if output.path is not None:
        size = output.path.stat().st_size
        known = {"contentSize": str(size), "sha256": file_sha256(output.path)}
    return _entity(
        output.name,
        "File",
        name=output.name,
        description=output.description,
        encodingFormat=_FORMATS.get(suffix) or mimetypes.guess_type(output.name)[0],
        **known,
    )


def _parameters(parameters: dict[str, Any]) -> tuple[list[Entity], list[Entity]]:
    """Return the parameters of the workflow and the values that the run gave to them."""
    formal, values = [], []
    for name, value in parameters.items():
        if value is None:
            continue
        formal.append(
            _entity(
                f"#parameter-{name}",
                "FormalParameter",
                name=name,
                additionalType=_TYPES.get(type(value), "Text"),
                conformsTo={"@id": _PARAMETER_PROFILE},
                workExample={"@id": f"#value-{name}"},
            )
        )
        values.append(
            {
                "@id": f"#value-{name}",
                "@type": "PropertyValue",
                "name": name,
                "value": value,
                "exampleOfWork": {"@id": f"#parameter-{name}"},
            }
        )
    return formal, values


def _software(versions: dict[str, list[str]]) -> list[Entity]:
    """Return Python and each package in each version that a task of the run used."""
    found = []
    for name, numbers in versions.items():
        page = "https://www.python.org/downloads/release/"
        page = page if name == "python" else f"https://pypi.org/project/{quote(name)}/"
        found += [
            _entity(
                f"{page}{quote(number)}/",
                "SoftwareApplication",
                name=name,
                softwareVersion=number,
                url={"@id": f"{page}{quote(number)}/"},
            )
            for number in numbers
        ]
    return found
