#!/usr/bin/env python3
"""Measure how often `--n_missing auto` finds the number of hydrogens of known crystals.

`fill` removes the hydrogen, fills each number that CHECK would try, and notes the energies, one
line for each crystal. `prior` fits the weights of the prior, without energies. `rate` counts how
often the decision is right, and how often it would be by the prior or the energy alone.
"""

import argparse
import io
import itertools
import json
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
from ase import Atoms
from scipy.optimize import minimize

from xtalfill.core.batch import Batch
from xtalfill.core.counts import ENERGIES, counted_id
from xtalfill.core.errors import run_command
from xtalfill.core.io import read_json_lines, write_json
from xtalfill.evaluate.metrics import share_cell
from xtalfill.inputs.counts import plan_tries, prior_features
from xtalfill.inputs.hosts import CheckedHost, largest_count
from xtalfill.inputs.scan_valence import HYDROGEN, counted_protons, site_valences
from xtalfill.relax.counting import Count, counts_of, n_missing_of, probabilities


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("fill")
    one.add_argument("--hydrogen", type=Path, action="append", required=True, help="extxyz")
    one.add_argument("--label", action="append", required=True, help="of each file")
    one.add_argument("--max_atoms", type=int, default=12)
    one.add_argument("--crystals", type=int, required=True, help="of each file")
    one.add_argument("--seed", type=int, default=1)
    one.add_argument("--n_tries", type=int, default=7)
    one.add_argument("--minutes", type=float, required=True, help="begin no crystal after this")
    one.add_argument("--set", nargs="*", default=[], help="NAME=VALUE, parameters of the pipeline")
    one.add_argument("--output", type=Path, required=True, help="JSON lines")
    one.set_defaults(run=fill)
    one = commands.add_parser("prior")
    one.add_argument("--hydrogen", type=Path, required=True, help="held-out crystals, extxyz")
    one.add_argument("--n_tries", type=int, default=7)
    one.set_defaults(run=prior)
    one = commands.add_parser("rate")
    one.add_argument("--lines", type=Path, required=True, help="output of fill")
    one.add_argument("--label", action="append", required=True, help="sets to count")
    one.add_argument("--command", action="append", default=[], help="that made the lines")
    one.add_argument("--output", type=Path, required=True, help="JSON of the table")
    one.set_defaults(run=rate)
    args = parser.parse_args()
    args.run(args)


def fill(args: argparse.Namespace) -> None:
    """Fill the crystals of all files in turn, in an order that the seed decides.

    Crystals that the output has already are left out, so that a measurement can be continued.
    """
    from xtalfill.interactive.settings import make_all_settings

    values = dict(word.split("=", 1) for word in args.set)
    settings = make_all_settings({name: _value(text) for name, text in values.items()})
    chosen = [
        [(label, number, atoms) for number, atoms in _drawn(path, args)]
        for path, label in zip(args.hydrogen, args.label, strict=True)
    ]
    known = read_json_lines(args.output) if args.output.exists() else []
    filled = {(line["set"], line["number"]) for line in known}
    end = time.monotonic() + 60 * args.minutes
    with args.output.open("a", encoding="utf-8") as file:
        for label, number, atoms in _in_turn(chosen):
            if time.monotonic() > end:
                break
            if (label, number) in filled:
                continue
            line = {"set": label, "number": number, **_filled(atoms, number, settings, args)}
            file.write(json.dumps(line) + "\n")
            file.flush()


def _in_turn(files: list[list[tuple[str, int, Atoms]]]) -> Iterator[tuple[str, int, Atoms]]:
    """Yield the first crystal of each file, then the second ones, until all files are at an end."""
    for row in itertools.zip_longest(*files):
        yield from (one for one in row if one is not None)


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _drawn(path: Path, args: argparse.Namespace) -> list[tuple[int, Atoms]]:
    """Return some crystals of a file with their numbers, in random order."""
    fitting = [
        (number, atoms)
        for number, atoms in enumerate(ase.io.read(path, ":"))
        if len(atoms) <= args.max_atoms and 0 < (atoms.numbers == HYDROGEN).sum() < len(atoms)
    ]
    random.Random(args.seed).shuffle(fitting)  # noqa: S311 - a sample
    return fitting[: args.crystals]


