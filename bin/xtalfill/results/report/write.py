"""The stage REPORT: report.html, provenance.json and ro-crate-metadata.json of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from xtalfill.core.errors import InputError
from xtalfill.core.io import atomic_writer, read_json, write_json
from xtalfill.results.collect import best_over_methods
from xtalfill.results.report.crate import Output, describe_crate
from xtalfill.results.report.html import render_report
from xtalfill.results.report.provenance import gather_provenance
from xtalfill.results.tables import Tables, read_tables


def write_report(
    *,
    check: Path,
    batches: list[Path],
    evaluation: Path,
    records: list[Path],
    params: Path,
    workflow: Path,
    outdir: Path,
) -> None:
    """Write the report of a run.

    Args:
        check: check.json of CHECK.
        batches: The batches after EVALUATE.
        evaluation: evaluation.json of COLLECT.
        records: The records of all tasks.
        params: JSON object with "params" (the parameters) and "workflow" (see
            `gather_provenance`), as main.nf writes it.
        workflow: main.nf, which is published as pipeline_info/main.nf.
        outdir: Folder for the three files; created if missing.

    Raises:
        InputError: A file cannot be read.
    """
    tables = read_tables(check, batches)
    run = read_json(params)
    if not (isinstance(run, dict) and {"params", "workflow"} <= set(run)):
        raise InputError(
            f"{params}: lacks 'params' or 'workflow'; use the JSON that main.nf writes"
        )
    provenance = gather_provenance(tables, records=records, run=run)
    page = render_report(tables, evaluation=read_json(evaluation), provenance=provenance)
    outdir.mkdir(parents=True, exist_ok=True)
    write_json(outdir / "provenance.json", provenance)
    with atomic_writer(outdir / "report.html") as file:
        file.write(page)
    outputs = [
        Output("report.html", "Report with figures and crystals in 3-D", outdir / "report.html"),
        Output("provenance.json", "Provenance of the run", outdir / "provenance.json"),
        Output("evaluation.json", "Success rates", evaluation),
        Output("pipeline_info/check.json", "Structures that CHECK took and refused", check),
        *(Output(f"batches/{path.name}", "All stages of its candidates", path) for path in batches),
        *_of_other_stages(tables, provenance["parameters"]),
    ]
    main_file = Output("pipeline_info/main.nf", "Main script of the pipeline", workflow)
    crate = describe_crate(provenance, workflow=main_file, outputs=outputs)
    write_json(outdir / "ro-crate-metadata.json", crate)


def _of_other_stages(tables: Tables, parameters: dict[str, Any]) -> list[Output]:
    """Return the published files and folders that REPORT does not read."""
    found = [
        Output("results.csv", "One row for each structure and method"),
        Output("candidates.csv", "One row for each candidate"),
        Output("failures.csv", "What was refused, failed or did not converge, and why"),
        Output("selected.extxyz", "Selected candidates, relaxed"),
        Output("candidates.extxyz", "All candidates after their last stage"),
    ]
    if best_over_methods(tables):
        found.append(Output("structures/", "Restored crystals (CIF)"))
    if parameters.get("validate"):
        found.append(Output("dft/", "Inputs and outputs of pw.x for the validation"))
    if "potential" in tables.methods:
        found.append(Output("potential/", "Inputs and outputs of pw.x for method potential"))
    return found
