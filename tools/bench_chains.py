#!/usr/bin/env python3
"""Compare potentials, alone and in chains, on the same proposals; one judge for all.

Hydrogen is removed from each crystal and proposed again, once for all chains. Each chain ("7net-0",
or "nequip-small.nequip.zip+nequix-oam-1.nqx" for --mlip and --mlip_rank) relaxes the proposals and
selects its lowest candidate. The judge then relaxes that candidate and the true crystal, and
compares them. Seconds are those of one core. Finished results in the output are kept, so that a
chain can be added later with the same proposals.
"""

import argparse
import copy
import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"

import ase.io
import numpy as np
import torch
from ase import Atoms

from xtalfill.core.batch import Batch
from xtalfill.core.crystal import Crystal
from xtalfill.core.errors import run_command
from xtalfill.core.io import atomic_writer, write_json
from xtalfill.core.matching import reduced, same_crystal
from xtalfill.core.relaxations import ENERGY_WINDOW, final_stage
from xtalfill.evaluate.metrics import rate_cell
from xtalfill.proposals.diffusion.settings import SamplerSettings
from xtalfill.proposals.score_models import ScoreModels, load_models
from xtalfill.proposals.stage import inpaint_batch
from xtalfill.registry.potentials import short_name
from xtalfill.relax.batched import BatchedRelaxer, Relaxation
from xtalfill.relax.interface import Potential
from xtalfill.relax.potentials import load_potential
from xtalfill.relax.settings import RelaxSettings
from xtalfill.relax.stage import relax_batch
from xtalfill.training.data import HYDROGEN

SAMPLER = SamplerSettings(
    steps=100, predictor="x0_renoise", renoise=0.7, corrector_steps=0, corrector_rule="score"
)
RELAXATION = RelaxSettings(0.05, 200, 0.05, 500, max_atoms_per_batch=400)

COLUMNS = [
    {"key": "les", "title": "LES", "unit": "%", "digits": 0},
    {"key": "match", "title": "match", "unit": "%", "digits": 0},
    {"key": "lowest", "title": "lowest of all chains", "unit": "%", "digits": 0},
    {"key": "same", "title": "as by the judge alone", "unit": "%", "digits": 0},
    {"key": "seconds", "title": "a crystal", "unit": "core-seconds", "digits": 1},
]

Record = dict[str, Any]


def proposals(atoms: Atoms, methods: Mapping[str, int], models: ScoreModels, *, seed: int) -> Batch:
    """Return the candidates of a crystal after INPAINT, `methods` name -> number of them."""
    host = atoms[atoms.numbers != HYDROGEN]
    n_sites = len(atoms) - len(host)
    numbers = np.append(host.numbers, [HYDROGEN] * n_sites)
    positions = np.vstack([host.positions, np.full((n_sites, 3), np.nan)])
    n = sum(methods.values())
    batch = Batch(
        positions=np.tile(positions, (n, 1)),
        atomic_numbers=np.tile(numbers, n),
        system_idx=np.repeat(np.arange(n), len(numbers)),
        is_host=np.tile(np.arange(len(numbers)) < len(host), n),
        cell=np.repeat(atoms.cell.array[None], n, axis=0),
        id=[atoms.info["id"]] * n,
        method=[name for name, count in methods.items() for _ in range(count)],
        sample=np.concatenate([np.arange(count) for count in methods.values()]),
        seed=[seed] * n,
        status=["ok"] * n,
        message=[""] * n,
    )
    inpaint_batch(batch, models, SAMPLER)
    return batch


class Judge:
    """Relaxes crystals with one potential.

    Args:
        potential: The potential.
    """

    def __init__(self, potential: Potential) -> None:
        self._relaxer = BatchedRelaxer(potential, max_atoms=400, optimizer="fire")

    def relaxed(self, frames: list[Atoms]) -> list[tuple[Atoms, float] | None]:
        """Return each crystal in its minimum and its energy, eV/atom; None where it failed."""
        jobs = [
            Relaxation(Crystal(a.numbers, a.positions, a.cell.array), np.ones(len(a), dtype=bool))
            for a in frames
        ]
        results = self._relaxer.relax(jobs, fmax=RELAXATION.fmax, max_steps=RELAXATION.max_steps)
        found: list[tuple[Atoms, float] | None] = []
        for atoms, result in zip(frames, results, strict=True):
            if result.evaluation is None:
                found.append(None)
                continue
            moved = Atoms(atoms.numbers, result.positions, cell=atoms.cell, pbc=True)
            found.append((moved, result.evaluation.energy / len(atoms)))
        return found


def winner(batch: Batch) -> Atoms | None:
    """Return the relaxed candidate with the lowest energy; converged ones come first."""
    stage = final_stage(batch)
    energy = batch.stages[stage].arrays["energy"]
    usable = [i for i in range(batch.n_systems) if batch.status[i] in ("ok", "unconverged")]
    if not usable:
        return None
    best = min(usable, key=lambda i: (batch.status[i] != "ok", energy[i]))
    return batch.to_ase(best, stage=stage)


