#!/usr/bin/env python3
"""Measure how well `xtalfill scan` finds crystals without their hydrogen, and fit its weights.

`fit` uses held-out crystals of the training files only: those with hydrogen, which is removed, and
those that have none. `measure` uses minerals, and crystals of the training file without hydrogen
that `fit` did not use. `counts` removes the hydrogen of crystals and counts it by the evidence.
`census` scans crystals without hydrogen in random order.
"""

import argparse
import csv
import json
import time
from collections import Counter
from pathlib import Path
from typing import Any

import ase.io
import h5py
import numpy as np
from ase import Atoms
from ase.neighborlist import neighbor_list
from scipy.optimize import minimize

from xtalfill.core.errors import InputError, run_command
from xtalfill.core.io import write_json
from xtalfill.evaluate.metrics import share_cell
from xtalfill.inputs.scan import (
    COMPLETE,
    LACKS,
    MISSING,
    Judgement,
    formula_of,
    judge,
    valence_features,
)
from xtalfill.inputs.scan_valence import (
    HYDROGEN,
    charge_balance,
    counted_protons,
    site_valences,
)
from xtalfill.inputs.structures import Entry
from xtalfill.inputs.structures.evidence import Evidence
from xtalfill.training.data import CrystalSet

OXYGEN = 8
OH_BOND = 1.25  # Å


