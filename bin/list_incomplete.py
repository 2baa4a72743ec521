#!/usr/bin/env python3
"""LIST_INCOMPLETE: write scan.csv and hosts.csv of a database that JUDGE has judged."""

import argparse
from pathlib import Path

from xtalfill.core.errors import run_command


def main() -> None:
    """Write the tables of the judged parts in the order of the input."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--parts", type=Path, required=True, help="parts.json of DIVIDE_INPUT")
    parser.add_argument("--judged", type=Path, required=True, help="folder of judged parts")
    parser.add_argument("--input", type=Path, required=True, help="file with the name of the input")
    parser.add_argument("--outdir", type=Path, required=True, help="where the files go")
    args = parser.parse_args()

    from xtalfill.core.io import read_json, write_json
    from xtalfill.inputs.scan_parts import read_judged
    from xtalfill.results.scan import write_findings

    files = (args.judged / f"{name}.jsonl" for name in read_json(args.parts))
    source = args.input.read_text(encoding="utf-8").strip()
    findings = write_findings(read_judged(files), args.outdir, source)
    content = {"counts": dict(findings.counts), "n_uncounted": findings.n_uncounted}
    write_json(args.outdir / "scan.json", content)


if __name__ == "__main__":
    run_command(main)
