"""`xtalfill restore`: restore structures without Nextflow; print the minima, write CIF files."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from xtalfill.core.errors import InputError
from xtalfill.core.io import make_folder

if TYPE_CHECKING:
    from rich.table import Table

    from xtalfill.cli.parser import Commands
    from xtalfill.interactive.answer import Answer

# Options that `xtalfill.restore` has, too; None takes the default of the pipeline.
_OPTIONS = (
    "element", "n_missing", "remove_existing", "n_tries", "mu", "samples", "seed", "method",
    "model", "mlip", "mlip_rank", "potential_dir", "device",
)  # fmt: skip


def add_parser(commands: Commands) -> None:
    """Add the command `restore`."""
    restore = commands.add_parser(
        "restore",
        help="restore structures here, without Nextflow",
        description="Restore structures in this process. The defaults are those of the pipeline.",
    )
    restore.add_argument("input", help="CIF, POSCAR or another input of the pipeline")
    restore.add_argument("-n", "--n_missing", help="missing sites per cell, or auto")
    restore.add_argument("--element", help="element to fill")
    restore.add_argument(
        "--remove_existing", action="store_true", default=None,
        help="remove the sites of the element first",
    )  # fmt: skip
    restore.add_argument("--n_tries", type=int, help="numbers that auto compares by energy")
    restore.add_argument("--mu", type=float, help="chemical potential of H for that, eV per atom")
    restore.add_argument(
        "--samples", type=number_or_word, help="candidates for each structure and method, or auto"
    )
    restore.add_argument("--seed", type=int, help="seed of the candidates")
    restore.add_argument("--method", help="proposal methods, separated by commas")
    restore.add_argument("--model", help="weights to use instead of the bundled ones")
    restore.add_argument("--mlip", help="potential: a name, or the path of a model file")
    restore.add_argument("--mlip_rank", help="second potential, whose energies rank; or none")
    restore.add_argument("--potential_dir", type=Path, help="folder of published potentials")
    restore.add_argument("--device", help="cpu or cuda")
    restore.add_argument("-o", "--output", type=Path, help="folder for a CIF file of each minimum")
    restore.add_argument("--quiet", action="store_true", help="no progress bar")


def number_or_word(text: str) -> int | str:
    """Return an integer where the text is one, else the text."""
    return int(text) if text.lstrip("+-").isdigit() else text


def run(args: argparse.Namespace) -> None:
    """Restore the structures and print a table for each.

    Raises:
        InputError: No structure could be restored.
    """
    from rich.console import Console

    from xtalfill.interactive.given import read_given
    from xtalfill.interactive.restore import restore_given
    from xtalfill.interactive.settings import make_all_settings
    from xtalfill.results.confidence import odds_text
    from xtalfill.results.counts import CountRow, count_text

    settings = make_all_settings({name: getattr(args, name) for name in _OPTIONS})
    answers = restore_given(read_given(args.input), settings, progress=not args.quiet)
    console = Console()
    for answer in answers:
        files = [] if args.output is None else write_minima(answer, args.output)
        if answer.best is None:
            print(f"{answer.id}: {answer.status}: {answer.message}")
        else:
            console.print(table_of(answer))
            if not answer.counts.empty:
                rows = [CountRow(**row) for row in answer.counts.to_dict("records")]
                print(f"Missing: {count_text(rows)}")
            if odds := odds_text(answer.confidence):
                print(f"Odds: {odds}")
            if warnings := answer.checks["warnings"].iloc[0]:
                print(f"Checks of the first: {warnings}")
        for file in files:
            print(file)
    if all(answer.best is None for answer in answers):
        first = answers[0]
        raise InputError(
            f"{args.input}: none of the {len(answers)} structures was restored; "
            f"the first, {first.id}: {first.message}"
        )


def write_minima(answer: Answer, folder: Path) -> list[Path]:
    """Write the minima of a structure as ID_1.cif, ID_2.cif and so on, the lowest first.

    Raises:
        InputError: The folder cannot be made.
    """
    make_folder(folder)
    files = [folder / f"{answer.id}_{number + 1}.cif" for number in range(len(answer.minima))]
    for number, file in enumerate(files):
        answer.to_cif(file, number=number)
    return files


def table_of(answer: Answer) -> Table:
    """Return the minima of a structure as a table for the terminal."""
    from rich.table import Table

    several = answer.minima["method"].nunique() > 1
    table = Table(title=f"{answer.id}: {answer.status}", title_justify="left")
    heads = ["meV/atom", "candidates", "space group", "shortest bond, Å", "status"]
    for head in [*(["method"] if several else []), *heads]:
        table.add_column(head)
    for row in answer.minima.to_dict("records"):
        cells = [
            f"{1000 * row['energy_above_best']:.1f}",
            f"{row['n_candidates']} of {len(answer.candidates)}",
            row["space_group"],
            f"{row['bond']} {row['shortest_bond']:.3f}",
            row["status"],
        ]
        table.add_row(*([row["method"]] if several else []), *cells)
    return table
