#!/usr/bin/env python3
"""Measure many candidates of several sources for the same crystals; tools/search_cover.py reads it.

Hydrogen is removed from each crystal. Each source of method mix proposes its candidates, all are
relaxed as in a run, and compared with the crystal relaxed in the same way. Seconds are those of one
core: the proposals of a source are timed together, a relaxation takes its share of the steps.
Results of finished crystals are kept. The candidates are those that method mix has, too.
"""

import argparse
import json
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"

import ase.io
import numpy as np
import torch
from ase import Atoms

from xtalfill.core import crystal as core
from xtalfill.core.batch import REFERENCE, Batch, Stage
from xtalfill.core.errors import run_command
from xtalfill.core.files import WEIGHTS
from xtalfill.core.io import atomic_writer, read_json_lines
from xtalfill.core.relaxations import POSITIONS, RANK, SITES, final_stage
from xtalfill.evaluate.match import evaluate_batch
from xtalfill.inputs.batching import build_batch
from xtalfill.inputs.hosts import CheckedHost
from xtalfill.inputs.references import Reference
from xtalfill.interactive.settings import make_all_settings
from xtalfill.proposals.score_models import ScoreModels, load_models
from xtalfill.proposals.stage import inpaint_batch
from xtalfill.registry.mix import CLASSES, MIX, Mix, Share, Source, host_class, read_mix
from xtalfill.relax.interface import Evaluation, Potential
from xtalfill.relax.optimizers import OPTIMIZERS
from xtalfill.relax.potentials import load_potential
from xtalfill.relax.settings import RelaxSettings
from xtalfill.relax.stage import relax_batch
from xtalfill.training.data import HYDROGEN

Record = dict[str, Any]
SETTINGS = make_all_settings({})  # the defaults of the pipeline
RELAXATION = replace(SETTINGS.relax.relaxation, threads=1)
# Of a candidate that its source does not have.
NO_MORE = "inpaint: no source of the mix can fill the host"


@dataclass(frozen=True)
class Crystal:
    """A crystal to restore.

    Attributes:
        host: Without its hydrogen.
        reference: With it.
    """

    host: CheckedHost
    reference: Reference

    @classmethod
    def of(cls, atoms: Atoms) -> "Crystal":
        """Return a crystal as CHECK would."""
        rest = atoms[atoms.numbers != HYDROGEN]
        whole = rest + atoms[atoms.numbers == HYDROGEN]
        host = CheckedHost(atoms.info["id"], "", rest, HYDROGEN, len(atoms) - len(rest))
        return cls(host, Reference("", whole, len(rest)))


def propose(
    crystal: Crystal, sources: Mapping[str, int], models: ScoreModels, *, seed: int
) -> tuple[Batch, list[float]]:
    """Return candidates and reference after INPAINT, and the seconds of each candidate.

    Args:
        crystal: The crystal.
        sources: Name -> number of candidates.
        models: The weights.
        seed: The seed of the run.
    """
    known = read_mix().sources
    parts: list[Batch] = []
    seconds: list[float] = []
    for name, count in sources.items():
        mix = only(known[name])
        batch = build_batch([crystal.host], {}, methods=[MIX], samples=count, seed=seed, mix=mix)
        begin = time.process_time()
        inpaint_batch(batch, models, SETTINGS.inpaint.sampler, mix=mix)
        seconds += [(time.process_time() - begin) / count] * count
        parts.append(batch)
    name, reference = crystal.host.id, crystal.reference
    batch = build_batch(
        [crystal.host], {name: reference}, methods=[MIX], samples=len(seconds), seed=seed, mix=mix
    )
    arrays = {
        key: np.concatenate([part.stages["inpaint"].arrays[key] for part in parts])
        for key in ("positions", "source")
    }
    arrays["positions"] = np.concatenate([arrays["positions"], reference.atoms.positions])
    arrays["source"] = np.append(arrays["source"], "")
    batch.stages["inpaint"] = Stage(arrays)
    for field in ("status", "message"):
        rows = np.concatenate([getattr(part, field) for part in parts])
        getattr(batch, field)[: len(rows)] = rows
    return batch, seconds


def only(source: Source) -> Mix:
    """Return the mix of one source, whose proposals are all candidates."""
    source = replace(source, looks=1)
    shares = [Share(name, None, {source.name: 1.0}) for name in CLASSES]
    return Mix({source.name: source}, shares)


