"""GATHER_POTENTIAL: add the results for the hosts to the stage inpaint of their batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from xtalfill.core.batch import Batch
from xtalfill.core.errors import InputError
from xtalfill.dft.serialization import JOB_KILLED, check_keys
from xtalfill.proposals.clearance import record_arrays, write_sites
from xtalfill.proposals.dft_potential.job import METHOD, jobs_of

STAGE = "inpaint"


def gather_potential(
    batch: Batch, name: str, plan: Mapping[str, Any], results: Sequence[dict[str, Any]]
) -> None:
    """Fill the candidates of the method potential; a failed candidate gets its reason.

    A job without a result was killed: every other end of its task leaves a result or stops the run.

    Args:
        batch: A batch after INPAINT.
        name: Name of the batch.
        plan: Content of plan.json.
        results: Results from `xtalfill.proposals.dft_potential.job.read_result`.

    Raises:
        InputError: A result belongs to no job of the plan or to another host, or the batch has not
            passed INPAINT.
    """
    if STAGE not in batch.stages:
        raise InputError("the batch has no stage 'inpaint'; run INPAINT on it first")
    refused = {host["key"]: host["refused"] for host in plan["hosts"] if host["refused"]}
    by_key = {result["key"]: result for result in results}
    check_keys(by_key, plan)
    stage = batch.stages[STAGE]
    # Batches of older releases have no record of moved sites.
    stage.arrays = record_arrays(batch.n_systems) | stage.arrays
    jobs, chosen = jobs_of(batch, name), np.zeros(batch.n_systems, dtype=bool)
    for job in jobs:
        rows = np.flatnonzero((batch.id == job.id) & (batch.method == METHOD)).tolist()
        if job.key in refused or job.key not in by_key:
            for index in rows:
                batch.fail(index, f"{STAGE}: {METHOD}: {refused.get(job.key, JOB_KILLED)}")
            continue
        result = by_key[job.key]
        stage.attrs[METHOD] = result["parameters"]
        for index in rows:
            one = result["candidates"][int(batch.sample[index])]
            chosen[index] = one["pinball"]
            _fill(batch, index, one, stage.arrays)
    if jobs:
        stage.arrays["pinball"] = chosen


def _fill(batch: Batch, index: int, one: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
    n_missing = int((~batch.is_host[batch.atoms_slice(index)]).sum())
    sites = one["sites"]
    if sites is None:
        batch.fail(index, f"{STAGE}: {METHOD}: {one['message']}")
    elif sites.shape != (n_missing, 3) or not np.isfinite(sites).all():
        raise InputError(f"{batch.id[index]}: its result belongs to another crystal")
    else:
        write_sites(batch, index, sites, arrays)
