"""One sentence about a selected crystal, for the paper that uses it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from xtalfill import __version__
from xtalfill.core.relaxations import POSITIONS, RANK
from xtalfill.registry.documentation import POTENTIAL_TEXTS
from xtalfill.registry.potentials import short_name
from xtalfill.results.candidates import CandidateRow
from xtalfill.results.citations import citations
from xtalfill.results.confidence import Confidence, odds_text

_METHOD_KEY = "reents2026"


def sentence(
    selected: CandidateRow,
    candidates: Sequence[CandidateRow],
    stages: dict[str, dict[str, Any]],
    *,
    dft_agrees: bool | None = None,
    odds: Confidence | None = None,
) -> str:
    """Return how a crystal was found, with method, potential, settings, odds and citations.

    Args:
        selected: The selected candidate.
        candidates: All of its structure and method.
        stages: Name of a stage -> its parameters, as in the batch.
        dft_agrees: Whether it is also the lowest by DFT; None without such a comparison.
        odds: Of the selected candidate; told where they are calibrated.

    Returns:
        Empty if the batch does not tell the potential.
    """
    relaxed = stages.get(RANK) or stages.get(POSITIONS) or {}
    if "mlip" not in relaxed:
        return ""
    one = selected.n_missing == 1
    sites = f"{selected.element} site" if one else f"{selected.n_missing} {selected.element} sites"
    text = (
        f"The {sites} per cell of {selected.formula} {'was' if one else 'were'} determined with "
        f"xtalfill {__version__} ({_methods(selected, candidates)}, {_number(candidates)}, "
        f"seed {selected.seed}; {_cited([_METHOD_KEY])}) by "
        f"relaxation of all positions in the fixed cell with the {_potentials(stages)} to forces "
        f"below {relaxed['fmax']:g} eV/Å; the crystal of lowest energy{_group(selected)} "
        f"{_found(selected, candidates)}"
    )
    if dft_agrees is not None:
        text += f" and is {'also' if dft_agrees else 'not'} the lowest by DFT"
    told = "" if odds is None else odds_text(odds)
    return f"{text}; {told}." if told else f"{text}."


def potential_keys(mlip: str) -> tuple[str, ...]:
    """Return what to cite for a potential: by its name, or as a model of its package."""
    nequix = mlip.endswith(".nqx")
    found = POTENTIAL_TEXTS.get(mlip.removesuffix(".nqx").split(".nequip.", maxsplit=1)[0])
    return found.citations if found else ("koker2025",) if nequix else ("tan2026",)


def _potentials(stages: dict[str, dict[str, Any]]) -> str:
    names = [str(stages[name]["mlip"]) for name in (POSITIONS, RANK) if name in stages]
    texts = [
        f"{short_name(name)} ({_cited(potential_keys(name))})" for name in dict.fromkeys(names)
    ]
    return f"potential{'s' if len(texts) > 1 else ''} {' and then '.join(texts)}"


def _methods(selected: CandidateRow, candidates: Sequence[CandidateRow]) -> str:
    """Return what proposed the candidates: a method, or the sources of a mix of methods."""
    *others, last = sorted({row.source or selected.method for row in candidates})
    return f"methods {', '.join(others)} and {last}" if others else f"method {last}"


def _cited(keys: Sequence[str]) -> str:
    works = citations()
    return "; ".join(f"{works[key].label}, {works[key].url}" for key in keys)


def _group(selected: CandidateRow) -> str:
    return f", space group {selected.space_group}," if selected.space_group else ""


def _number(candidates: Sequence[CandidateRow]) -> str:
    return "1 candidate" if len(candidates) == 1 else f"{len(candidates)} candidates"


def _found(selected: CandidateRow, candidates: Sequence[CandidateRow]) -> str:
    """Return how often the crystal was found, and how far it is below the next."""
    times = sum(row.minimum == selected.minimum for row in candidates)
    text = f"was reached by {times} of {_number(candidates)}"
    minima = len({row.minimum for row in candidates if row.minimum >= 0})
    if math.isnan(selected.energy_gap):
        return f"{text}, as the only minimum" if minima == 1 else text
    gap = 1000 * selected.energy_gap / selected.n_atoms
    return f"{text} and lies {gap:.1f} meV/atom below the next of {minima} distinct minima"
