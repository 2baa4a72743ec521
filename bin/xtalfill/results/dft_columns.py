"""The columns "dft_..." of the result tables, read from the stages dft and evaluate of a batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from xtalfill.core.batch import Batch

_STAGE = "dft"
_STRUCTURE_COLUMNS = (
    "dft_status",
    "dft_energy",
    "dft_matched",
    "dft_les",
    "dft_rmsd",
    "dft_energy_above_reference",
    "dft_fmax_start",
    "dft_shift_host",
    "dft_shift_filled",
)


class Row(Protocol):
    """What is looked at of a row of candidates.csv."""

    @property
    def selected(self) -> bool:
        """Whether the potential put it first."""

    @property
    def sample(self) -> int:
        """Number of the candidate."""

    @property
    def dft_status(self) -> str:
        """What became of it in pw.x; empty when it was not sent."""

    @property
    def dft_rank(self) -> int | None:
        """Its place by DFT energy."""


def candidate_columns(batch: Batch, index: int) -> dict[str, Any]:
    """Return the columns of a candidate; none where it was not sent."""
    if _STAGE not in batch.stages or not batch.stages[_STAGE].arrays["status"][index]:
        return {}
    dft, judged = batch.stages[_STAGE].arrays, batch.stages["evaluate"].arrays
    compared = bool(judged["dft_has_reference"][index])
    rank = int(judged["dft_rank"][index])
    flags = {
        name: bool(judged[name][index]) if compared else None for name in ("dft_matched", "dft_les")
    }
    return {
        "dft_status": str(dft["status"][index]),
        "dft_energy": float(dft["energy"][index]),
        "dft_rank": rank if rank >= 0 else None,
        **flags,
        "dft_rmsd": float(judged["dft_rmsd"][index]),
        "dft_energy_above_reference": float(judged["dft_energy_above_reference"][index]),
        "dft_fmax_start": float(dft["fmax_start"][index]),
        "dft_shift_host": float(dft["symmetry_shift_host"][index]),
        "dft_shift_filled": float(dft["symmetry_shift_filled"][index]),
        "dft_n_attempts": int(dft["n_attempts"][index]),
    }


def dft_failure(batch: Batch, index: int) -> tuple[str, str] | None:
    """Return status and message of a system that pw.x could not relax, else None."""
    if _STAGE not in batch.stages:
        return None
    dft, judged = batch.stages[_STAGE].arrays, batch.stages["evaluate"].arrays
    status, message = str(dft["status"][index]), str(dft["message"][index])
    if status in ("refused", "failed", "unconverged"):
        return ("failed" if status == "refused" else status), message
    message = str(judged["dft_evaluate_message"][index])
    return (str(batch.status[index]), message) if message else None


def structure_columns(members: Sequence[Row]) -> dict[str, Any]:
    """Return the columns of a structure and method: those of its lowest candidate by DFT.

    Args:
        members: Its candidates.
    """
    sent = [row for row in members if row.dft_status]
    if not sent:
        return {}
    ranked = sorted((r for r in sent if r.dft_rank is not None), key=lambda r: r.dft_rank or 0)
    if not ranked:
        return {"dft_status": sent[0].dft_status}
    columns = {name: getattr(ranked[0], name) for name in _STRUCTURE_COLUMNS}
    agrees = ranked[0].selected if len(ranked) > 1 else None
    return columns | {"dft_sample": ranked[0].sample, "dft_agrees": agrees}
