#!/usr/bin/env python3
"""Write what a finished run says of each crystal as JSON lines of tools/measure_cover.py.

The run has references. Where it ranked with a second potential, the first one alone judges here, as
in a run without --mlip_rank: candidates and references are those after relax_positions. With
`--ranked` the second one judges.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

from xtalfill.core.batch import Batch, read_batch
from xtalfill.core.errors import InputError, run_command
from xtalfill.core.io import atomic_writer
from xtalfill.core.relaxations import POSITIONS, RANK, final_stage, ranking_agrees
from xtalfill.evaluate.match import evaluate_batch
from xtalfill.registry.mix import host_class

Record = dict[str, Any]


def by_first_potential(batch: Batch) -> Batch:
    """Return the batch as if there had been no relax_rank; the statuses are those before it."""
    batch.stages.pop(RANK, None)
    arrays = batch.stages[POSITIONS].arrays
    finite = np.isfinite(arrays["energy"])
    batch.status[:] = np.where(
        batch.status == "absent",
        "absent",
        np.where(finite & arrays["converged"], "ok", np.where(finite, "unconverged", "failed")),
    )
    return batch


def records_of(batch: Batch) -> list[Record]:
    """Return a record for each structure of a batch, as the last relaxation has it."""
    found, relaxed = evaluate_batch(batch).arrays, final_stage(batch)
    energy = batch.stages[relaxed].arrays["energy"]
    sources = batch.stages["inpaint"].arrays["source"]
    records = []
    for name, members in batch.groups().items():
        here = batch.atoms_slice(members[0])
        numbers, is_host = batch.atomic_numbers[here], batch.is_host[here]
        rows = []
        for i in members:
            above = float(found["energy_above_reference"][i])
            first = float(energy[i]) / len(numbers)
            usable = batch.status[i] == "ok" and np.isfinite(above)
            rows.append(
                {
                    "source": str(sources[i]),
                    "status": str(batch.status[i]),
                    "above": float(f"{above:.4g}") if usable else None,
                    "first": round(first, 6) if np.isfinite(first) else None,
                    "matched": bool(found["matched"][i] and usable),
                    "les": bool(found["les"][i] and usable),
                }
            )
        records.append(
            {
                "id": name,
                "method": str(batch.method[members[0]]),
                "n_atoms": len(numbers),
                "n_sites": int((~is_host).sum()),
                "host_class": host_class(numbers[is_host].tolist()),
                "site_class": str(found["site_class"][members[0]]),
                "usable": bool(found["has_reference"][members].any()),
                "relaxed": relaxed,
                "agrees": ranking_agrees(batch, members[0]) if relaxed == RANK else None,
                "candidates": rows,
            }
        )
    return records


def main() -> None:
    """Write the records of a run, in the order of ids.

    Raises:
        InputError: The folder is not a finished run.
    """
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path, help="--outdir of a finished run")
    parser.add_argument("--ranked", action="store_true", help="the ranking potential judges")
    parser.add_argument("--output", type=Path, required=True, help="JSON lines of the crystals")
    args = parser.parse_args()
    paths = sorted(args.run.glob("batches/*.h5"))
    if not paths:
        raise InputError(f"{args.run}: no finished run (no batches)")
    batches = (read_batch(path) for path in paths)
    judged = batches if args.ranked else (by_first_potential(batch) for batch in batches)
    records = [one for batch in judged for one in records_of(batch)]
    with atomic_writer(args.output) as file:
        for one in sorted(records, key=lambda one: one["id"]):
            file.write(json.dumps(one) + "\n")


if __name__ == "__main__":
    run_command(main)