def main() -> None:
    """Fit, or measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("fit")
    one.add_argument("--hydrogen", type=Path, required=True, help="held-out crystals, extxyz")
    one.set_defaults(run=fit)
    one = commands.add_parser("measure")
    one.add_argument("--missing", type=Path, required=True, help="minerals without hydrogen")
    one.add_argument("--located", type=Path, required=True, help="minerals with hydrogen")
    one.add_argument("--labels", type=Path, help="JSON of tools/mineral_labels.py")
    one.set_defaults(run=measure)
    one = commands.add_parser("counts")
    one.add_argument("--hydrogen", type=Path, action="append", required=True, help="extxyz")
    one.add_argument("--label", action="append", required=True, help="of each file")
    one.set_defaults(run=counts)
    one = commands.add_parser("census")
    one.add_argument("--minutes", type=float, default=20.0, help="time limit")
    one.set_defaults(run=census)
    for name, command in commands.choices.items():
        if name != "counts":
            command.add_argument("--data", type=Path, required=True, help="training file")
        if name == "counts":
            command.add_argument("--output", type=Path, required=True)
        elif name != "fit":
            command.add_argument("--seed", type=int, default=1)
            command.add_argument("--output", type=Path, required=True)
    args = parser.parse_args()
    args.run(args)


def fit(args: argparse.Namespace) -> None:
    """Print the weights of the logistic model; both classes have the same total weight."""
    crystals = CrystalSet([args.data])
    free = np.flatnonzero(crystals.is_validation & ~crystals.has_hydrogen)
    negative = [_features(_crystal(crystals, int(index))) for index in free]
    full = ase.io.read(args.hydrogen, ":")
    hosts = [atoms[atoms.numbers != HYDROGEN] for atoms in full]
    positive = [_features(host) for host in hosts if len(host)]
    x = np.array(negative + positive)
    y = np.repeat([0.0, 1.0], [len(negative), len(positive)])
    weight = np.where(y == 1, 0.5 / y.sum(), 0.5 / (1 - y).sum())

    def loss(w: np.ndarray) -> float:
        z = x @ w
        return float((weight * (np.logaddexp(0, z) - y * z)).sum() + 1e-4 * (w[1:] ** 2).sum())

    found = minimize(loss, np.zeros(x.shape[1])).x
    score = 1 / (1 + np.exp(-(x @ found)))
    print(f"{len(negative)} without and {len(positive)} with hydrogen")
    print("WEIGHTS =", tuple(round(float(value), 2) for value in found))
    for limit in (0.3, 0.5, 0.7, 0.8, 0.9):
        print(
            f"score above {limit}: {100 * (score[y == 1] > limit).mean():.1f} % of the first, "
            f"{100 * (score[y == 0] > limit).mean():.1f} % of the second"
        )
    for limit in (0.2, 0.25, 0.3, 0.35, 0.4, 0.5, 0.6):
        pairs = [(_protonated(atoms), _lacking(atoms, limit)) for atoms in full]
        true = sum(len(a & b) for a, b in pairs)
        print(
            f"oxygen that lacks {limit}: precision {true / sum(len(b) for _, b in pairs):.3f}, "
            f"recall {true / sum(len(a) for a, _ in pairs):.3f}"
        )


def measure(args: argparse.Namespace) -> None:
    """Write the rates as a table of the documentation."""
    missing, located = ase.io.read(args.missing, ":"), ase.io.read(args.located, ":")
    hosts = [(atoms, atoms.info["n_missing"]) for atoms in missing]
    hosts += [
        (atoms[atoms.numbers != HYDROGEN], int((atoms.numbers == HYDROGEN).sum()))
        for atoms in located
    ]
    crystals = CrystalSet([args.data])
    free = np.flatnonzero(~crystals.is_validation & ~crystals.has_hydrogen)
    drawn = np.random.default_rng(args.seed).permutation(free)[: len(hosts)]
    others = [(_crystal(crystals, int(index)), 0) for index in sorted(drawn)]
    rows = []
    for key, label, declares in (("sites", "sites alone", False), ("formula", "and formula", True)):
        with_h = [_judged(atoms, count, declares) for atoms, count in hosts]
        without = [_judged(atoms, 0, declares) for atoms, _ in others]
        for status, name in ((MISSING, "missing"), (COMPLETE, "missing or suspect")):
            rows.append(_rates(f"{key}_{name[-7:]}", f"{label}: {name}", with_h, without, status))
        counts = [(j.n_missing, n) for j, (_, n) in zip(with_h, hosts, strict=True)]
        decided = [bool(n == true) for n, true in counts if n is not None]
        rows.append(_count_row(f"{key}_count", f"{label}: number of sites", decided, len(hosts)))
    pairs = [(_protonated(atoms), _lacking(atoms, LACKS)) for atoms in located]
    rows.append(_oxygen_row("oxygen_located", f"O that carry H, {len(located)} located", pairs))
    if args.labels is not None:
        labelled = json.loads(args.labels.read_text())
        known = [(labelled.get(atoms.info["id"]), atoms) for atoms in missing]
        pairs = [(set(sites), _lacking(atoms, LACKS)) for sites, atoms in known if sites]
        rows.append(_oxygen_row("oxygen_labels", f"O with labels of H, {len(pairs)} hosts", pairs))
    write_json(args.output, _table(rows, args, len(hosts)))
    print(json.dumps(rows, indent=1))


def counts(args: argparse.Namespace) -> None:
    """Write how often --n_missing auto gives a number, and the right one; hydrogen is removed."""
    rows = []
    for path, label in _pairs(args):
        full = [atoms for atoms in ase.io.read(path, ":") if (atoms.numbers != HYDROGEN).any()]
        found = [_guesses(atoms) for atoms in full]
        decided = [count == true for count, _, true in found if count is not None]
        cells = {
            "crystals": len(full),
            "decided": _share(len(decided), len(full)),
            "right": _share(sum(decided), len(decided)),
            "right_of_all": _share(sum(decided), len(full)),
            "nearest": _share(sum(nearest == true for _, nearest, true in found), len(full)),
        }
        rows.append({"key": path.stem, "label": label, "cells": cells})
    named = [f"--hydrogen {path.name} --label '{label}'" for path, label in _pairs(args)]
    columns = [
        {"key": "crystals", "title": "crystals"},
        {"key": "decided", "title": "with a number", "unit": "%", "digits": 1},
        {"key": "right", "title": "of these right", "unit": "%", "digits": 1},
        {"key": "right_of_all", "title": "of all right", "unit": "%", "digits": 1},
        {"key": "nearest", "title": "charge balance alone right", "unit": "%", "digits": 1},
    ]
    content = {
        "title": "Number of hydrogens by `--n_missing auto`",
        "crystals": sum(row["cells"]["crystals"] for row in rows),
        "commands": [
            f"python tools/measure_scan.py counts {' '.join(named)} --output docs/benchmarks/data/"
            f"{args.output.name}"
        ],
        "transcribed": False,
        "label": "crystals whose hydrogen was removed",
        "columns": columns,
        "rows": rows,
    }
    write_json(args.output, content)


def _pairs(args: argparse.Namespace) -> list[tuple[Path, str]]:
    return list(zip(args.hydrogen, args.label, strict=True))


def _guesses(full: Atoms) -> tuple[int | None, int | None, int]:
    """Return the number of --n_missing auto, that of the charge balance alone, and the true one."""
    atoms = full[full.numbers != HYDROGEN]
    valences = site_valences(atoms)
    balance = charge_balance(atoms.numbers, valences)
    nearest = None if balance is None else balance.nearest
    true = int((full.numbers == HYDROGEN).sum())
    return counted_protons(atoms.numbers, valences), nearest, true


def _crystal(crystals: CrystalSet, index: int) -> Atoms:
    numbers, positions, cell = crystals.crystal(index)
    return Atoms(numbers, positions, cell=cell, pbc=True)


def _features(atoms: Atoms) -> np.ndarray:
    return valence_features(atoms.numbers, site_valences(atoms))


def _judged(atoms: Atoms, n_hydrogen: int, declares: bool) -> Judgement:
    """Judge a crystal, as from an input that declares the formula with its hydrogen or does not."""
    entry = Entry("", "", atoms=Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=True))
    if declares:
        numbers, counts = np.unique(atoms.numbers, return_counts=True)
        formula = dict(zip(numbers.tolist(), counts.astype(float).tolist(), strict=True))
        if n_hydrogen:
            formula[HYDROGEN] = float(n_hydrogen)
        entry.evidence = Evidence(formula=formula)
    try:
        return judge(entry)
    except InputError:  # counts as not found
        return Judgement(COMPLETE)


def _rates(
    key: str, label: str, with_h: list[Judgement], without: list[Judgement], status: str
) -> dict[str, Any]:
    """Return precision and recall of a status; `COMPLETE` stands for every other."""

    def found(one: Judgement) -> bool:
        return one.status == MISSING if status == MISSING else one.status != COMPLETE

    right, wrong = sum(map(found, with_h)), sum(map(found, without))
    return {
        "key": key,
        "label": label,
        "cells": {
            "precision": _share(right, right + wrong),
            "recall": _share(right, len(with_h)),
            "right": right,
            "wrong": wrong,
        },
    }


def _count_row(key: str, label: str, decided: list[bool], total: int) -> dict[str, Any]:
    right = sum(decided)
    cells = {"precision": _share(right, len(decided)), "recall": _share(right, total)}
    return {"key": key, "label": label, "cells": cells | _numbers(right, len(decided) - right)}


def _oxygen_row(key: str, label: str, pairs: list[tuple[set[int], set[int]]]) -> dict[str, Any]:
    """Return precision and recall over the oxygens of all crystals: (true, found) of each."""
    right = sum(len(true & found) for true, found in pairs)
    n_found, n_true = (sum(len(pair[k]) for pair in pairs) for k in (1, 0))
    cells = {"precision": _share(right, n_found), "recall": _share(right, n_true)}
    return {"key": key, "label": label, "cells": cells | _numbers(right, n_found - right)}


def _numbers(right: int, wrong: int) -> dict[str, int]:
    return {"right": right, "wrong": wrong}


def _share(part: int, whole: int) -> dict[str, float] | None:
    """Return a share in percent with its 95 % Wilson interval."""
    if not whole:
        return None
    return share_cell(part, whole)


def _protonated(atoms: Atoms) -> set[int]:
    """Return the oxygens bonded to hydrogen, as indices among the sites without hydrogen."""
    first, second = neighbor_list("ij", atoms, OH_BOND)
    bonded = (atoms.numbers[first] == OXYGEN) & (atoms.numbers[second] == HYDROGEN)
    order = np.cumsum(atoms.numbers != HYDROGEN) - 1
    return {int(order[site]) for site in first[bonded]}


def _lacking(atoms: Atoms, limit: float) -> set[int]:
    """Return the oxygens that lack a valence above `limit` once the hydrogen is removed."""
    host = atoms[atoms.numbers != HYDROGEN]
    if not len(host):
        return set()
    lacking = site_valences(host).lacking
    return set(np.flatnonzero((host.numbers == OXYGEN) & (lacking > limit)).tolist())


def census(args: argparse.Namespace) -> None:
    """Scan crystals without hydrogen in random order until the time is over; print the numbers."""
    crystals = CrystalSet([args.data])
    with h5py.File(args.data, "r") as file:
        names = [name.decode() for name in file["material_id"][()]]
    free = np.flatnonzero(~crystals.has_hydrogen)
    end = time.monotonic() + 60 * args.minutes
    counts: Counter[str] = Counter()
    with args.output.open("w", newline="") as file:
        writer = csv.writer(file)
        for index in np.random.default_rng(args.seed).permutation(free).tolist():
            if time.monotonic() > end:
                break
            atoms = _crystal(crystals, index)
            found = _judged(atoms, 0, declares=False)
            counts[found.status] += 1
            if found.status != COMPLETE:
                score, what = round(found.score, 3), "; ".join(found.evidence)
                formula = formula_of(atoms)
                writer.writerow([names[index], found.status, score, found.n_missing, formula, what])
                file.flush()
    print(f"{counts.total()} of {len(free)} crystals without hydrogen: {dict(counts)}")


def _table(rows: list[dict[str, Any]], args: argparse.Namespace, hosts: int) -> dict[str, Any]:
    return {
        "title": "`xtalfill scan` on minerals without their hydrogen and as many other crystals",
        "crystals": 2 * hosts,
        "commands": [
            "python tools/mineral_labels.py --hosts minerals_missing.extxyz "
            "--database amcsd_cif1.db --output labels.json",
            "python tools/measure_scan.py measure --data mp_le40.h5 --missing "
            "minerals_missing.extxyz --located minerals_located.extxyz --labels labels.json "
            f"--seed {args.seed} --output docs/benchmarks/data/scan.json",
        ],
        "transcribed": False,
        "label": "evidence: what is found",
        "columns": [
            {"key": "precision", "title": "precision", "unit": "%", "digits": 1},
            {"key": "recall", "title": "recall", "unit": "%", "digits": 1},
            {"key": "right", "title": "right"},
            {"key": "wrong", "title": "wrong"},
        ],
        "rows": rows,
    }


if __name__ == "__main__":
    run_command(main)
