"""The stage REPORT: report.html and provenance.json from what the run left."""

from __future__ import annotations

from pathlib import Path

from xtalfill.core.errors import InputError
from xtalfill.core.io import atomic_writer, read_json, write_json
from xtalfill.results.report.html import render_report
from xtalfill.results.report.provenance import gather_provenance
from xtalfill.results.tables import read_tables


def write_report(
    *,
    check: Path,
    batches: list[Path],
    evaluation: Path,
    records: list[Path],
    params: Path,
    outdir: Path,
) -> None:
    """Write the report of a run.

    Args:
        check: check.json of CHECK.
        batches: The batches after EVALUATE.
        evaluation: evaluation.json of COLLECT.
        records: The records of all tasks.
        params: JSON object with "params", the run's parameters by name, and "workflow", what
            Nextflow says of the run.
        outdir: Where the two files go; made if need be.

    Raises:
        InputError: A file cannot be read.
    """
    tables = read_tables(check, batches)
    run = read_json(params)
    if not (isinstance(run, dict) and {"params", "workflow"} <= set(run)):
        raise InputError(f"{params}: lacks 'params' or 'workflow'; give what main.nf writes")
    provenance = gather_provenance(tables, records=records, run=run)
    page = render_report(tables, evaluation=read_json(evaluation), provenance=provenance)
    outdir.mkdir(parents=True, exist_ok=True)
    write_json(outdir / "provenance.json", provenance)
    with atomic_writer(outdir / "report.html") as file:
        file.write(page)
