#!/usr/bin/env python3
"""Compare potentials with DFT on pairs of distinct minima (docs/benchmarks/potentials.md).

compute: run pw.x once for each geometry of the pairs of tools/find_pairs.py. Finished geometries
are kept, so a stopped run continues. The table of docs/benchmarks/data is its output.
compare: order, energy difference and forces of the pairs by other potentials, in about a minute.
convergence: compare two tables of different accuracy.
"""

import argparse
import gzip
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import ase.io
import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.units import Hartree

from xtalfill.core.errors import run_command
from xtalfill.core.io import replacing, write_json
from xtalfill.dft.launch import PW, Machine
from xtalfill.dft.result import PwResult
from xtalfill.dft.single_point import SinglePoints
from xtalfill.evaluate.pairs import (
    CLEAR,
    PairErrors,
    difference_cell,
    evaluate_pairs,
    force_cell,
    order_cell,
    paired_text,
    read_pairs,
)
from xtalfill.registry.potentials import short_name
from xtalfill.relax.potentials import load_potential

ASSETS = Path(__file__).parents[1] / "assets"
HYDROGEN = 1
COLUMNS = [
    {"key": "pairs", "title": "pairs"},
    {"key": "order", "title": "right order", "unit": "%", "digits": 0},
    {"key": "clear", "title": "right order if > 5 meV/atom apart", "unit": "%", "digits": 0},
    {"key": "paired", "title": "order won : lost against the first"},
    {"key": "difference", "title": "error of the difference", "unit": "meV/atom", "digits": 1},
    {"key": "force", "title": "error of forces", "unit": "eV/Å", "digits": 3},
]


def calculated(atoms: Atoms, result: PwResult, kept: Path) -> Atoms:
    """Return a geometry as pw.x calculated it, symmetrised, with energy and forces.

    Args:
        atoms: The geometry.
        result: Its result.
        kept: Folder with the data file.
    """
    frame = Atoms(atoms.numbers, result.positions, cell=atoms.cell, pbc=True)
    gap = band_gap(kept / f"pw.{len(result.attempts)}.xml.gz")
    frame.info = {**atoms.info, "n_symmetry": result.n_symmetry, "gap": round(gap, 2)}
    frame.calc = SinglePointCalculator(frame, energy=result.energy, forces=result.forces)
    return frame


def band_gap(path: Path) -> float:
    """Return the band gap of a data file without spin in eV; 0 for a metal.

    The bands are counted. Occupations do not show a metal: with cold smearing the Fermi energy of
    an insulator can lie in a band.
    """
    root = ElementTree.fromstring(gzip.decompress(path.read_bytes()))  # noqa: S314 - our own file
    electrons = float(root.findtext("output/band_structure/nelec", "nan"))
    bands = np.array(
        [[float(word) for word in (one.text or "").split()] for one in root.iter("eigenvalues")]
    )
    filled = round(electrons / 2)
    if round(electrons) % 2 or filled >= bands.shape[1]:
        return 0.0
    gap = bands[:, filled].min() - bands[:, filled - 1].max()
    return max(0.0, float(gap) * Hartree)


def compute(args: argparse.Namespace) -> None:
    """Run pw.x on all pairs, the cheapest first, and write those that are complete."""
    pairs = [pair for pair in read_pairs(args.pairs) if args.only is None or pair.name in args.only]
    points = SinglePoints(
        protocol=ASSETS / "protocols" / f"{args.protocol}.yaml",
        table=args.pseudo_table,
        pseudo_dir=args.pseudo_dir,
        cost=ASSETS / "dft_cost.json",
        symbols={symbol for pair in pairs for symbol in pair.members[0].symbols},
        machine=Machine(pw=args.pw),
    )
    jobs = {
        pair.name: [
            points.job(atoms, atoms.numbers != HYDROGEN, str(atoms.info["geometry"]))
            for atoms in pair.members
        ]
        for pair in pairs
    }
    costs = {name: sum(points.seconds(job) for job in both) for name, both in jobs.items()}
    pairs.sort(key=lambda pair: costs[pair.name])
    print(f"{len(pairs)} pairs, {sum(costs.values()) / 60:.0f} core-minutes estimated", flush=True)
    folder = args.work / args.protocol
    folder.mkdir(parents=True, exist_ok=True)
    frames: list[Atoms] = []
    for pair in pairs:
        if args.finished and not all(
            (folder / f"{job.system.key}.json").is_file() for job in jobs[pair.name]
        ):
            continue
        done = []
        for atoms, job in zip(pair.members, jobs[pair.name], strict=True):
            result = points.run(job, folder)
            if result.status != "ok":
                print(f"pair {pair.name} dropped: {result.key}: {result.message}", flush=True)
                break
            done.append(calculated(atoms, result, folder / result.key / "kept"))
        else:
            frames += done
            with replacing(args.output) as temporary:
                ase.io.write(temporary, frames, format="extxyz")
            print(f"pair {pair.name} ({len(frames) // 2} complete)", flush=True)


def rows_of(
    name: str, errors: PairErrors, groups: Sequence[str], baseline: PairErrors | None
) -> list[dict[str, Any]]:
    """Return the rows of a potential: all pairs, then each group.

    Args:
        name: Name of the potential.
        errors: Of all pairs.
        groups: Group of each pair.
        baseline: Errors of the potential to compare with; None for itself.
    """
    rows = []
    for group in ("", *sorted(set(groups))):
        own = np.array([group in ("", one) for one in groups])
        some = errors.subset(own)
        cells = {
            "pairs": len(some.dft),
            "order": order_cell(some),
            "clear": order_cell(some, above=CLEAR),
            "paired": paired_text(some, baseline.subset(own)) if baseline else None,
            "difference": difference_cell(some),
            "force": force_cell(some),
        }
        label = f"{group}, `{name}`" if group else f"`{name}`"
        rows.append({"key": f"{name} {group}".strip(), "label": label, "cells": cells})
    return rows


