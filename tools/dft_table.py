#!/usr/bin/env python3
"""Print the results of a run with --validate as a Markdown table: potential and DFT.

One row for each candidate relaxed by pw.x; values after a comma belong to its reference.
"""

import argparse
import gzip
import json
import math
import tempfile
from pathlib import Path

import numpy as np

from xtalfill.core.batch import Batch, read_batch
from xtalfill.core.errors import InputError, run_command
from xtalfill.core.matching import reduced, same_crystal
from xtalfill.dft.gather import STAGE
from xtalfill.dft.xmlfile import read_data_file

HEAD = (
    "crystal",
    "candidate",
    "E − E(ref), potential",
    "E − E(ref), DFT",
    "potential says",
    "DFT says",
    "reference kept",
    "start force",
    "moved",
    "SCF steps",
    "CPU s",
)


def cost(outdir: Path, key: str) -> tuple[int, float]:
    """Return the SCF iterations and core-seconds of a job, summed over its attempts."""
    steps, seconds = 0, 0.0
    with tempfile.TemporaryDirectory() as scratch:
        for packed in sorted((outdir / "dft" / key).glob("pw.*.xml.gz")):
            path = Path(scratch, "pwscf.xml")
            path.write_bytes(gzip.decompress(packed.read_bytes()))
            data = read_data_file(path)
            steps += sum(step.n_scf for step in data.steps)
            seconds += data.core_seconds
    return steps, seconds


def verdict(batch: Batch, index: int, prefix: str) -> str:
    """Return in one word how a candidate compares with its reference.

    Args:
        batch: Batch after EVALUATE.
        index: Candidate.
        prefix: "" for the potential, "dft_" for DFT.
    """
    found = batch.stages["evaluate"].arrays
    if prefix and not batch.stages[STAGE].arrays["converged"][index]:
        return str(batch.stages[STAGE].arrays["status"][index])
    if not found[f"{prefix}has_reference"][index]:
        return "–"
    if found[f"{prefix}matched"][index]:
        return "match"
    return "lower" if found[f"{prefix}energy_above_reference"][index] < 0 else "higher"


def reference_kept(batch: Batch, reference: int) -> str:
    """Return whether the reference after DFT still matches the input."""
    if not batch.stages[STAGE].arrays["converged"][reference]:
        return str(batch.stages[STAGE].arrays["status"][reference])
    given, after = (reduced(batch.to_ase(reference, stage=name)) for name in (None, STAGE))
    return "yes" if same_crystal(given, after) else "no"


def row(outdir: Path, name: str, batch: Batch, index: int) -> tuple[str, ...]:
    """Return the row of a candidate."""
    dft, found = batch.stages[STAGE].arrays, batch.stages["evaluate"].arrays
    reference = batch.reference_of(batch.id[index])
    systems = [index] if reference is None else [index, reference]
    farthest = np.fmax(dft["symmetry_shift_host"], dft["symmetry_shift_filled"])
    spent = [cost(outdir, f"{name}.{dft['calculation'][i]}") for i in systems]
    return (
        f"{batch.id[index]}, {batch.to_ase(index).get_chemical_formula()}",
        f"{batch.method[index]} {batch.sample[index]}",
        _number(1000 * found["energy_above_reference"][index]),
        _number(1000 * found["dft_energy_above_reference"][index]),
        verdict(batch, index, ""),
        verdict(batch, index, "dft_"),
        "–" if reference is None else reference_kept(batch, reference),
        ", ".join(_number(dft["fmax_start"][i], 3) for i in systems),
        ", ".join(_number(farthest[i], 3) for i in systems),
        ", ".join(str(steps) for steps, _ in spent),
        ", ".join(f"{seconds:.0f}" for _, seconds in spent),
    )


def _number(value: float, digits: int = 2) -> str:
    return f"{value:.{digits}f}".replace("-", "−") if math.isfinite(value) else "–"


def main() -> None:
    """Print the table and the counts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", type=Path, required=True, help="its --outdir")
    args = parser.parse_args()
    rows = []
    for path in sorted(args.run.glob("batches/*.h5")):
        batch = read_batch(path)
        if STAGE not in batch.stages:
            raise InputError(f"{path.name}: has no DFT results; run with --validate")
        for members in batch.groups_by_method():
            sent = [i for i in members if batch.stages[STAGE].arrays["status"][i]]
            rows += [row(args.run, path.stem, batch, index) for index in sent]
    for line in (HEAD, ("---",) * len(HEAD), *rows):
        print("| " + " | ".join(line) + " |")
    content = json.loads((args.run / "evaluation.json").read_text(encoding="utf-8"))
    print(json.dumps(content["dft"], indent=1))


if __name__ == "__main__":
    run_command(main)
