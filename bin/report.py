#!/usr/bin/env python3
"""Write report.html, provenance.json and ro-crate-metadata.json of a run (REPORT)."""

import argparse
from pathlib import Path

from xtalfill.core.errors import run_command


def main() -> None:
    """Gather tables, evaluation and records into the report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", type=Path, required=True, help="check.json of CHECK")
    parser.add_argument(
        "--batches", type=Path, nargs="*", required=True, help="batches after EVALUATE"
    )
    parser.add_argument("--evaluation", type=Path, required=True, help="evaluation.json of COLLECT")
    parser.add_argument(
        "--records", type=Path, nargs="*", required=True, help="records of all tasks"
    )
    parser.add_argument("--params", type=Path, required=True, help="JSON: params, workflow")
    parser.add_argument("--workflow", type=Path, required=True, help="main.nf")
    parser.add_argument("--outdir", type=Path, required=True, help="where the files go")
    args = parser.parse_args()

    from xtalfill.results.report.write import write_report

    write_report(
        check=args.check,
        batches=args.batches,
        evaluation=args.evaluation,
        records=args.records,
        params=args.params,
        workflow=args.workflow,
        outdir=args.outdir,
    )


run_command(main)
