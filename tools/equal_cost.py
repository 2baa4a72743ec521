#!/usr/bin/env python3
"""Compare proposal methods with one candidate and at equal CPU time.

Each method has its own run on the same crystals, the first one with one candidate for each crystal.
The cost of a candidate is the CPU time of INPAINT, RELAX and, for the method potential, pw.x and
pp.x. The references are relaxed in the same tasks; each is counted as one candidate.
"""

import argparse
import csv
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from xtalfill.core.batch import read_batch
from xtalfill.core.errors import InputError, run_command
from xtalfill.core.io import read_json
from xtalfill.evaluate.metrics import best_of_k, mcnemar, rate_interval
from xtalfill.results.summary import BOOTSTRAP_SEED, Judged, judge
from xtalfill.results.tables import read_tables

OUTCOMES = ("matched", "les")
UNITS = {"ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
PART = re.compile(r"([0-9.]+)(ms|s|m|h|d)\b")


@dataclass(frozen=True)
class Run:
    """A finished run of one method.

    Attributes:
        label: Name in the table.
        judged: Id -> evaluated candidates of the crystal.
        seconds: CPU time of a candidate, s.
        pinball: Ids of the crystals for which the method potential selected among sites.
    """

    label: str
    judged: dict[str, Judged]
    seconds: float
    pinball: frozenset[str]


def cpu_seconds(outdir: Path) -> tuple[float, float]:
    """Return the CPU times of INPAINT including pw.x and pp.x, and of RELAX, in seconds."""
    used = {"INPAINT": 0.0, "RELAX": 0.0}
    with (outdir / "pipeline_info" / "trace.txt").open(encoding="utf-8") as file:
        for row in csv.DictReader(file, delimiter="\t"):
            name = row["name"].split(" ")[0]
            if name in used:
                used[name] += float(row["%cpu"].rstrip("%")) / 100 * duration(row["realtime"])
    stages = read_json(outdir / "provenance.json")["stages"]
    tasks = [one for stage in stages if stage["stage"] == "place_potential"
             for one in stage["parameters"]]  # fmt: skip
    dft = sum(run["cpu_seconds"] for task in tasks for run in task["runs"])
    return used["INPAINT"] + dft, used["RELAX"]


def duration(text: str) -> float:
    """Return a duration in Nextflow's format, e.g. "1h 2m 3.4s", in seconds."""
    return sum(float(number) * UNITS[unit] for number, unit in PART.findall(text))


def read_run(label: str, outdir: Path) -> Run:
    """Read a run.

    Raises:
        InputError: The run has more than one method.
    """
    batches = sorted(outdir.glob("batches/*.h5"))
    found = judge(read_tables(outdir / "pipeline_info" / "check.json", batches))
    if len(found) != 1:
        raise InputError(f"{outdir}: has {len(found)} methods; give runs of one method each")
    judged = {one.id: one for structures in found.values() for one in structures}
    n_candidates = sum(len(one.energy) for one in judged.values())
    before, relax = cpu_seconds(outdir)
    seconds = before / n_candidates + relax / (n_candidates + len(judged))
    pinball: set[str] = set()
    for batch in map(read_batch, batches):
        if "pinball" in batch.stages["inpaint"].arrays:
            pinball |= set(batch.id[batch.stages["inpaint"].arrays["pinball"]].tolist())
    return Run(label, judged, seconds, frozenset(pinball))


def rate(values: list[float]) -> str:
    """Return mean and interval in percent."""
    numbers = np.array(values)
    low, high = rate_interval(numbers, generator=np.random.default_rng(BOOTSTRAP_SEED))
    return f"{100 * numbers.mean():.0f} % ({100 * low:.0f}–{100 * high:.0f})"


def first_lowest(one: Judged, outcome: str, k: int) -> bool:
    """Return whether the candidate of lowest energy among the first k is a success."""
    energy = one.energy[:k]
    return bool(np.isfinite(energy).any() and one.outcome[outcome][:k][int(np.nanargmin(energy))])


def paired(run: Run, first: Run, ids: list[str], outcome: str, k: int) -> str:
    """Return wins and losses against the first run, and the exact p-value."""
    test = mcnemar(
        np.array([first_lowest(run.judged[name], outcome, k) for name in ids]),
        np.array([first_lowest(first.judged[name], outcome, 1) for name in ids]),
    )
    return f"{test['only_first']:.0f} : {test['only_second']:.0f}, p = {test['p_value']:.2g}"


def table(runs: list[Run], ids: list[str]) -> str:
    """Return a Markdown table for a set of crystals."""
    first = runs[0]
    lines = [
        f"| {len(ids)} crystals | core-minutes a candidate | k at equal cost "
        "| match, one | LES, one | match, k | LES, k | LES, k, against the first |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for run in runs:
        k = max(1, round(first.seconds / run.seconds))
        cells = [run.label, f"{run.seconds / 60:.3f}", str(k)]
        some = [run.judged[name] for name in ids]
        cells += [
            rate([float(best_of_k(one.energy, one.outcome[outcome], [draws])[0]) for one in some])
            for draws in (1, k)
            for outcome in OUTCOMES
        ]
        n = max(len(one.energy) for one in run.judged.values())
        cells.append("" if run is first else paired(run, first, ids, "les", min(k, n)))
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", nargs="+", help="LABEL=OUTDIR; the first is the method potential")
    words = [word.split("=", 1) for word in parser.parse_args().runs]
    runs = [read_run(label, Path(outdir)) for label, outdir in words]
    ids = sorted(set.intersection(*(set(run.judged) for run in runs)))
    chosen = set().union(*(run.pinball for run in runs))
    print(table(runs, ids))
    for title, some in (
        ("Without the pinball cases", [name for name in ids if name not in chosen]),
        ("The pinball cases", [name for name in ids if name in chosen]),
    ):
        if some:
            print(f"\n{title}:\n\n{table(runs, some)}")


if __name__ == "__main__":
    run_command(main)
