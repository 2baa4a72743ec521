"""The names of the relaxations a system goes through, and which of them has the last word."""

from __future__ import annotations

from xtalfill.core.batch import Batch
from xtalfill.core.errors import InputError

SITES = "relax_sites"
POSITIONS = "relax_positions"
RANK = "relax_rank"  # only with --mlip_rank
ENERGY_WINDOW = 0.002  # eV per atom; relaxed to 0.05 eV/Angstrom, equal minima agree better
RELAXATIONS = (SITES, POSITIONS, RANK)  # in the order they run


def final_stage(batch: Batch) -> str:
    """Return the relaxation whose crystals and energies count: the last one that was run.

    Raises:
        InputError: The batch has not been relaxed.
    """
    for name in (RANK, POSITIONS):
        if name in batch.stages:
            return name
    raise InputError(f"the batch has no stage '{POSITIONS}'; run RELAX on it first")


def merged_with(batch: Batch, index: int) -> int | None:
    """Return the sample whose result a candidate took over last, if it did."""
    for name in reversed(RELAXATIONS):
        arrays = batch.stages[name].arrays if name in batch.stages else {}
        if "merged_with" in arrays and arrays["merged_with"][index] >= 0:
            return int(arrays["merged_with"][index])
    return None