def _filled(atoms: Atoms, number: int, settings: Any, args: argparse.Namespace) -> dict[str, Any]:
    """Return what is known of a crystal after its numbers were filled."""
    from xtalfill.interactive.stages import restore_hosts

    begin = time.monotonic()
    host = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=True)
    host = host[host.numbers != HYDROGEN]
    found: dict[str, Any] = {
        "formula": str(atoms.symbols),
        "n_host": len(host),
        "true": int((atoms.numbers == HYDROGEN).sum()),
        "counted": counted_protons(host.numbers, site_valences(host)),
    }
    if found["counted"] is not None:
        return found
    tries = plan_tries(host, n_tries=args.n_tries, most=largest_count(host))
    hosts = [
        CheckedHost(
            id=counted_id(f"c{number}", one, "H"),
            source="",
            atoms=host,
            element=HYDROGEN,
            n_missing=one,
            log_prior=(tries.log_prior[0], prior),
        )
        for one, prior in zip(tries.numbers, tries.log_prior[1:], strict=True)
    ]
    (batch,) = restore_hosts(hosts, settings, progress=io.StringIO())
    best = batch.stages["select"].arrays["best_of_all"]
    counts = counts_of(batch, list(range(batch.n_systems)))
    return found | {
        "repeats": tries.repeats,
        "numbers": [one.n_missing for one in counts],
        "log_prior": [one.log_prior for one in counts],
        "energies": [one.energy for one in counts],
        **_hosts_after(batch, np.flatnonzero(best)),
        "mu": float(batch.stages[ENERGIES].arrays["mu"][0]),
        "seconds": round(time.monotonic() - begin, 1),
    }


def _hosts_after(batch: Batch, systems: np.ndarray) -> dict[str, Any]:
    """Return what follows from the best candidate of each number: number -> value.

    Returns:
        "relaxed": energy after all positions relaxed, eV; "forces": root mean square of the forces
        on the host before, eV/Å.
    """
    sites, last = batch.stages["relax_sites"].arrays, batch.stages["relax_positions"].arrays
    relaxed, forces = {}, {}
    for index in systems:
        here = batch.atoms_slice(index)
        number = str(n_missing_of(batch, index))
        force = np.linalg.norm(sites["forces"][here][batch.is_host[here]], axis=1)
        relaxed[number] = float(last["energy"][index])
        forces[number] = float(np.sqrt(np.mean(force**2)))
    return {"relaxed": relaxed, "forces": forces}


def prior(args: argparse.Namespace) -> None:
    """Print the weights of the prior that make the numbers of undecided crystals likeliest."""
    known = []
    for atoms in ase.io.read(args.hydrogen, ":"):
        host = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=True)
        host = host[host.numbers != HYDROGEN]
        true = len(atoms) - len(host)
        if not len(host) or counted_protons(host.numbers, site_valences(host)) is not None:
            continue
        tries = plan_tries(host, n_tries=args.n_tries, most=largest_count(host))
        numbers = [0, *tries.numbers]
        if true in numbers:
            known.append((prior_features(numbers, host), numbers.index(true)))

    def loss(weights: np.ndarray) -> float:
        scores = [(features @ weights, right) for features, right in known]
        likely = [one[right] - np.logaddexp.reduce(one) for one, right in scores]
        return float(-np.mean(likely) + 0.01 * weights @ weights)

    found = minimize(loss, np.zeros(known[0][0].shape[1])).x
    print(f"{len(known)} crystals: {', '.join(f'{weight:.2f}' for weight in found)}")


