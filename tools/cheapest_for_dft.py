#!/usr/bin/env python3
"""Choose winners without a match for DFT: the cheapest ones, whatever their energies.

Reads tables of tools/crystals_of_run.py. Writes the crystals of the benchmark whose winner does not
match and was not sent to pw.x, in the order of the estimated core-hours of the reference.
"""

import argparse
from pathlib import Path

import ase.io
import numpy as np
from ase import Atoms
from crystal_table import matches, read_crystals, with_reference

from xtalfill.core.errors import run_command
from xtalfill.dft.estimate import CostModel, read_cost_model
from xtalfill.dft.plan import prepare_job
from xtalfill.dft.protocols import read_protocol
from xtalfill.dft.pseudos import check_files, read_table
from xtalfill.dft.theory import LevelOfTheory

ASSETS = Path(__file__).resolve().parents[1] / "assets"
TABLE = ASSETS / "sssp" / "sssp_1.3.0_pbe_efficiency.json"


def without_judgement(paths: list[Path]) -> list[str]:
    """Return the ids of the winners without a match that were not sent to pw.x."""
    table = with_reference(read_crystals(paths))
    open_ = (table["status"] == "ok") & ~matches(table)
    if "dft_status" in table.columns:
        open_ &= table["dft_status"].isna()
    return table.index[open_].tolist()


def level_of(crystals: list[Atoms], protocol: str, pseudo_dir: Path) -> LevelOfTheory:
    """Return the level of theory of a protocol, for the elements of some crystals."""
    table = read_table(TABLE)
    symbols = {symbol for crystal in crystals for symbol in crystal.symbols} & table.keys()
    headers = check_files(table, pseudo_dir, symbols)
    chosen = read_protocol(ASSETS / "protocols" / f"{protocol}.yaml")
    return LevelOfTheory(
        protocol=chosen,
        table=table,
        valence={name: one.valence for name, one in headers.items()},
        degauss=chosen.degauss,
        smearing=chosen.smearing,
    )


def core_hours(crystal: Atoms, level: LevelOfTheory, model: CostModel) -> float:
    """Return the estimated core-hours to relax a crystal; inf without a pseudopotential."""
    if set(crystal.symbols) - level.valence.keys():
        return float("inf")
    job = prepare_job(
        crystal,
        crystal.numbers != 1,
        level,
        name=str(crystal.info["id"]),
        key="",
        free=np.ones(len(crystal), dtype=bool),
    )
    return model.core_hours(job.system)


def main() -> None:
    """Write the cheapest crystals."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("tables", type=Path, nargs="+", help="CSV of tools/crystals_of_run.py")
    parser.add_argument("--bench", type=Path, required=True, help="extxyz with `id`")
    parser.add_argument("--protocol", default="fast")
    parser.add_argument("--pseudo_dir", type=Path, default=Path("/usr/share/espresso/pseudo"))
    parser.add_argument("--count", type=int, required=True, help="number of crystals")
    parser.add_argument("--output", type=Path, required=True, help="extxyz to write")
    args = parser.parse_args()
    wanted = set(without_judgement(args.tables))
    crystals = [one for one in ase.io.read(args.bench, ":") if str(one.info["id"]) in wanted]
    level = level_of(crystals, args.protocol, args.pseudo_dir)
    model = read_cost_model(ASSETS / "dft_cost.json", "relaxation")
    costs = [core_hours(crystal, level, model) for crystal in crystals]
    order = np.argsort(costs, kind="stable")[: args.count]
    ase.io.write(args.output, [crystals[i] for i in order], format="extxyz")
    for i in order:
        print(f"{crystals[i].get_chemical_formula()}: {costs[i]:.3f} core-hours")
    print(f"{len(order)} of {len(crystals)} crystals in {args.output}")


if __name__ == "__main__":
    run_command(main)
