"""Compare several runs on the structures that they have in common.

A sweep over a parameter (steps, snr, predictor) takes one run for each value. The runs are
compared like the methods within one run, with paired tests.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from xtalfill.core.errors import InputError
from xtalfill.results.summary import OUTCOMES, Judged, judge, judge_together, paired_tests, success
from xtalfill.results.tables import read_tables


def compare_runs(runs: dict[str, Path]) -> dict[str, Any]:
    """Compare the methods of several runs on their common structures.

    Args:
        runs: Label -> the --outdir of a finished run. A run with several methods appears once
            for each method, as "label:method", and once with the candidates of all, "label:all".

    Returns:
        Plain JSON values: `n_structures`, `methods` (label -> rates) and `paired_tests`.

    Raises:
        InputError: A folder is not a finished run, or no structure with a reference is in all runs.
    """
    judged: dict[str, list[Judged]] = {}
    for label, outdir in runs.items():
        found = _judged_run(outdir)
        for method, structures in found.items():
            judged[label if len(found) == 1 else f"{label}:{method}"] = structures
    shared = set.intersection(*({s.id for s in structures} for structures in judged.values()))
    if not shared:
        raise InputError(
            f"{', '.join(map(str, runs.values()))}: no structure with a reference is in all runs; "
            "give runs of the same --input and --references"
        )
    judged = {
        label: [s for s in structures if s.id in shared] for label, structures in judged.items()
    }
    return {
        "n_structures": len(shared),
        "methods": {
            label: success(structures, max(len(s.energy) for s in structures))
            for label, structures in judged.items()
        },
        "paired_tests": paired_tests(judged),
    }


def _judged_run(outdir: Path) -> dict[str, list[Judged]]:
    check, batches = outdir / "pipeline_info" / "check.json", sorted(outdir.glob("batches/*.h5"))
    if not check.is_file() or not batches:
        raise InputError(f"{outdir}: not the --outdir of a finished run (no check.json or batches)")
    tables = read_tables(check, batches)
    found = judge(tables)
    return found if len(found) == 1 else found | {"all": judge_together(tables)}


def markdown(comparison: dict[str, Any]) -> str:
    """Return a comparison as Markdown: a table of rates in percent and the paired tests."""
    k = min(len(method["les"]["k"]) for method in comparison["methods"].values())
    lines = [
        f"{comparison['n_structures']} structures; percent, 95 % interval over structures.",
        "",
        f"| run | matched before relaxation | matched | LES | matched, best of {k} "
        f"| LES, best of {k} |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for label, method in comparison["methods"].items():
        rates = [method["matched_inpaint"]["single"], *(method[o]["single"] for o in OUTCOMES)]
        rates += [
            {end: method[o]["best_of_k"][end][k - 1] for end in ("mean", "low", "high")}
            for o in OUTCOMES
        ]
        lines.append(f"| {label} | {' | '.join(map(_percent, rates))} |")
    lines += ["", *map(_paired_line, comparison["paired_tests"])]
    return "\n".join(lines) + "\n"


def _paired_line(test: dict[str, Any]) -> str:
    first, second = (f"{test[name]} alone {test[f'only_{name}']}" for name in ("first", "second"))
    return (
        f"- {test['outcome']}, selected candidates: {first}, {second}, "
        f"McNemar p = {test['p_value']:.2g}"
    )


def _percent(rate: dict[str, float]) -> str:
    return f"{100 * rate['mean']:.1f} ({100 * rate['low']:.1f}–{100 * rate['high']:.1f})"
