"""The checks of a batch: the lowest candidate of every distinct minimum."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import numpy as np

from xtalfill.checks.answer import HOST_DRIFT, Checks, check_answer
from xtalfill.checks.symmetry import SYMMETRY_TOLERANCE
from xtalfill.core.batch import Batch, Stage
from xtalfill.core.record import package_versions
from xtalfill.core.relaxations import final_stage
from xtalfill.core.text import one_line

STAGE = "checks"
# Names of the numbers; an integer that is not known is NaN, too.
_NUMBERS = frozenset(
    item.name for item in fields(Checks) if str(item.type) in ("float", "int", "int | None")
)
# Errors of the libraries on unusual crystals; LinAlgError is a ValueError.
_ERRORS = (ArithmeticError, LookupError, RuntimeError, TypeError, ValueError)


def check_batch(batch: Batch) -> Stage:
    """Check the lowest candidate of every minimum of each structure and method.

    Args:
        batch: A batch after SELECT.

    Returns:
        The stage: an array for each field of `Checks`, empty or NaN for the other candidates.

    Raises:
        InputError: The batch has not been relaxed.
    """
    relaxed = final_stage(batch)
    arrays: dict[str, np.ndarray] = {
        item.name: np.full(batch.n_systems, np.nan)
        if item.name in _NUMBERS
        else np.full(batch.n_systems, "", dtype=object)
        for item in fields(Checks)
    }
    for index in _lowest(batch):
        for name, value in checks_of(batch, index, relaxed).items():
            arrays[name][index] = np.nan if value is None else value
    attrs = {
        "relaxed": relaxed,
        "symmetry_tolerance": SYMMETRY_TOLERANCE,
        "host_drift": HOST_DRIFT,
        "versions": package_versions(("pymatgen", "spglib", "ase", "numpy")),
    }
    return Stage(arrays, attrs)


def _lowest(batch: Batch) -> list[int]:
    """Return the lowest candidate of each minimum of a structure and method."""
    select = batch.stages["select"].arrays
    found = []
    for members in batch.groups_by_method():
        seen: set[int] = set()
        for index in sorted(members, key=lambda i: select["rank"][i]):
            minimum = int(select["minimum"][index])
            if minimum >= 0 and minimum not in seen:
                seen.add(minimum)
                found.append(index)
    return found


def checks_of(batch: Batch, index: int, relaxed: str) -> dict[str, Any]:
    """Return the checks of a candidate after a relaxation; only a warning if a library fails."""
    here = batch.atoms_slice(index)
    is_host = batch.is_host[here]
    try:
        checks = check_answer(
            batch.to_ase(index, stage=relaxed), is_host, given=batch.positions[here][is_host]
        )
    except _ERRORS as error:
        return {"warnings": f"could not be checked ({one_line(error)})"}
    return vars(checks)
