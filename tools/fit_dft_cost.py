#!/usr/bin/env python3
"""Fit the cost model of PLAN_DFT (assets/dft_cost.json) on finished runs with --validate."""

import argparse
import gzip
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from xtalfill.collect import write_json
from xtalfill.dft.xmlfile import read_data_file
from xtalfill.errors import ConfigError, run_command

LEAST_RUNS = 5


def measured(outdir: Path) -> list[dict[str, Any]]:
    """Return size and cost of each relaxation that converged, from the data files it left."""
    found = []
    with tempfile.TemporaryDirectory() as scratch:
        for packed in sorted(outdir.glob("dft/*/pw.*.xml.gz")):
            path = Path(scratch, "pwscf.xml")
            path.write_bytes(gzip.decompress(packed.read_bytes()))
            data = read_data_file(path)
            if data.relaxed:
                found.append(
                    {
                        "size": data.n_kpoints * data.n_bands * data.n_waves,
                        "n_scf": sum(step.n_scf for step in data.steps),
                        "core_seconds": round(data.core_seconds, 1),
                    }
                )
    return found


def fit(runs: list[dict[str, Any]], machine: str) -> dict[str, Any]:
    """Fit log(core-seconds of a step) = a + p log(size / 1e6) by least squares."""
    size = np.log([run["size"] / 1e6 for run in runs])
    cost = np.log([run["core_seconds"] / run["n_scf"] for run in runs])
    exponent, constant = np.polyfit(size, cost, 1)
    n_scf = float(np.median([run["n_scf"] for run in runs]))
    whole = np.log([run["core_seconds"] for run in runs])
    away = np.abs(whole - (constant + exponent * size + np.log(n_scf)))
    return {
        "seconds": round(float(np.exp(constant)), 4),
        "exponent": round(float(exponent), 4),
        "n_scf": n_scf,
        "spread": round(float(np.exp(np.quantile(away, 2 / 3))), 2),
        "machine": machine,
    }


def main() -> None:
    """Read the runs, fit, write the model beside what it was fitted on."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=Path, nargs="+", required=True, help="their --outdir")
    parser.add_argument("--machine", required=True, help="what they ran on, in words")
    parser.add_argument("--output", type=Path, required=True, help="JSON to write")
    args = parser.parse_args()
    runs = [run for outdir in args.runs for run in measured(outdir)]
    if len(runs) < LEAST_RUNS:
        raise ConfigError(f"{len(runs)} converged relaxation(s); {LEAST_RUNS} are the least to fit")
    runs.sort(key=lambda run: run["size"])
    write_json(args.output, {"model": fit(runs, args.machine), "runs": runs})
    print(f"{len(runs)} relaxations: {fit(runs, args.machine)}")


if __name__ == "__main__":
    run_command(main)
