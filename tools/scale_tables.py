#!/usr/bin/env python3
"""Make the tables of docs/scale.md from the JSON of tools/measure_scale.py.

The first table has each measure by the number of structures, and its slope. The second one is the
plan for many: what grows with the number comes from the slopes, the core-seconds and bytes of a
structure from a run with the default settings, because the measured runs have tiny ones.
"""

import argparse
from pathlib import Path
from typing import Any

from measure_scale import flat, stages_of, usage

from xtalfill.core.errors import run_command
from xtalfill.core.io import read_json, write_json

MB, GB = 1e6, 1e9
STAGES = ("CHECK", "INPAINT", "RELAX", "SELECT", "EVALUATE", "STORE", "COLLECT", "REPORT")
# Name of a fit of measure_scale.py -> label, divisor, decimals.
MEASURES = {
    "cpu_seconds": ("core-seconds, all", 1.0, 0),
    "head.cpu_seconds": ("core-seconds of Nextflow", 1.0, 0),
    "head.peak_rss": ("memory of Nextflow, MB", MB, 0),
    **{f"stages.{name}.peak_rss": (f"memory of {name}, MB", MB, 0) for name in STAGES},
    "folders.results.inodes": ("files and folders of the results", 1.0, 0),
    "folders.results.bytes": ("results, MB", MB, 0),
    "files.report.html": ("of it report.html, MB", MB, 1),
    "folders.work.inodes": ("files and folders of `work`", 1.0, 0),
    "folders.work.bytes": ("`work`, MB", MB, 0),
    "folders.results.db.bytes": ("results database, MB", MB, 1),
}
COMMANDS = [
    "python tools/measure_scale.py --data mp_le40.h5 --numbers 1000 3000 10000 \\",
    "    --folder scale --output docs/benchmarks/data/raw/scale.json",
    "nextflow run main.nf --input bench100.extxyz --references bench100.extxyz \\",
    "    --remove_existing --mlip_rank nequix-oam-1 --batch_size 10 --relax_cpus 1 \\",
    "    --database real.db --outdir real",
    "python tools/scale_tables.py docs/benchmarks/data/raw/scale.json --outdir real \\",
    "    --work work --database real.db --tables docs/benchmarks/data",
]
PRICE = 0.02
SUBMITTED = 25  # jobs in a minute, conf/slurm.config


def measured_table(content: dict[str, Any]) -> dict[str, Any]:
    """Return the JSON of the table of measures."""
    runs = [flat(run) for run in content["runs"]]
    columns = [
        {"key": f"n{run['structures']:.0f}", "title": f"{run['structures']:,.0f}"} for run in runs
    ]
    columns += [{"key": "slope", "title": "for 1,000 more"}]
    columns += [{"key": "deviation", "title": "farthest from the line", "unit": "%", "digits": 0}]
    rows = []
    for name, (label, unit, digits) in MEASURES.items():
        cells: dict[str, Any] = {
            f"n{run['structures']:.0f}": {"value": run[name] / unit, "digits": digits}
            for run in runs
        }
        fit = content["fits"][name]
        slope = {"value": 1000 * fit["slope"] / unit, "digits": digits + 1}
        cells |= {"slope": slope, "deviation": 100 * fit["deviation"]}
        rows.append({"key": name, "label": label, "cells": cells})
    title = "Runs with tiny settings, by the number of structures"
    return _table(title, int(runs[-1]["structures"]), columns, rows)


def plan_table(
    content: dict[str, Any], real: dict[str, float], *, structures: int, parts: int, cores: int
) -> dict[str, Any]:
    """Return the JSON of the plan.

    Args:
        content: Of tools/measure_scale.py.
        real: Core-seconds, and bytes of results, `work` and database, of one structure.
        structures: How many are to be filled.
        parts: Number of runs that they are divided into.
        cores: Of the cluster.
    """
    fits, each = content["fits"], structures / parts

    def at(name: str) -> float:
        """Return a measure of one part, by its line."""
        return fits[name]["intercept"] + fits[name]["slope"] * each

    # STORE runs on the host of Nextflow.
    tasks = parts * sum(at(f"stages.{name}.tasks") for name in STAGES if name != "STORE")
    hours = real["core_seconds"] * structures / 3600
    rows = [
        ("runs", parts, 0),
        ("jobs", tasks, 0),
        ("days until the last job is submitted", tasks / SUBMITTED / 60 / 24, 1),
        ("core-hours", hours, 0),
        (f"days on {cores:,} cores", hours / cores / 24, 1),
        (f"cost at {PRICE} € for a core-hour, an assumption, €", hours * PRICE, 0),
        ("memory of Nextflow, GB", at("head.peak_rss") / GB, 1),
        ("memory of CHECK, GB", at("stages.CHECK.peak_rss") / GB, 1),
        ("memory of COLLECT, GB", at("stages.COLLECT.peak_rss") / GB, 1),
        ("memory of REPORT, GB", at("stages.REPORT.peak_rss") / GB, 1),
        ("files and folders of the results, 10⁶", parts * at("folders.results.inodes") / 1e6, 1),
        ("results, GB", structures * real["results"] / GB, 0),
        ("files and folders of `work`, 10⁶", parts * at("folders.work.inodes") / 1e6, 1),
        ("`work`, GB", structures * real["work"] / GB, 0),
        ("results database, GB", structures * real["database"] / GB, 1),
    ]
    cells = [
        {"key": label, "label": label, "cells": {"plan": {"value": number, "digits": digits}}}
        for label, number, digits in rows
    ]
    columns = [{"key": "plan", "title": f"{structures:,} structures"}]
    return _table(f"What {structures:,} structures take", structures, columns, cells)


def real_costs(outdir: Path, work: Path, database: Path) -> dict[str, float]:
    """Return what one structure took in a finished run with the default settings."""
    number = len(read_json(outdir / "pipeline_info" / "check.json")["structures"])
    stages = stages_of(outdir / "pipeline_info" / "trace.txt")
    sizes = {"results": outdir, "work": work, "database": database}
    found = {name: usage(path)["bytes"] / number for name, path in sizes.items()}
    return found | {"core_seconds": sum(one["core_seconds"] for one in stages.values()) / number}


def _table(
    title: str, crystals: int, columns: list[dict[str, Any]], rows: list[dict[str, Any]]
) -> dict[str, Any]:
    return {
        "title": title, "crystals": crystals, "commands": COMMANDS, "label": "measure",
        "columns": columns, "rows": rows,
    }  # fmt: skip


def main() -> None:
    """Write scale.json and scale_plan.json."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("measures", type=Path, help="JSON of tools/measure_scale.py")
    parser.add_argument("--outdir", type=Path, required=True, help="of a run with the defaults")
    parser.add_argument("--work", type=Path, required=True, help="its work folder")
    parser.add_argument("--database", type=Path, required=True, help="its results database")
    parser.add_argument("--structures", type=int, default=1_000_000)
    parser.add_argument("--parts", type=int, default=20, help="runs")
    parser.add_argument("--cores", type=int, default=1000)
    parser.add_argument("--tables", type=Path, required=True, help="folder of the tables")
    args = parser.parse_args()
    content = read_json(args.measures)
    real = real_costs(args.outdir, args.work, args.database)
    plan = plan_table(content, real, structures=args.structures, parts=args.parts, cores=args.cores)
    write_json(args.tables / "scale.json", measured_table(content))
    write_json(args.tables / "scale_plan.json", plan)


if __name__ == "__main__":
    run_command(main)
