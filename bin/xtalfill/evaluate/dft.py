"""Compare candidates and references after relaxation with pw.x: EVALUATE with --validate.

Both are relaxed at the same level of theory from their minima of the interatomic potential. The
comparison shows whether a match or an energy difference holds at the DFT level.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from xtalfill.core.batch import Batch
from xtalfill.dft.gather import STAGE
from xtalfill.evaluate.match import compare_relaxed, filled


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
            if not batch.stages[STAGE].arrays["converged"][index]:
                continue
            found, problem = compare_relaxed(batch, index, reference, true, stage=STAGE)
            if not found:  # another composition, of which the array `message` tells
                continue
            arrays["dft_has_reference"][index] = True
            arrays["dft_evaluate_message"][index] = problem
            for name, value in found.items():
                arrays[f"dft_{name}"][index] = value
    return arrays


def _order(batch: Batch, members: Sequence[int]) -> list[int]:
    """Return the candidates with a DFT energy: converged ones first, then by energy."""
    dft = batch.stages[STAGE].arrays
    usable = [index for index in members if np.isfinite(dft["energy"][index])]
    return sorted(
        usable,
        key=lambda i: (not dft["converged"][i], dft["energy"][i], batch.sample[i]),
    )
