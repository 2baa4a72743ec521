#!/usr/bin/env python3
"""Compare training runs: held-out loss and match rate against training time.

Reads output folders of `xtalfill train`, plots the curves and prints a table. Folder names are the
labels of the runs. Runs are comparable only with the same --data, --seed and machine.
"""

import argparse
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from xtalfill.core.errors import InputError, run_command
from xtalfill.models.weights import load_weights
from xtalfill.training.plot import read_log

_AXES = {
    "validation_loss": "loss on held-out systems",
    "validation_match": "single candidates that match",
}


def main() -> None:
    """Plot the runs and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", type=Path, nargs="+", help="folders of `xtalfill train`")
    parser.add_argument("--output", type=Path, required=True, help="PNG to write")
    args = parser.parse_args()
    logs = {folder: checked_log(folder / "log.csv") for folder in args.runs}
    figure = Figure(figsize=(8.0, 3.6), layout="constrained")
    for axes, quantity in zip(figure.subplots(1, 2), _AXES, strict=True):
        draw(axes, logs, quantity)
    figure.savefig(args.output, dpi=150)
    print("| run | parameters | steps | minutes | loss | match |\n" + "| --- " * 6 + "|")
    for folder, rows in logs.items():
        print(table_row(folder, rows[-1]))


def checked_log(path: Path) -> list[dict[str, float]]:
    """Return the rows of log.csv of a run, one for each validation.

    Raises:
        InputError: The log is missing, invalid or empty.
    """
    try:
        rows = read_log(path)
    except (OSError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"{path}: not a log of `xtalfill train` ({error})") from error
    if not rows or not {"step", "seconds", *_AXES} <= set(rows[0]):
        raise InputError(f"{path}: has no validation; train for at least --validate_every steps")
    return rows


def draw(axes: Axes, logs: dict[Path, list[dict[str, float]]], quantity: str) -> None:
    """Plot one quantity of every run against the training time."""
    for folder, rows in logs.items():
        minutes = [row["seconds"] / 60 for row in rows]
        axes.plot(minutes, [row[quantity] for row in rows], marker="o", ms=3, label=folder.name)
    axes.set(xlabel="minutes of training", ylabel=_AXES[quantity])
    axes.legend(frameon=False, fontsize="small")


def table_row(folder: Path, last: dict[str, float]) -> str:
    """Return the table row of a run."""
    network = load_weights(folder / "last.pt")
    count = sum(parameter.numel() for parameter in network.parameters())
    cells = [
        folder.name,
        f"{count / 1e6:.2f} M",
        f"{last['step']:.0f}",
        f"{last['seconds'] / 60:.0f}",
        f"{last['validation_loss']:.4f}",
        f"{100 * last['validation_match']:.1f} %",
    ]
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    run_command(main)
