"""Names of the relaxation stages, and which of them gives the final result."""

from __future__ import annotations

from xtalfill.core.batch import Batch
from xtalfill.core.errors import InputError

SITES = "relax_sites"
POSITIONS = "relax_positions"
RANK = "relax_rank"  # only with --mlip_rank
ENERGY_WINDOW = 0.002  # eV per atom; equal minima relaxed to 0.05 eV/Angstrom agree within it
UNDECIDED = -1  # in select/ranking_agrees, which is 1 or 0 otherwise
RELAXATIONS = (SITES, POSITIONS, RANK)  # in order of execution


def final_stage(batch: Batch) -> str:
    """Return the last relaxation of a batch, whose crystals and energies are the result.

    Raises:
        InputError: The batch has not been relaxed.
    """
    for name in (RANK, POSITIONS):
        if name in batch.stages:
            return name
    raise InputError(f"the batch has no stage '{POSITIONS}'; run RELAX on it first")


def merged_with(batch: Batch, index: int) -> int | None:
    """Return the sample whose result was last copied to a candidate, or None."""
    for name in reversed(RELAXATIONS):
        arrays = batch.stages[name].arrays if name in batch.stages else {}
        if "merged_with" in arrays and arrays["merged_with"][index] >= 0:
            return int(arrays["merged_with"][index])
    return None


def ranking_agrees(batch: Batch, index: int) -> bool | None:
    """Return whether both potentials have the same lowest minimum for a candidate's group.

    The group are the candidates of its structure and method. SELECT decides.

    Returns:
        None without `RANK`, or where it cannot be decided.
    """
    arrays = batch.stages["select"].arrays if "select" in batch.stages else {}
    found = int(arrays["ranking_agrees"][index]) if "ranking_agrees" in arrays else UNDECIDED
    return None if found == UNDECIDED else bool(found)
