"""Recorded energies and forces of Nequix's own jax code."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from xtalfill.core.crystal import Crystal
from xtalfill.relax.interface import Evaluation

FIXTURES = Path(__file__).resolve().parents[1] / "fixtures" / "nequix"
TINY = FIXTURES / "tiny.nqx"


@dataclass(frozen=True)
class Recorded:
    """Crystals and, for each, the energy and forces that were recorded."""

    crystals: list[Crystal]
    expected: list[Evaluation]


def recorded(file: str, suffix: str = "") -> Recorded:
    """Read a file of the fixtures; `suffix` is the name of the model, if there are several."""
    with np.load(FIXTURES / file, allow_pickle=False) as data:
        bounds = np.cumsum(data["counts"])[:-1]
        numbers = np.split(data["numbers"], bounds)
        positions = np.split(data["positions"], bounds)
        forces = np.split(data[f"forces{suffix}"], bounds)
        cells, energies = data["cells"], data[f"energies{suffix}"]
    return Recorded(
        [Crystal(*one) for one in zip(numbers, positions, cells, strict=True)],
        [Evaluation(float(e), f) for e, f in zip(energies, forces, strict=True)],
    )
