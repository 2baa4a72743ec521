#!/usr/bin/env python3
"""Compare the candidates that two potentials select in a run with --mlip_rank.

Energies before relax_rank are those of --mlip, energies after it those of --mlip_rank. For each
structure and potential the candidate of lowest energy is evaluated: does it match the reference,
or is it lower in energy than the reference with the same potential?
"""

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from xtalfill.core.batch import REFERENCE, Batch, read_batch
from xtalfill.evaluate.metrics import rate_interval, won_lost

STAGES = ("relax_positions", "relax_rank")


@dataclass(frozen=True)
class Choice:
    """The candidate of lowest energy of a structure, by one potential.

    Attributes:
        matched: Whether it matches the reference.
        les: Whether it matches, or is lower in energy than the reference.
    """

    matched: bool
    les: bool


def choices(batch: Batch, stage: str, samples: int) -> list[Choice]:
    """Return the choice for each structure with a reference, by the energies of a stage."""
    sizes = np.bincount(batch.system_idx)  # the reference may have another cell
    energy = batch.stages[stage].arrays["energy"] / sizes
    matched = batch.stages["evaluate"].arrays["matched"]
    reference = {
        batch.id[i]: energy[i] for i in range(len(batch.id)) if batch.method[i] == REFERENCE
    }
    found = []
    for members in batch.groups_by_method():
        if batch.method[members[0]] == REFERENCE or batch.id[members[0]] not in reference:
            continue
        sound = [i for i in members if batch.sample[i] < samples and np.isfinite(energy[i])]
        if not sound:
            found.append(Choice(matched=False, les=False))
            continue
        best = min(sound, key=lambda i: energy[i])
        hit = bool(matched[best])
        found.append(Choice(hit, hit or bool(energy[best] < reference[batch.id[best]])))
    return found


def main() -> None:
    """Print the rates for each potential, then the paired test."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path, help="output folder of a run with --mlip_rank")
    parser.add_argument("--samples", type=int, default=10, help="candidates to choose from")
    args = parser.parse_args()
    batches = [read_batch(path) for path in sorted((args.run / "batches").glob("*.h5"))]
    by_stage = [[c for b in batches for c in choices(b, s, args.samples)] for s in STAGES]
    for measure in ("matched", "les"):
        rows = [np.array([getattr(c, measure) for c in found]) for found in by_stage]
        for stage, row in zip(STAGES, rows, strict=True):
            low, high = rate_interval(row.astype(float), generator=np.random.default_rng(0))
            interval = f"{100 * row.mean():.1f} % ({100 * low:.1f}–{100 * high:.1f})"
            print(f"{measure}, lowest by {stage}: {interval} of {len(row)}")
        before, after = rows
        print(f"{measure}: relax_rank won : lost {won_lost(after, before)}")


if __name__ == "__main__":
    main()
