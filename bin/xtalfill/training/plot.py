"""The course of a training run as a picture."""

from __future__ import annotations

import csv
from pathlib import Path

from matplotlib.figure import Figure


def plot_log(log: Path, picture: Path) -> None:
    """Draw training loss, validation loss and match rate against the step.

    Args:
        log: The log.csv of a run.
        picture: The PNG to write.
    """
    with log.open(newline="") as file:
        rows = list(csv.DictReader(file))
    step = [int(row["step"]) for row in rows]
    figure = Figure(figsize=(7.0, 3.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.plot(step, [float(row["loss"]) for row in rows], label="training")
    left.plot(step, [float(row["validation_loss"]) for row in rows], label="held-out systems")
    left.set(xlabel="step", ylabel="loss (scaled mean square)", yscale="log")
    left.legend(frameon=False)
    right.plot(step, [100 * float(row["validation_match"]) for row in rows], color="tab:green")
    right.set(xlabel="step", ylabel="single candidates that match / %")
    figure.savefig(picture, dpi=150)
