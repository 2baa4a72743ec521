#!/usr/bin/env python3
"""Measure proposals before any relaxation: hydrogen out of each crystal, back in, does it match?

An ideal ranking is assumed: a crystal is found by k candidates if any of them matches. Reports
rates with bootstrap intervals over crystals, by size, number of sites and class, as JSON.
"""

import argparse
import json
import os
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from functools import partial
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"

import ase.io
import numpy as np
import torch
from ase import Atoms

from xtalfill.evaluate.metrics import (
    SITE_BINS,
    SIZE_BINS,
    any_of_k,
    bin_label,
    bootstrap_interval,
)
from xtalfill.inpaint.methods import METHODS, Method
from xtalfill.inpaint.models import load_models
from xtalfill.inpaint.sampler import candidate_generator
from xtalfill.inpaint.settings import SamplerSettings
from xtalfill.training.data import HYDROGEN, Task, remove_sublattice
from xtalfill.training.validate import is_match


def main() -> None:
    """Run the benchmark and write its JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bench", type=Path, required=True, help="extxyz of whole crystals")
    parser.add_argument("--model", type=Path, nargs="*", default=[])
    parser.add_argument("--method", choices=METHODS, default="host")
    parser.add_argument("--samples", type=int, default=10)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--predictor", default="x0_renoise")
    parser.add_argument("--corrector_steps", type=int, default=0)
    parser.add_argument("--corrector_rule", default="score")
    parser.add_argument("--snr", type=float, default=0.2)
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--output", type=Path, required=True, help="JSON to write")
    args = parser.parse_args()
    frames = ase.io.read(args.bench, ":")
    judge = partial(matches, args=args)
    with ProcessPoolExecutor(args.workers) as pool:
        found = np.array(list(pool.map(judge, frames, chunksize=4)))
    ks = [k for k in (1, 2, 5, 10, 20) if k <= args.samples]
    chance = np.array([any_of_k(row, ks) for row in found])
    result = {
        "method": args.method,
        "weights": load_models([args.method], given=args.model, bundled=[]).checksums,
        "samples": args.samples,
        **asdict(settings_of(args)),
        "seed": args.seed,
        "crystals": len(frames),
        "all": rates(chance, ks),
        "groups": {
            name: rates(chance[np.array(labels) == name], ks)
            for labels in groupings(frames)
            for name in sorted(set(labels))
        },
    }
    args.output.write_text(json.dumps(result, indent=2, ensure_ascii=False) + "\n")
    print(json.dumps(result["all"]))


def settings_of(args: argparse.Namespace) -> SamplerSettings:
    """Return how to sample."""
    return SamplerSettings(
        steps=args.steps,
        predictor=args.predictor,
        corrector_steps=args.corrector_steps,
        corrector_rule=args.corrector_rule,
        snr=args.snr,
    )


def task_of(atoms: Atoms) -> Task:
    """Return the crystal with its hydrogen taken out."""
    removed = atoms.numbers == HYDROGEN
    return remove_sublattice(atoms.numbers, atoms.positions, atoms.cell.array, removed)


def matches(atoms: Atoms, *, args: argparse.Namespace) -> list[bool]:
    """Tell which of a crystal's candidates match it."""
    torch.set_num_threads(1)
    task = task_of(atoms)
    models = load_models([args.method], given=args.model, bundled=[])
    method = Method(args.method, models, settings_of(args))
    generators = [
        candidate_generator(seed=args.seed, structure_id=atoms.info["material_id"], sample=sample)
        for sample in range(args.samples)
    ]
    proposals = method.propose([task.host] * args.samples, generators)
    return [is_match(task, sites) for sites in proposals]


def groupings(frames: list[Atoms]) -> list[list[str]]:
    """Return, for each way to split the crystals, the label of every crystal."""
    missing = [int((atoms.numbers == HYDROGEN).sum()) for atoms in frames]
    return [
        [bin_label(len(atoms), SIZE_BINS) for atoms in frames],
        [bin_label(count, SITE_BINS) for count in missing],
        [atoms.info.get("h_class") or "unknown" for atoms in frames],
    ]


def rates(chance: np.ndarray, ks: list[int]) -> dict[str, object]:
    """Return the mean chance (n, len(ks)) to find a crystal, with 95 % intervals."""
    low, high = bootstrap_interval(chance, generator=np.random.default_rng(0))
    return {
        "crystals": len(chance),
        "rate": {
            str(k): [round(float(v), 4) for v in (chance[:, i].mean(), low[i], high[i])]
            for i, k in enumerate(ks)
        },
    }


if __name__ == "__main__":
    main()
