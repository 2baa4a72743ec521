#!/usr/bin/env python3
"""Time a force call of a Nequix model: xtalfill beside the calculator of its authors and 7net-0.

Each program runs in its own process on one core and evaluates the same crystal, displaced a little
before each call. The programs take turns, so that ratios compare neighbours in time; times are CPU
seconds. The authors' code needs jax: give a Python interpreter that can import `nequix`.
"""

import argparse
import os
import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ase.io
from ase import Atoms

from xtalfill.core.io import write_json

ONE_THREAD = {
    "OMP_NUM_THREADS": "1",
    "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1",
}


def read_crystal(path: Path, n_atoms: int) -> Atoms:
    """Return the first crystal with `n_atoms` atoms."""
    return next(atoms for atoms in ase.io.read(path, ":") if len(atoms) == n_atoms)


def own_calls(atoms: Atoms, mlip: str, at_once: int) -> Callable[[], object]:
    """Return a function that evaluates `at_once` copies of a crystal with xtalfill."""
    import torch

    from xtalfill.core.crystal import Crystal
    from xtalfill.relax.potentials import load_potential

    torch.set_num_threads(1)
    potential = load_potential(mlip, device="cpu")
    return lambda: potential.evaluate(
        [Crystal(atoms.numbers, atoms.positions, atoms.cell.array)] * at_once
    )


class Timer:
    """A process that evaluates a crystal each time it is asked to.

    Args:
        python: Interpreter.
        code: Program; prints the CPU seconds of a call for every line it reads.
        arguments: Of the program.
    """

    def __init__(self, python: str, code: str, *arguments: object) -> None:
        self._process = subprocess.Popen(  # noqa: S603 - the interpreter is the caller's choice
            [python, "-c", code, *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **ONE_THREAD},
        )
        self.seconds()  # loads and compiles

    def seconds(self) -> float:
        """Return the CPU seconds of one call."""
        process = self._process
        if process.stdin is None or process.stdout is None:
            raise RuntimeError("the process has no pipes")
        process.stdin.write("go\n")
        process.stdin.flush()
        return float(process.stdout.readline())


LOOP = """
import sys, time
for _ in sys.stdin:
    atoms.positions += 1e-4
    begin = time.process_time()
    call()
    print(time.process_time() - begin, flush=True)
"""
THEIRS = f"""
import sys
sys.path.insert(0, sys.argv[3])
import ase.io
from nequix.calculator import NequixCalculator
atoms = next(a for a in ase.io.read(sys.argv[1], ":") if len(a) == int(sys.argv[2]))
atoms.calc = NequixCalculator(model_path=sys.argv[4], use_kernel=False)
call = atoms.get_forces
{LOOP}"""
OURS = f"""
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[5])
from bench_nequix import own_calls, read_crystal
atoms = read_crystal(Path(sys.argv[1]), int(sys.argv[2]))
call = own_calls(atoms, sys.argv[3], int(sys.argv[4]))
{LOOP}"""


def rows_of(times: dict[str, list[float]]) -> list[dict[str, Any]]:
    """Return the rows of the table: median and range, and ratio of neighbours to the first.

    Args:
        times: Program -> times of its calls, ms per atom; equal numbers of calls.
    """
    first = next(iter(times.values()))
    rows = []
    for label, values in times.items():
        ratios = [one / other for one, other in zip(values, first, strict=True)]
        cells = {"time": _spread(values), "ratio": _spread(ratios)}
        rows.append({"key": label.replace("`", ""), "label": label, "cells": cells})
    return rows


def _spread(values: list[float]) -> dict[str, float]:
    found = (statistics.median(values), min(values), max(values))
    return dict(zip(("value", "low", "high"), (round(one, 4) for one in found), strict=True))


def table(rows: list[dict[str, Any]], args: argparse.Namespace) -> dict[str, Any]:
    """Return the table in the format of docs/benchmarks/data."""
    return {
        "title": f"Time of a force call, {args.atoms} atoms, one core",
        "crystals": 1,
        "transcribed": False,
        "commands": [
            f"python tools/bench_nequix.py --crystals {args.crystals.name} \\",
            f"    --atoms {args.atoms} --mlip {Path(args.mlip).name} \\",
            "    --upstream_python jax_environment/bin/python --upstream nequix",
        ],
        "label": "program",
        "columns": [
            {"key": "time", "title": "CPU time per atom", "unit": "ms", "digits": 1},
            {"key": "ratio", "title": "ratio to the first row", "digits": 2},
        ],
        "rows": rows,
    }


def main() -> None:
    """Time the programs in turn."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--crystals", type=Path, required=True, help="extxyz")
    parser.add_argument("--atoms", type=int, default=20, help="size of the crystal")
    parser.add_argument("--mlip", required=True, help=".nqx file")
    parser.add_argument("--upstream_python", help="interpreter with jax")
    parser.add_argument("--upstream", type=Path, help="checkout of nequix")
    parser.add_argument("--at_once", type=int, default=16, help="crystals of a batch")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--output", type=Path, help="JSON to write")
    args = parser.parse_args()
    here, crystal = Path(__file__).parent, (args.crystals, args.atoms)

    def own(mlip: str, count: int) -> Timer:
        return Timer(sys.executable, OURS, *crystal, mlip, count, here)

    name, many = Path(args.mlip).stem, args.at_once
    programs = {
        f"`{name}`, RELAX, {many} at once": (own(args.mlip, many), many),
        f"`{name}`, RELAX, one crystal": (own(args.mlip, 1), 1),
        f"`7net-0`, RELAX, {many} at once": (own("7net-0", many), many),
    }
    if args.upstream_python:
        theirs = Timer(args.upstream_python, THEIRS, *crystal, args.upstream, args.mlip)
        programs[f"`{name}`, calculator of its authors (jax)"] = (theirs, 1)
    times: dict[str, list[float]] = {label: [] for label in programs}
    for _ in range(args.repeats):
        for label, (timer, count) in programs.items():
            times[label].append(1e3 * timer.seconds() / count / args.atoms)
    rows = rows_of(times)
    for row in rows:
        print(row["label"], row["cells"])
    if args.output:
        write_json(args.output, table(rows, args))


if __name__ == "__main__":
    main()
