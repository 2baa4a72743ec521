"""Powder patterns of a finished run: host, minima and reference, with a measured one or without."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ase import Atoms

from xtalfill.checks.diffraction import Radiation, simulate
from xtalfill.checks.profile import Fit, Measured, Shape, difference, fit_profile, profile
from xtalfill.core.batch import Batch, read_batch
from xtalfill.core.errors import InputError
from xtalfill.core.io import atomic_writer, make_folder, replacing, write_csv
from xtalfill.core.relaxations import final_stage
from xtalfill.results.columns import column

TABLE = "patterns.csv"
LIMITS = (5.0, 90.0)  # degrees of 2 theta
STEP = 0.02  # degrees
HOST, ANSWER, REFERENCE = "host", "minimum 1", "reference"


@dataclass(frozen=True)
class PatternRow:
    """A row of patterns.csv: one crystal of one structure with one radiation."""

    id: str = column(meaning="name of the structure")
    radiation: str = column(meaning="`xray` or `neutron`")
    wavelength: float = column(unit="Å", meaning="wavelength")
    crystal: str = column(
        meaning="`minimum 1` is the answer, `minimum 2` the runner-up; `host`; `reference`"
    )
    energy_above_best: float = column(
        unit="eV/atom", meaning="energy above the answer; empty for host and reference"
    )
    difference: float = column(
        meaning="R factor between its simulated profile and that of the answer, 0 to 1"
    )
    rwp: float = column(meaning="weighted profile R factor of the fit to the measured pattern")
    chi2: float = column(meaning="reduced chi² of that fit")
    zero: float = column(unit="°", meaning="fitted zero shift of 2 theta")
    scale: float = column(meaning="fitted scale")
    b: float = column(unit="Å²", meaning="fitted overall displacement parameter B")


@dataclass(frozen=True, eq=False)
class Phase:
    """A crystal of which a pattern is simulated; energy above the best in eV per atom."""

    name: str
    atoms: Atoms
    energy_above_best: float = math.nan


@dataclass(frozen=True, eq=False)
class Pattern:
    """The patterns of a structure with one radiation.

    Attributes:
        id: Name of the structure.
        radiation: What it diffracts.
        grid: (n,) degrees of 2 theta.
        profiles: Name of a crystal -> its simulated profile, or fit to the measured pattern (n,).
        measured: The measured pattern; None without.
        rows: One for each crystal, the best fit first if there is a measured pattern.
    """

    id: str
    radiation: Radiation
    grid: np.ndarray
    profiles: dict[str, np.ndarray]
    measured: Measured | None
    rows: list[PatternRow]


def phases_of_run(outdir: Path, ids: Sequence[str], *, minima: int) -> dict[str, list[Phase]]:
    """Return the crystals of some structures of a run.

    Args:
        outdir: The --outdir of a finished run.
        ids: Names of structures; none means all with an answer.
        minima: Largest number of minima of each.

    Raises:
        InputError: The folder is not a finished run, or a structure has no answer in it.
    """
    batches = sorted(outdir.glob("batches/*.h5"))
    if not batches:
        raise InputError(f"{outdir}: not the --outdir of a finished run (no batches)")
    found: dict[str, list[Phase]] = {}
    for path in batches:
        batch = read_batch(path)
        for name, members in batch.groups().items():
            if (not ids or name in ids) and (phases := _phases(batch, name, members, minima)):
                found[name] = phases
    if lost := [name for name in ids if name not in found]:
        raise InputError(f"{outdir}: {lost[0]} has no answer in this run; see results.csv")
    return dict(sorted(found.items()))


def _phases(batch: Batch, name: str, members: Sequence[int], minima: int) -> list[Phase]:
    """Return host, minima and reference of a structure; none without a usable candidate."""
    select, stage = batch.stages["select"].arrays, final_stage(batch)
    energy = batch.stages[stage].arrays["energy"]
    lowest: dict[int, int] = {}
    for index in sorted(members, key=lambda i: select["rank_of_all"][i]):
        if (number := int(select["minimum_of_all"][index])) >= 0:
            lowest.setdefault(number, index)
    if not lowest:
        return []
    best = min(lowest)
    found = [
        Phase(
            f"minimum {number + 1}",
            atoms := batch.to_ase(index, stage=stage),
            float(energy[index] - energy[lowest[best]]) / len(atoms),
        )
        for number, index in sorted(lowest.items())[:minima]
    ]
    host = batch.to_ase(lowest[best], host_only=True)
    if len(host):
        found.append(Phase(HOST, host))
    reference = batch.reference_of(name)
    if reference is not None:
        found.append(Phase(REFERENCE, batch.to_ase(reference)))
    return found


def make_pattern(
    name: str,
    phases: Sequence[Phase],
    radiation: Radiation,
    *,
    limits: tuple[float, float] = LIMITS,
    measured: Measured | None = None,
) -> Pattern:
    """Simulate the patterns of a structure, and fit each crystal to a measured one.

    Args:
        name: Of the structure.
        phases: Its crystals, the answer first.
        radiation: What they diffract.
        limits: Range of 2 theta without a measured pattern, degrees.
        measured: The measured pattern.

    Raises:
        InputError: A crystal has no pattern in the range.
    """
    if measured is None:
        grid = np.arange(limits[0], limits[1], STEP)
    else:
        grid, limits = measured.two_theta, (measured.two_theta[0], measured.two_theta[-1])
    # Peaks just outside of the range reach into it.
    wider = (max(limits[0] - 1, 0.5), min(limits[1] + 1, 179.0))
    peaks = {one.name: simulate(one.atoms, radiation, limits=wider) for one in phases}
    length = radiation.wavelength
    simulated = {
        key: profile(found, grid, Shape(), wavelength=length) for key, found in peaks.items()
    }
    fits = (
        {}
        if measured is None
        else {key: fit_profile(one, measured, wavelength=length) for key, one in peaks.items()}
    )
    rows = [_row(name, one, radiation, simulated, fits.get(one.name)) for one in phases]
    if fits:
        rows.sort(key=lambda row: row.rwp)
    profiles = {key: fit.calculated for key, fit in fits.items()} or simulated
    return Pattern(name, radiation, grid, profiles, measured, rows)


def _row(
    name: str, phase: Phase, radiation: Radiation, simulated: dict[str, np.ndarray], fit: Fit | None
) -> PatternRow:
    return PatternRow(
        id=name,
        radiation=radiation.kind,
        wavelength=radiation.wavelength,
        crystal=phase.name,
        energy_above_best=phase.energy_above_best,
        difference=difference(simulated[ANSWER], simulated[phase.name]),
        rwp=fit.rwp if fit else math.nan,
        chi2=fit.chi2 if fit else math.nan,
        zero=fit.shape.zero if fit else math.nan,
        scale=fit.scale if fit else math.nan,
        b=fit.shape.b if fit else math.nan,
    )


def write_patterns(patterns: Sequence[Pattern], folder: Path) -> list[Path]:
    """Write patterns.csv, and the profiles of each pattern as CSV and PNG.

    Args:
        patterns: Of one or more structures and radiations.
        folder: Created if missing.

    Returns:
        The files.

    Raises:
        InputError: The folder cannot be made.
    """
    make_folder(folder)
    files = [folder / TABLE]
    write_csv(files[0], PatternRow, [row for one in patterns for row in one.rows])
    for one in patterns:
        stem = f"{one.id}_{one.radiation.kind}"
        columns = {"two_theta": one.grid}
        if one.measured is not None:
            columns["measured"] = one.measured.intensity
        columns |= one.profiles
        with atomic_writer(folder / f"{stem}.csv") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(columns)
            rows = np.column_stack(list(columns.values()))
            writer.writerows([f"{value:.6g}" for value in row] for row in rows)
        _draw(one, folder / f"{stem}.png")
        files += [folder / f"{stem}.csv", folder / f"{stem}.png"]
    return files


def _draw(pattern: Pattern, path: Path) -> None:
    """Draw the profiles above each other, each over the measured pattern if there is one."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    n = len(pattern.rows)
    figure = Figure(figsize=(8, 1.3 * n + 0.7), dpi=120, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    panels = figure.subplots(n, 1, sharex=True, squeeze=False)[:, 0]
    for axes, row in zip(panels, pattern.rows, strict=True):
        shown = pattern.profiles[row.crystal]
        if pattern.measured is not None:
            axes.plot(pattern.grid, pattern.measured.intensity, ".", color="0.6", markersize=1.5)
            axes.plot(pattern.grid, pattern.measured.intensity - shown, color="tab:red", lw=0.5)
        axes.plot(pattern.grid, shown, color="tab:blue", lw=0.8)
        text = f"R_wp {100 * row.rwp:.1f} %" if pattern.measured is not None else ""
        if pattern.measured is None and row.crystal != ANSWER:
            text = f"difference {100 * row.difference:.1f} %"
        axes.set_title(f"{row.crystal}  {text}", fontsize=9, loc="left")
        axes.set_yticks([])
    axes.set_xlabel(f"2θ, ° ({pattern.radiation.kind}, {pattern.radiation.wavelength:g} Å)")
    with replacing(path) as temporary:
        canvas.print_figure(temporary, format="png")
