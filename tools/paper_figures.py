#!/usr/bin/env python3
"""Draw the figures of the paper for our own runs of its crystals.

Reads tables of tools/crystals_of_run.py. The panels follow arXiv:2601.01959: energy of the winner
against the reference (Fig. 2c), RMSD of the winners that match (Fig. 2b), success against the
number of candidates (Fig. 4a) and against the size of the cell (Fig. 4b). Bars: solid, match;
hatched, lower in energy without a match; lines, 95 % intervals of LES.
"""

import argparse
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from crystal_table import matches, read_crystals, with_reference
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from xtalfill.core.errors import InputError, run_command
from xtalfill.evaluate.metrics import rate_interval

SEED = 20250101
ENERGIES = (-0.5, 0.2)  # eV/atom, of the panel
SIZES = ((1, 8), (9, 12), (13, 16), (17, 20), (21, 24), (25, 28), (29, 32), (33, 40))  # atoms
MATCH, LOWER = "#1f6f8b", "#99c1cf"


def read_usable(paths: list[Path]) -> pd.DataFrame:
    """Return the crystals of all tables with a usable reference; no result is a failure.

    Raises:
        InputError: No crystal has a reference, or one is in two tables.
    """
    table = with_reference(read_crystals(paths))
    if table.empty:
        raise InputError("no crystal has a usable reference; run with --references")
    return table


def energy_panel(axes: Axes, table: pd.DataFrame) -> None:
    """Draw the cumulative share of winners against their energy above the reference."""
    matched = matches(table)
    for name, some, colour in (
        ("match", table[matched], MATCH),
        ("no match", table[~matched], "#c1551f"),
    ):
        energy = np.sort(some["energy_above_reference"].dropna())
        if len(energy):
            share = 100 * np.arange(1, len(energy) + 1) / len(energy)
            axes.step(energy, share, where="post", color=colour, label=f"{name} ({len(energy)})")
    axes.axvline(0.0, color="0.6", lw=0.8)
    axes.set(xlim=ENERGIES, xlabel="E - E(reference), eV/atom", ylabel="winners, %")
    axes.legend(frameon=False, fontsize="small", loc="upper left")


def rmsd_panel(axes: Axes, table: pd.DataFrame) -> None:
    """Draw the RMSD of the winners that match."""
    rmsd = table["rmsd"].dropna()
    axes.hist(rmsd, bins=np.linspace(0.0, max(0.2, rmsd.max()), 21).tolist(), color=MATCH)
    axes.set(xlabel="RMSD of winners that match, Å", ylabel="crystals")


def bars(axes: Axes, labels: list[str], rates: list[tuple[np.ndarray, np.ndarray]]) -> None:
    """Draw match and LES of groups of crystals.

    Args:
        axes: Where to draw.
        labels: Of the groups.
        rates: Match and LES of each crystal of a group, 0 to 1.
    """
    for place, (match, les) in enumerate(rates):
        low, high = rate_interval(les, generator=np.random.default_rng(SEED))
        mean = 100 * float(les.mean())
        axes.bar(place, 100 * match.mean(), color=MATCH)
        axes.bar(
            place,
            mean - 100 * match.mean(),
            bottom=100 * match.mean(),
            color=LOWER,
            hatch="//",
            edgecolor=MATCH,
        )
        axes.errorbar(place, mean, [[mean - 100 * low], [100 * high - mean]], color="k", lw=1)
    axes.set_xticks(range(len(labels)), labels)
    axes.set(ylim=(0, 100), ylabel="crystals, %")


def by_k_panel(axes: Axes, table: pd.DataFrame) -> None:
    """Draw success against the number of candidates, where these were recorded."""
    table = table[table["n_candidates"].notna()]
    found = (re.fullmatch(r"les_(\d+)", name) for name in table.columns)
    ks = sorted(int(one[1]) for one in found if one)
    pairs = [tuple(_values(table, f"{name}_{k}") for name in ("match", "les")) for k in ks]
    bars(axes, [str(k) for k in ks], [(match, les) for match, les in pairs])
    axes.legend(axes.patches[:2], ["match", "lower, no match"], fontsize="small", loc="lower right")
    axes.set(xlabel=f"candidates k; the lowest counts ({len(table)} crystals)")


def by_size_panel(axes: Axes, table: pd.DataFrame) -> None:
    """Draw success of the lowest of all candidates against the number of atoms."""
    labels, rates = [], []
    for low, high in SIZES:
        some = table[table["n_atoms"].between(low, high)]
        if len(some):
            labels.append(f"{low}–{high}\n({len(some)})")
            rates.append((_values(some, "matched"), _values(some, "les")))
    bars(axes, labels, rates)
    axes.set(xlabel="atoms in the cell (crystals)")


def _values(table: pd.DataFrame, column: str) -> np.ndarray[Any, Any]:
    return table[column].astype(float).fillna(0.0).to_numpy()


def main() -> None:
    """Draw the panels."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("tables", type=Path, nargs="+", help="CSV of tools/crystals_of_run.py")
    parser.add_argument("--output", type=Path, required=True, help="PNG to write")
    args = parser.parse_args()
    table = read_usable(args.tables)
    figure = Figure(figsize=(9.0, 6.4), layout="constrained")
    panels = (energy_panel, rmsd_panel, by_k_panel, by_size_panel)
    for axes, draw in zip(figure.subplots(2, 2).flat, panels, strict=True):
        draw(axes, table)
    figure.savefig(args.output, dpi=130)
    print(f"{len(table)} crystals in {args.output}")


if __name__ == "__main__":
    run_command(main)
