#!/usr/bin/env python3
"""Fit the cost models of PLAN_DFT and PLAN_POTENTIAL (assets/dft_cost.json) to finished runs.

A kind with too few runs keeps its model in --output.
"""

import argparse
import gzip
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from xtalfill.core.errors import ConfigError, run_command
from xtalfill.core.io import read_json, write_json
from xtalfill.dft.xmlfile import DataFile, read_data_file

LEAST_RUNS = 5


def relaxations(outdir: Path) -> list[list[Path]]:
    """Return the data files of the relaxations of --validate, one for each."""
    return [[path] for path in sorted(outdir.glob("dft/*/pw.*.xml.gz"))]


def hosts(outdir: Path) -> list[list[Path]]:
    """Return the data files of the method potential, a list for each host."""
    folders = sorted(path for path in outdir.glob("potential/*") if path.is_dir())
    return [sorted(folder.glob("*/pw.*.xml.gz")) for folder in folders]


KINDS = {"relaxation": relaxations, "host": hosts}


def read_packed(path: Path) -> DataFile:
    """Read a compressed data file."""
    with tempfile.TemporaryDirectory() as scratch:
        unpacked = Path(scratch, "pwscf.xml")
        unpacked.write_bytes(gzip.decompress(path.read_bytes()))
        return read_data_file(unpacked)


def measured(kind: str, outdir: Path) -> list[dict[str, Any]]:
    """Return size and cost of the converged calculations, from their data files.

    The size is that of the first calculation. The cost does not include pp.x.
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
    """Fit the models and write them with their data."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=Path, nargs="+", required=True, help="--outdir of the runs")
    parser.add_argument("--machine", required=True, help="description of the machine")
    parser.add_argument("--output", type=Path, required=True, help="JSON to write or update")
    args = parser.parse_args()
    before = read_json(args.output) if args.output.is_file() else {}
    fitted: dict[str, Any] = {}
    for kind in KINDS:
        runs = [run for outdir in args.runs for run in measured(kind, outdir)]
        if len(runs) < LEAST_RUNS:
            print(f"{kind}: {len(runs)} converged; the fit needs at least {LEAST_RUNS}")
            continue
        runs.sort(key=lambda run: run["size"])
        fitted[kind] = {"model": fit(runs, args.machine), "runs": runs}
        print(f"{kind}: {len(runs)} converged; {fitted[kind]['model']}")
    if not fitted:
        raise ConfigError(f"too few runs of each kind; the fit needs at least {LEAST_RUNS}")
    write_json(args.output, before | fitted)


if __name__ == "__main__":
    run_command(main)