def rate(args: argparse.Namespace) -> None:
    """Write how often the first guess, and one of the first two, is the number of the crystal."""
    lines = read_json_lines(args.lines)
    lines = [line for line in lines if line["set"] in args.label]
    open_ones = [line for line in lines if line["counted"] is None]
    decided = [line for line in lines if line["counted"] is not None]
    evidence = [[line["counted"]] for line in decided]
    judged = {name: [judge(line) for line in open_ones] for name, judge in JUDGES.items()}
    rows = [_row("all", "all: evidence, else energy and prior", lines)]
    rows[0]["cells"] |= _cells([*decided, *open_ones], [*evidence, *judged["both"]])
    rows += [_row("evidence", "the evidence decides", decided)]
    rows[1]["cells"] |= _cells(decided, evidence)
    for name, orders in judged.items():
        rows.append(_row(name, LABELS[name], open_ones))
        rows[-1]["cells"] |= _cells(open_ones, orders)
    write_json(
        args.output,
        {
            "title": "Number of hydrogens by `--n_missing auto`, where it compares energies",
            "crystals": len(lines),
            "commands": [*args.command, _own_command(args)],
            "label": "crystals whose hydrogen was removed",
            "columns": [
                {"key": "crystals", "title": "crystals"},
                {"key": "first", "title": "first guess right", "unit": "%", "digits": 0},
                {"key": "two", "title": "among the first two", "unit": "%", "digits": 0},
            ],
            "rows": rows,
        },
    )


def _own_command(args: argparse.Namespace) -> str:
    labels = " ".join(f"--label {label}" for label in args.label)
    return (
        f"python tools/measure_counts.py rate --lines {args.lines} {labels} --output {args.output}"
    )


def _row(key: str, label: str, lines: list[dict[str, Any]]) -> dict[str, Any]:
    return {"key": key, "label": label, "cells": {"crystals": len(lines)}}


def _cells(lines: list[dict[str, Any]], orders: list[list[int]]) -> dict[str, Any]:
    """Return the two rates with their 95 % Wilson intervals."""
    found = {}
    for key, most in (("first", 1), ("two", 2)):
        right = sum(line["true"] in order[:most] for line, order in zip(lines, orders, strict=True))
        found[key] = share_cell(right, len(lines))
    return found


def _ordered(numbers: list[int], scores: np.ndarray) -> list[int]:
    """Return the numbers, those of the highest score first."""
    finite = np.nan_to_num(scores, nan=-np.inf)
    return [numbers[place] for place in np.argsort(-finite, kind="stable")]


def _by_both(line: dict[str, Any]) -> list[int]:
    keys = ("numbers", "energies", "log_prior")
    counts = [Count(*values) for values in zip(*(line[key] for key in keys), strict=True)]
    return _ordered(line["numbers"], probabilities(counts, repeats=line["repeats"]))


def _by_relaxed(line: dict[str, Any]) -> list[int]:
    energy = {int(number): value for number, value in line["relaxed"].items()}
    numbers = [number for number in line["numbers"] if number in energy]
    return _ordered(numbers, -np.array([energy[one] - one * line["mu"] for one in numbers]))


def _per_site(line: dict[str, Any]) -> list[int]:
    numbers = line["numbers"][1:]
    return _ordered(numbers, -np.array(line["energies"][1:]) / np.array(numbers))


JUDGES: dict[str, Callable[[dict[str, Any]], list[int]]] = {
    "both": _by_both,
    "energy": lambda line: _ordered(line["numbers"], -np.array(line["energies"])),
    "per_site": _per_site,
    "relaxed": _by_relaxed,
    "prior": lambda line: _ordered(line["numbers"], np.array(line["log_prior"])),
}
LABELS = {
    "both": "not decided: energy in the given host, and prior",
    "energy": "energy in the given host alone",
    "per_site": "the same for each added atom",
    "relaxed": "energy after all atoms relaxed alone",
    "prior": "prior alone",
}


if __name__ == "__main__":
    run_command(main)