def relaxed_seconds(batch: Batch, first: float, second: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the seconds (n_systems,) of each relaxation with the first and second potential.

    Args:
        batch: One crystal after RELAX.
        first: Seconds of all relaxations with the first potential.
        second: The same with the second.
    """
    # One evaluation before the steps of each relaxation.
    steps = sum(batch.stages[name].arrays["n_steps"] for name in (SITES, POSITIONS))
    one = np.where(np.isfinite(batch.stages[SITES].arrays["energy"]), steps + 2.0, 0.0)
    other = np.zeros(batch.n_systems)
    if RANK in batch.stages:
        ranked = batch.stages[RANK].arrays
        alone = np.isfinite(ranked["energy"]) & (ranked["merged_with"] < 0)
        other = np.where(alone, ranked["n_steps"] + 1.0, 0.0)
    return first * one / max(one.sum(), 1.0), second * other / max(other.sum(), 1.0)


def measure(
    crystal: Crystal,
    sources: Mapping[str, int],
    models: ScoreModels,
    potentials: tuple[Potential, Potential | None],
    *,
    seed: int,
    relaxation: RelaxSettings = RELAXATION,
) -> Record:
    """Return what became of all candidates of a crystal."""
    batch, proposed = propose(crystal, sources, models, seed=seed)
    first, second = potentials[0], Timed(potentials[1]) if potentials[1] else None
    begin = time.process_time()
    with Path(os.devnull).open("w") as silent:
        relax_batch(batch, first, relaxation, ranking=second, progress=silent)
    total = time.process_time() - begin
    of_second = second.seconds if second is not None else 0.0
    one, other = relaxed_seconds(batch, total - of_second, of_second)
    found = evaluate_batch(batch).arrays
    merged = batch.stages[RANK].arrays["merged_with"] if RANK in batch.stages else None
    before = batch.stages[POSITIONS].arrays["energy"] / len(crystal.reference.atoms)
    looks = look_energies(batch, first)
    steps = sum(batch.stages[name].arrays["n_steps"] for name in (SITES, POSITIONS))
    rows = []
    for i in np.flatnonzero(batch.method != REFERENCE).tolist():
        into = i if merged is None or merged[i] < 0 else int(merged[i])
        above = float(found["energy_above_reference"][i])
        usable = batch.status[i] == "ok" and np.isfinite(above)
        rows.append(
            {
                "source": batch.stages["inpaint"].arrays["source"][i],
                "status": batch.status[i] if batch.message[i] != NO_MORE else "absent",
                "look": looks[i],
                "above": above if usable else None,
                "first": float(before[i]) if batch.status[i] in ("ok", "dropped") else None,
                "matched": bool(found["matched"][i] and usable),
                "les": bool(found["les"][i] and usable),
                "proposed": proposed[i],
                "relaxed": float(one[i]),
                "steps": int(steps[i]),
                "minimum": into,
                "ranked": float(other[into]),
            }
        )
    reference = batch.reference_of(crystal.host.id)
    return {
        "id": crystal.host.id,
        "n_atoms": len(crystal.reference.atoms),
        "n_sites": crystal.host.n_missing,
        "host_class": host_class(crystal.host.atoms.numbers.tolist()),
        "site_class": found["site_class"][reference],
        "usable": bool(found["has_reference"].any()),
        "relaxed": final_stage(batch),
        "candidates": rows,
    }


def look_energies(batch: Batch, potential: Potential) -> list[float | None]:
    """Return the energy of each proposal before it relaxes, eV/atom; None where it has no sites."""
    proposals = {i: core.crystal_of(batch, i, "inpaint") for i in range(batch.n_systems)}
    whole = {i: one for i, one in proposals.items() if np.isfinite(one.positions).all()}
    found = dict(zip(whole, potential.evaluate(list(whole.values())), strict=True))
    return [
        found[i].energy / len(proposals[i].numbers) if i in found else None
        for i in range(batch.n_systems)
    ]


class Timed:
    """A potential that counts its core-seconds.

    Args:
        potential: The potential.
    """

    def __init__(self, potential: Potential) -> None:
        self.name, self.elements = potential.name, potential.elements
        self.weights, self.packages = potential.weights, potential.packages
        self.seconds, self._potential = 0.0, potential

    def evaluate(self, crystals: Sequence[core.Crystal]) -> list[Evaluation]:
        """Return energy and forces of each crystal."""
        begin = time.process_time()
        try:
            return self._potential.evaluate(crystals)
        finally:
            self.seconds += time.process_time() - begin


def main() -> None:
    """Measure all crystals that are not yet in the output."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--crystals", type=Path, required=True, help="extxyz with ids in `id`")
    parser.add_argument(
        "--sources", nargs="+", metavar="NAME:COUNT",
        default=["host:10", "host_warm:10", "symmetric:10", "voids:5", "random:5"],
    )  # fmt: skip
    parser.add_argument("--model", type=Path, nargs="*", default=[], help="weights of host")
    parser.add_argument("--mlip", required=True, help="name or model file")
    parser.add_argument("--mlip_rank", help="second potential")
    parser.add_argument(
        "--largest", type=int, default=40, help="atoms; larger crystals are left out"
    )
    parser.add_argument(
        "--most_sites", type=int, default=40, help="missing; crystals with more are left out"
    )
    parser.add_argument("--optimizer", choices=OPTIMIZERS, default=RELAXATION.optimizer)
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--output", type=Path, required=True, help="JSON lines of the crystals")
    args = parser.parse_args()
    torch.set_num_threads(1)
    sources = {name: int(count) for name, _, count in (s.partition(":") for s in args.sources)}
    models = load_models([MIX], given=args.model, bundled=sorted(WEIGHTS.glob("*.pt")))
    first = load_potential(args.mlip, device="cpu")
    second = load_potential(args.mlip_rank, device="cpu") if args.mlip_rank else None
    known = first.elements if second is None else first.elements & second.elements
    records = read_json_lines(args.output) if args.output.is_file() else []
    done = {record["id"] for record in records}
    for atoms in ase.io.read(args.crystals, ":"):
        if atoms.info["id"] in done or not set(atoms.numbers.tolist()) <= known:
            continue
        few = (atoms.numbers == HYDROGEN).sum() <= args.most_sites
        if few and len(atoms) <= args.largest:
            record = measure(
                Crystal.of(atoms), sources, models, (first, second), seed=args.seed,
                relaxation=replace(RELAXATION, optimizer=args.optimizer),
            )  # fmt: skip
            records.append(record)
            with atomic_writer(args.output) as file:
                file.writelines(json.dumps(one) + "\n" for one in records)
            rates = [one["les"] for one in record["candidates"]]
            print(f"{record['id']}: LES {sum(rates)} of {len(rates)}", flush=True)


if __name__ == "__main__":
    run_command(main)
