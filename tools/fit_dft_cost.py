#!/usr/bin/env python3
"""Fit the cost models of PLAN_DFT and PLAN_POTENTIAL (assets/dft_cost.json) on finished runs.

A kind of which there are too few runs keeps the model that --output has.
"""

import argparse
import gzip
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from xtalfill.core.errors import ConfigError, run_command
from xtalfill.core.io import write_json
from xtalfill.dft.xmlfile import DataFile, read_data_file
from xtalfill.results.tables import read_json

LEAST_RUNS = 5


def relaxations(outdir: Path) -> list[list[Path]]:
    """Return the data files of the relaxations with --validate, each by itself."""
    return [[path] for path in sorted(outdir.glob("dft/*/pw.*.xml.gz"))]


def hosts(outdir: Path) -> list[list[Path]]:
    """Return the data files of the hosts of the method potential, all of a host together."""
    folders = sorted(path for path in outdir.glob("potential/*") if path.is_dir())
    return [sorted(folder.glob("*/pw.*.xml.gz")) for folder in folders]


KINDS = {"relaxation": relaxations, "host": hosts}


def read_packed(path: Path) -> DataFile:
    """Read a data file that is compressed."""
    with tempfile.TemporaryDirectory() as scratch:
        unpacked = Path(scratch, "pwscf.xml")
        unpacked.write_bytes(gzip.decompress(path.read_bytes()))
        return read_data_file(unpacked)


def measured(kind: str, outdir: Path) -> list[dict[str, Any]]:
    """Return size and cost of what converged, from the data files it left.

    The size is that of the first calculation. What pp.x takes is not told by these files.
    """
    found = []
    for paths in KINDS[kind](outdir):
        data = [read_packed(path) for path in paths]
        if data and (kind == "host" or all(one.relaxed for one in data)):
            found.append(
                {
                    "size": data[0].n_kpoints * data[0].n_bands * data[0].n_waves,
                    "n_scf": sum(step.n_scf for one in data for step in one.steps),
                    "core_seconds": round(sum(one.core_seconds for one in data), 1),
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
    parser.add_argument("--output", type=Path, required=True, help="JSON to write or add to")
    args = parser.parse_args()
    before = read_json(args.output) if args.output.is_file() else {}
    fitted: dict[str, Any] = {}
    for kind in KINDS:
        runs = [run for outdir in args.runs for run in measured(kind, outdir)]
        if len(runs) < LEAST_RUNS:
            print(f"{kind}: {len(runs)} converged; {LEAST_RUNS} are the least to fit")
            continue
        runs.sort(key=lambda run: run["size"])
        fitted[kind] = {"model": fit(runs, args.machine), "runs": runs}
        print(f"{kind}: {len(runs)} converged; {fitted[kind]['model']}")
    if not fitted:
        raise ConfigError(f"too few runs of any kind; {LEAST_RUNS} are the least to fit")
    write_json(args.output, before | fitted)


if __name__ == "__main__":
    run_command(main)
