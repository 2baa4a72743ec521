"""Plot of a training run."""

from __future__ import annotations

import csv
from pathlib import Path

from matplotlib.figure import Figure


def read_log(log: Path) -> list[dict[str, float]]:
    """Return the rows of the log of a run, one for each validation.

    Args:
        log: log.csv of the run.
    """
    with log.open(newline="") as file:
        rows = csv.DictReader(file)
        return [{name: float(value) for name, value in row.items()} for row in rows]


def plot_log(log: Path, picture: Path) -> None:
    """Plot training loss, validation loss and match rate against the step.

    Args:
        log: log.csv of the run.
        picture: PNG to write.
    """
    rows = read_log(log)
    step = [row["step"] for row in rows]
    figure = Figure(figsize=(7.0, 3.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.plot(step, [row["loss"] for row in rows], label="training")
    left.plot(step, [row["validation_loss"] for row in rows], label="held-out systems")
    left.set(xlabel="step", ylabel="loss (scaled mean square)", yscale="log")
    # A batch that diverged must not hide the rest.
    least = min(min(row["loss"], row["validation_loss"]) for row in rows)
    most = max(row["validation_loss"] for row in rows)
    left.set_ylim(least / 1.5, 3 * most)
    left.legend(frameon=False)
    right.plot(step, [100 * row["validation_match"] for row in rows], color="tab:green")
    right.set(xlabel="step", ylabel="single candidates that match / %")
    for axes in (left, right):
        axes.locator_params(axis="x", nbins=5)
    figure.savefig(picture, dpi=150)
