#!/usr/bin/env python3
"""Benchmark proposals before relaxation: remove an element from each crystal and restore it.

A crystal counts as found by k candidates if any of them matches (ideal ranking). Sampler options
accept several values; all combinations are run with the same noise. Prints a table and writes
JSON with intervals over crystals, by size, number of sites and class.
"""

import argparse
import itertools
import json
import os
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from functools import cache, partial
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"

import ase.io
import numpy as np
import torch
from ase import Atoms
from ase.data import atomic_numbers, chemical_symbols

from xtalfill.core.errors import InputError, run_command
from xtalfill.evaluate.metrics import (
    SITE_BINS,
    SIZE_BINS,
    any_of_k,
    bin_label,
    rate_interval,
)
from xtalfill.proposals.diffusion.settings import SamplerSettings
from xtalfill.proposals.diffusion.site_sampler import candidate_generator
from xtalfill.proposals.methods import PROPOSERS, Method
from xtalfill.proposals.score_models import ScoreModels, load_models
from xtalfill.training.data import Task, remove_sublattice
from xtalfill.training.validate import is_match


def main() -> None:
    """Run the benchmark and write its JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bench", type=Path, required=True, help="extxyz of complete crystals")
    parser.add_argument("--element", choices=chemical_symbols[1:], metavar="X", default="H")
    parser.add_argument(
        "--shake", type=float, default=0.0, help="Gaussian noise of host coordinates, Angstrom"
    )
    parser.add_argument("--model", type=Path, nargs="*", default=[])
    parser.add_argument("--method", choices=PROPOSERS, default="host")
    parser.add_argument("--samples", type=int, default=10)
    parser.add_argument("--steps", type=int, nargs="+", default=[100])
    parser.add_argument("--predictor", nargs="+", default=["x0_renoise"])
    parser.add_argument("--renoise", type=float, nargs="+", default=[0.7])
    parser.add_argument(
        "--corrector",
        nargs="+",
        default=["none"],
        help="corrector rule: none, score or level",
    )
    parser.add_argument("--snr", type=float, nargs="+", default=[0.2])
    parser.add_argument("--repaint_noise", nargs="+", default=["exact"])
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument(
        "--together",
        type=int,
        default=1,
        help="crystals sampled in one batch; the last bits may depend on it",
    )
    parser.add_argument("--output", type=Path, required=True, help="JSON to write")
    args = parser.parse_args()
    frames = ase.io.read(args.bench, ":")
    for atoms in frames:
        if set(atoms.symbols) <= {args.element} or args.element not in atoms.symbols:
            raise InputError(
                f"{args.bench}: {atoms.info['material_id']} has no {args.element}, or nothing "
                "else; remove it, or give another --element"
            )
    results = []
    print("| steps | predictor | renoise | corrector | snr | repaint_noise |", end="")
    print(" single | any of k | s a candidate |\n" + "| --- " * 9 + "|")
    for settings in combinations(args):
        results.append(measured(frames, settings, args))
        print(row(results[-1]), flush=True)
    args.output.write_text(json.dumps(results, indent=2, ensure_ascii=False) + "\n")


def combinations(args: argparse.Namespace) -> list[SamplerSettings]:
    """Return all valid combinations of the requested sampler options."""
    found = []
    for steps, predictor, renoise, corrector, snr, noise in itertools.product(
        args.steps, args.predictor, args.renoise, args.corrector, args.snr, args.repaint_noise
    ):
        if predictor == "x0_jump" and corrector == "none":
            continue
        found.append(
            SamplerSettings(
                steps=steps,
                predictor=predictor,
                renoise=renoise,
                corrector_steps=int(corrector != "none"),
                corrector_rule="score" if corrector == "none" else corrector,
                snr=snr,
                repaint_noise=noise,
            )
        )
    return found


def measured(
    frames: list[Atoms], settings: SamplerSettings, args: argparse.Namespace
) -> dict[str, object]:
    """Run the benchmark with one combination of sampler options."""
    judge = partial(matches, settings=settings, args=args)
    groups = [frames[i : i + args.together] for i in range(0, len(frames), args.together)]
    with ProcessPoolExecutor(args.workers) as pool:
        by_group, seconds = zip(*pool.map(judge, groups), strict=True)
    found = [row for group in by_group for row in group]
    ks = [k for k in (1, 2, 5, 10, 20) if k <= args.samples]
    chance = np.array([any_of_k(row, ks) for row in np.array(found)])
    return {
        "method": args.method,
        "element": args.element,
        "shake": args.shake,
        "weights": weights_of(args.method, tuple(args.model)).checksums,
        "samples": args.samples,
        **asdict(settings),
        "seed": args.seed,
        "crystals": len(frames),
        "seconds_per_candidate": round(sum(seconds) / len(frames) / args.samples, 3),
        "all": rates(chance, ks),
        "groups": {
            name: rates(chance[np.array(labels) == name], ks)
            for labels in groupings(frames, args.element)
            for name in sorted(set(labels))
        },
    }


def row(result: dict[str, Any]) -> str:
    """Return a row of the table: rates in percent with intervals."""
    corrector = result["corrector_rule"] if result["corrector_steps"] else "none"
    rate = {
        k: "{:.1f} % ({:.0f}-{:.0f})".format(*(100 * v for v in values))
        for k, values in result["all"]["rate"].items()
    }
    others = ", ".join(f"{k}: {text}" for k, text in rate.items() if k != "1")
    sampling = [result[name] for name in ("steps", "predictor", "renoise")]
    sampling += [corrector, result["snr"], result["repaint_noise"]]
    cells = [*sampling, rate["1"], others, result["seconds_per_candidate"]]
    return f"| {' | '.join(map(str, cells))} |"


@cache
def weights_of(method: str, files: tuple[Path, ...]) -> ScoreModels:
    """Load the weights, once in each process."""
    return load_models([method], given=files, bundled=[])


def task_of(atoms: Atoms, args: argparse.Namespace) -> Task:
    """Return the task of restoring all sites of the element, with noise on the host."""
    removed = atoms.numbers == atomic_numbers[args.element]
    source = f"{atoms.info['material_id']}|host"
    error = candidate_generator(seed=args.seed, structure_id=source, sample=0)
    known = atoms.positions.copy()
    known[~removed] += args.shake * error.standard_normal((int((~removed).sum()), 3))
    return remove_sublattice(atoms.numbers, known, atoms.cell.array, removed)


def matches(
    group: list[Atoms], *, settings: SamplerSettings, args: argparse.Namespace
) -> tuple[list[list[bool]], float]:
    """Return which candidates of each crystal match, and the sampling time in seconds."""
    torch.set_num_threads(1)
    tasks = [task_of(atoms, args) for atoms in group]
    method = Method(args.method, weights_of(args.method, tuple(args.model)), settings)
    hosts = [task.host for task in tasks for _ in range(args.samples)]
    generators = [
        candidate_generator(seed=args.seed, structure_id=atoms.info["material_id"], sample=sample)
        for atoms in group
        for sample in range(args.samples)
    ]
    begin = time.process_time()
    proposals = iter(method.propose(hosts, generators))
    seconds = time.process_time() - begin
    return [
        [is_match(task, next(proposals)) for _ in range(args.samples)] for task in tasks
    ], seconds


def groupings(frames: list[Atoms], element: str) -> list[list[str]]:
    """Return, for each grouping, the group label of every crystal."""
    missing = [int((atoms.numbers == atomic_numbers[element]).sum()) for atoms in frames]
    return [
        [bin_label(len(atoms), SIZE_BINS) for atoms in frames],
        [bin_label(count, SITE_BINS) for count in missing],
        [atoms.info.get("h_class") or "unknown" for atoms in frames],
    ]


def rates(chance: np.ndarray, ks: list[int]) -> dict[str, object]:
    """Return the mean success rates with 95 % intervals, given chances (n, len(ks))."""
    low, high = rate_interval(chance, generator=np.random.default_rng(0))
    return {
        "crystals": len(chance),
        "rate": {
            str(k): [round(float(v), 4) for v in (chance[:, i].mean(), low[i], high[i])]
            for i, k in enumerate(ks)
        },
    }


if __name__ == "__main__":
    run_command(main)
