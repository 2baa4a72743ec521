"""Compare candidates and references after relaxation with pw.x: EVALUATE with --validate.

Both are relaxed at the same level of theory from their minima of the interatomic potential. The
comparison shows whether a match or an energy difference holds at the DFT level.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from xtalfill.core.batch import Batch
from xtalfill.dft.gather import STAGE
from xtalfill.evaluate.match import MATCHER_ERRORS, Filled, compare, filled, same_composition


def evaluate_dft(batch: Batch) -> dict[str, np.ndarray]:
    """Return the arrays "dft_..." of the stage evaluate; docs/evaluation.md defines them.

    Args:
        batch: A batch with the stage "dft".
    """
    n = batch.n_systems
    arrays: dict[str, np.ndarray] = {
        name: np.zeros(n, dtype=np.bool_)
        for name in ("dft_has_reference", "dft_matched", "dft_les", "dft_host_matched")
    }
    arrays |= {name: np.full(n, np.nan) for name in ("dft_rmsd", "dft_energy_above_reference")}
    arrays["dft_rank"] = np.full(n, -1, dtype=np.int32)
    arrays["dft_evaluate_message"] = np.full(n, "", dtype=object)
    for members in batch.groups_by_method():
        for rank, index in enumerate(_order(batch, members)):
            arrays["dft_rank"][index] = rank
        reference = batch.reference_of(batch.id[members[0]])
        if reference is None or not batch.stages[STAGE].arrays["converged"][reference]:
            continue
        true = filled(batch, reference, stage=STAGE)
        for index in members:
            if batch.stages[STAGE].arrays["converged"][index]:
                _compare_relaxed(batch, index, reference, true, arrays)
    return arrays


def _order(batch: Batch, members: Sequence[int]) -> list[int]:
    """Return the candidates with a DFT energy: converged ones first, then by energy."""
    dft = batch.stages[STAGE].arrays
    usable = [index for index in members if np.isfinite(dft["energy"][index])]
    return sorted(
        usable,
        key=lambda i: (not dft["converged"][i], dft["energy"][i], batch.sample[i]),
    )


def _compare_relaxed(
    batch: Batch, index: int, reference: int, true: Filled, arrays: dict[str, np.ndarray]
) -> None:
    ours = filled(batch, index, stage=STAGE)
    if not same_composition(ours.atoms, true.atoms):
        return
    arrays["dft_has_reference"][index] = True
    energy = batch.stages[STAGE].arrays["energy"]
    above = float(energy[index] / len(ours.atoms) - energy[reference] / len(true.atoms))
    arrays["dft_energy_above_reference"][index] = above
    arrays["dft_les"][index] = above < 0
    try:
        found = compare(ours, true)
    except MATCHER_ERRORS as error:
        arrays["dft_evaluate_message"][index] = " ".join(
            f"evaluate: StructureMatcher failed after DFT ({error})".split()
        )
        return
    arrays["dft_matched"][index] = found.matched
    arrays["dft_host_matched"][index] = found.host_matched
    arrays["dft_les"][index] = found.matched or above < 0
    arrays["dft_rmsd"][index] = found.rmsd