def compare(args: argparse.Namespace) -> None:
    """Print the comparison of potentials with DFT, and write it as tables of the documentation."""
    pairs = read_pairs(args.table)
    whole: list[dict[str, Any]] = []
    parts: list[dict[str, Any]] = []
    baseline: PairErrors | None = None
    for mlip in args.mlip:
        errors = evaluate_pairs(pairs, load_potential(mlip, device="cpu"))
        short = short_name(mlip)
        origins = [f"minima of {pair.relaxed_by}" for pair in pairs]
        first, *others = rows_of(short, errors, [pair.group for pair in pairs], baseline)
        _, *by_origin = rows_of(short, errors, origins, baseline)
        baseline = baseline or errors
        whole.append(first)
        parts += [*others, *by_origin]
        for row in (first, *others, *by_origin):
            print(row["label"], *(f"{key} {_text(cell)}" for key, cell in row["cells"].items()))
    if args.output is None:
        return
    parts.sort(key=lambda row: row["label"].split(",")[0])
    title = f"Potentials compared with PBE on {len(pairs)} pairs of minima"
    common = {"crystals": len({pair.members[0].info["id"] for pair in pairs}), "columns": COLUMNS}
    common["transcribed"] = False
    names = textwrap.wrap(
        " ".join(Path(mlip).name for mlip in args.mlip), 80, break_on_hyphens=False
    )
    commands = [
        f"python tools/dft_pairs.py compare --table {args.table} --mlip \\",
        *(f"    {line} \\" for line in names),
        f"    --output {args.output}",
    ]
    for name, content in {
        "dft_pairs": {"title": title, "commands": commands, "label": "potential", "rows": whole},
        "dft_pairs_groups": {
            "title": f"{title}, by group",
            "commands_from": "dft_pairs",
            "label": "pairs, potential",
            "rows": parts,
        },
    }.items():
        write_json(args.output / f"{name}.json", content | common)


def _text(cell: Any) -> str:
    if not isinstance(cell, dict):
        return str(cell)
    return f"{cell['value']:.4g} ({cell['low']:.4g}-{cell['high']:.4g})"


def convergence(args: argparse.Namespace) -> None:
    """Write the energy differences of the pairs that two tables share, in meV per atom."""
    tables = [{p.name: p for p in read_pairs(path)} for path in (args.table, args.accurate)]
    rows = []
    for name in sorted(set(tables[0]) & set(tables[1]), key=int):
        less, more = (table[name].difference for table in tables)
        one = tables[0][name]
        formula = one.members[0].get_chemical_formula(empirical=True)
        label = f"{formula}, {one.group} (pair {name})"
        cells = {"table": 1e3 * less, "accurate": 1e3 * more, "change": 1e3 * (more - less)}
        rows.append({"key": name, "label": label, "cells": cells})
        print(label, *(f"{key} {value:.2f}" for key, value in cells.items()))
    titles = {"table": "difference, `fast`", "accurate": "`balanced`", "change": "change"}
    columns = [
        {"key": key, "title": title, "unit": "meV/atom", "digits": 2}
        for key, title in titles.items()
    ]
    content = {
        "title": "Convergence of the differences of pairs",
        "crystals": len(rows),
        "transcribed": False,
        "commands": [
            "python tools/dft_pairs.py compute --protocol balanced --pairs pairs.extxyz \\",
            f"    --only {' '.join(row['key'] for row in rows)} --pseudo_dir sssp --work work \\",
            "    --output balanced.extxyz",
            f"python tools/dft_pairs.py convergence --table {args.table} \\",
            f"    --accurate balanced.extxyz --output {args.output}",
        ],
        "label": "pair",
        "columns": columns,
        "rows": rows,
    }
    write_json(args.output / "dft_pairs_convergence.json", content)


def main() -> None:
    """Run a subcommand."""
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(required=True)
    one = commands.add_parser("compute", help="run pw.x")
    one.set_defaults(run=compute)
    one.add_argument("--pairs", type=Path, required=True, help="output of find_pairs.py")
    one.add_argument("--only", nargs="+", help="names of pairs")
    one.add_argument("--finished", action="store_true", help="only write what is finished")
    one.add_argument("--protocol", default="fast")
    one.add_argument(
        "--pseudo_table", type=Path, default=ASSETS / "sssp" / "sssp_1.3.0_pbe_efficiency.json"
    )
    one.add_argument("--pseudo_dir", type=Path, required=True)
    one.add_argument("--pw", default=PW, help="the executable")
    one.add_argument("--work", type=Path, required=True, help="folder of the calculations")
    one.add_argument("--output", type=Path, required=True, help="extxyz")
    two = commands.add_parser("compare", help="compare potentials with DFT")
    two.set_defaults(run=compare)
    two.add_argument("--table", type=Path, required=True, help="output of compute")
    two.add_argument("--mlip", nargs="+", required=True)
    two.add_argument("--output", type=Path, help="folder for the JSON files")
    three = commands.add_parser("convergence", help="compare two tables")
    three.set_defaults(run=convergence)
    three.add_argument("--table", type=Path, required=True)
    three.add_argument("--accurate", type=Path, required=True)
    three.add_argument("--output", type=Path, required=True, help="folder for the JSON file")
    args = parser.parse_args()
    args.run(args)


if __name__ == "__main__":
    run_command(main)