def measure(
    atoms: Atoms,
    batch: Batch,
    chains: Mapping[str, tuple[Potential, Potential | None]],
    judge: Judge,
) -> Record:
    """Relax the proposals of a crystal with each chain; return times and judged winners."""
    winners, seconds = {}, {}
    with Path(os.devnull).open("w") as silent:
        for name, (first, second) in chains.items():
            own = copy.deepcopy(batch)
            begin = time.process_time()
            relax_batch(own, first, RELAXATION, ranking=second, progress=silent)
            seconds[name] = time.process_time() - begin
            winners[name] = winner(own)
    names = [name for name, one in winners.items() if one is not None]
    reference, *found = judge.relaxed([atoms, *(winners[name] for name in names)])
    record: Record = {"id": atoms.info["id"], "n_atoms": len(atoms), "chains": {}}
    judged = dict(zip(names, found, strict=True))
    for name in chains:
        one = judged.get(name)
        row: Record = {"seconds": seconds[name], "above": None, "match": False}
        if one is not None and reference is not None:
            row["above"] = one[1] - reference[1]  # eV/atom
            row["match"] = same_crystal(reduced(one[0]), reduced(reference[0]))
        record["chains"][name] = row
    return record


def summary(records: list[Record], chains: list[str], judge: str = "") -> Record:
    """Return the crystals and rows of the table, in the format of docs/benchmarks/data.

    Args:
        records: Finished crystals, with each of the chains.
        chains: Names of the rows.
        judge: The chain that has the judge alone, if there is one: rows tell how often their
            winner has the energy of its winner.
    """
    rows = []
    every = np.array([[_above(record, name) for name in chains] for record in records])
    lowest = every.min(axis=1)
    for number, name in enumerate(chains):
        found = [record["chains"][name] for record in records]
        above = every[:, number]
        match = np.array([row["match"] for row in found])
        cells = {
            "match": _rate(match),
            "les": _rate(match | (above < -ENERGY_WINDOW)),
            "lowest": _rate(above <= lowest + ENERGY_WINDOW),
            "seconds": round(float(np.mean([row["seconds"] for row in found])), 1),
        }
        if judge in chains:
            cells["same"] = _rate(np.abs(above - every[:, chains.index(judge)]) <= ENERGY_WINDOW)
        label = ", then ".join(f"`{short_name(part)}`" for part in name.split("+"))
        rows.append({"key": label.replace("`", ""), "label": label, "cells": cells})
    return {"crystals": len(records), "rows": rows}


def _above(record: Record, chain: str) -> float:
    """Return the energy of a winner above the true crystal, eV/atom; infinite without a winner."""
    above = record["chains"][chain]["above"]
    return np.inf if above is None else float(above)


def _rate(success: np.ndarray) -> Record:
    return rate_cell(success.astype(float), generator=np.random.default_rng(0))


def main() -> None:
    """Measure all crystals that are not yet in the output."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--crystals", type=Path, required=True, help="extxyz with ids in `id`")
    parser.add_argument("--methods", nargs="+", default=["host:5"], metavar="NAME:COUNT")
    parser.add_argument("--model", type=Path, nargs="*", default=[])
    parser.add_argument("--chains", nargs="+", required=True, metavar="MLIP[+MLIP_RANK]")
    parser.add_argument("--judge", required=True, help="potential that compares the winners")
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--output", type=Path, required=True, help="JSON lines of the crystals")
    parser.add_argument("--table", type=Path, help="JSON of the table")
    args = parser.parse_args()
    torch.set_num_threads(1)
    methods = {name: int(count) for name, _, count in (m.partition(":") for m in args.methods)}
    models = load_models(list(methods), given=args.model, bundled=[])
    known = {name for chain in args.chains for name in chain.split("+")} | {args.judge}
    potentials = {name: load_potential(name, device="cpu") for name in known}
    chains = {}
    for chain in args.chains:
        first, _, second = chain.partition("+")
        chains[without_folders(chain)] = (potentials[first], potentials.get(second))
    judge = Judge(potentials[args.judge])
    records = read_records(args.output)
    for atoms in ase.io.read(args.crystals, ":"):
        name, elements = atoms.info["id"], set(atoms.numbers.tolist())
        known_chains = records.get(name, {}).get("chains", {})
        left = {key: value for key, value in chains.items() if key not in known_chains}
        if not left or not all(elements <= p.elements for p in potentials.values()):
            continue
        record = measure(atoms, proposals(atoms, methods, models, seed=args.seed), left, judge)
        record["chains"] = known_chains | record["chains"]
        records[name] = record
        with atomic_writer(args.output) as file:
            file.writelines(json.dumps(one) + "\n" for one in records.values())
        print(json.dumps(record), flush=True)
    complete = [one for one in records.values() if chains.keys() <= one["chains"].keys()]
    table = {
        "title": f"Potentials and chains, judged by {short_name(args.judge)}",
        "transcribed": False,
        "commands": _commands(args),
        "label": "relaxed by",
        "columns": COLUMNS,
        **summary(complete, list(chains), without_folders(args.judge)),
    }
    print(json.dumps(table, indent=1, ensure_ascii=False))
    if args.table:
        write_json(args.table, table)


def read_records(path: Path) -> dict[str, Record]:
    """Return the finished records of an output by id, none if there is no file."""
    lines = path.read_text().splitlines() if path.is_file() else []
    return {record["id"]: record for record in map(json.loads, lines)}


def without_folders(chain: str) -> str:
    """Return the name of a chain: its potentials without the folders of their files."""
    return "+".join(Path(part).name for part in chain.split("+"))


def _commands(args: argparse.Namespace) -> list[str]:
    """Return the command of this run, without folders."""
    chains = [without_folders(chain) for chain in args.chains]
    model = f"--model {' '.join(path.name for path in args.model)} " if args.model else ""
    return [
        f"python tools/bench_chains.py --crystals {args.crystals.name} {model}\\",
        f"    --methods {' '.join(args.methods)} --judge {Path(args.judge).name} \\",
        f"    --chains {' '.join(chains)} --output chains.jsonl",
    ]


if __name__ == "__main__":
    run_command(main)
