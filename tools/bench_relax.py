#!/usr/bin/env python3
"""Benchmark RELAX against a serial loop with ASE's FIRE.

Both relax the same crystals with the same potential: hydrogen at random positions, first with a
fixed host (FixAtoms), then all positions, for at most --max_steps steps each. Every measurement
runs in its own process. Loop and batch alternate, and ratios compare consecutive measurements.
Prints tables and writes JSON.
"""

import argparse
import json
import multiprocessing
import os
import resource
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import ase.io
import numpy as np
import torch
from ase import Atoms
from ase.calculators.calculator import Calculator
from ase.constraints import FixAtoms
from ase.optimize import FIRE
from ase.optimize.optimize import Optimizer

from xtalfill.core.crystal import Crystal
from xtalfill.models.graphs import Host
from xtalfill.proposals.random_sites import random_sites
from xtalfill.relax.batched import BatchedRelaxer, Relaxation
from xtalfill.relax.potentials import SEVENNET_NAMES, load_potential

FMAX = 0.05  # eV/Angstrom
HYDROGEN = 1
LARGEST = 1000  # atoms of one crystal
GROWTH = ((1, 1, 1), (2, 1, 1), (2, 2, 1), (2, 2, 2), (3, 2, 2), (3, 3, 2), (3, 3, 3), (4, 4, 3))


@dataclass(frozen=True)
class Timing:
    """Timing of a set of relaxations.

    Attributes:
        structures: Number of structures.
        seconds: Total time without loading the potential.
        cpu_seconds: The same as CPU time of all threads.
        steps: FIRE steps of both relaxations.
        megabytes: Peak resident memory of the process, or peak GPU memory.
        energies: Final energies, eV.
    """

    structures: int
    seconds: float
    cpu_seconds: float
    steps: int
    megabytes: float
    energies: list[float]

    @property
    def per_minute(self) -> float:
        """Structures per minute."""
        return 60.0 * self.structures / self.seconds


def proposals(crystals: Path, count: int, seed: int) -> list[Atoms]:
    """Return `count` crystals, cycling through the file, with hydrogen last at random positions."""
    known = ase.io.read(crystals, ":")
    filled = []
    for index in range(count):
        atoms = known[index % len(known)]
        bare = atoms[atoms.numbers != HYDROGEN]
        n_sites = len(atoms) - len(bare)
        host = Host(bare.numbers, bare.positions, bare.cell.array, HYDROGEN, n_sites)
        sites = random_sites(host, generator=np.random.default_rng([seed, index]))
        filled.append(
            Atoms(bare.numbers, bare.positions, cell=bare.cell, pbc=True)
            + Atoms(["H"] * n_sites, sites)
        )
    return filled


def stock_calculator(mlip: str, device: str) -> Calculator:
    """Return the ASE calculator of the potential's package."""
    if mlip in SEVENNET_NAMES:
        from sevenn.calculator import SevenNetCalculator

        model, _, functional = mlip.partition(":")
        return SevenNetCalculator(model, device=device, modal=functional or None)
    from nequip.integrations.ase import NequIPCalculator

    load = (
        NequIPCalculator.from_compiled_model
        if mlip.endswith(".pt2")
        else NequIPCalculator._from_saved_model
    )
    return load(mlip, device=device, chemical_species_to_atom_type_map=True)


def relax_serially(
    structures: list[Atoms], options: argparse.Namespace, optimizer: type[Optimizer] = FIRE
) -> Timing:
    """Relax the structures one by one with ASE, with all threads."""
    calculator = stock_calculator(options.mlip, options.device)
    structures[0].calc = calculator
    structures[0].get_forces()  # warm-up: the first call may compile
    begin, cpu, steps, energies = time.perf_counter(), time.process_time(), 0, []
    for atoms in structures:
        atoms.calc = calculator
        for fixed in (atoms.numbers != HYDROGEN, np.zeros(len(atoms), dtype=bool)):
            atoms.set_constraint(FixAtoms(mask=fixed))
            relaxation = optimizer(atoms, logfile=None)
            relaxation.run(fmax=FMAX, steps=options.max_steps)
            steps += relaxation.get_number_of_steps()
        energies.append(float(atoms.get_potential_energy()))
    seconds, cpu = time.perf_counter() - begin, time.process_time() - cpu
    return Timing(len(structures), seconds, cpu, steps, _megabytes(options.device), energies)


def relax_batched(structures: list[Atoms], options: argparse.Namespace, size: int) -> Timing:
    """Relax as in RELAX, with about `size` structures in the batch."""
    torch.set_num_threads(1)
    potential = load_potential(options.mlip, device=options.device)
    mean = sum(len(atoms) for atoms in structures) / len(structures)
    threads = 1 if options.device == "cuda" else min(options.threads, size)
    driver = BatchedRelaxer(
        potential, max_atoms=max(1, round(size * mean / threads)), threads=threads, optimizer="fire"
    )
    crystals = [Crystal(a.numbers, a.positions, a.cell.array) for a in structures]
    potential.evaluate(crystals[:1])
    begin, cpu, steps, energies = time.perf_counter(), time.process_time(), 0, []
    jobs = [Relaxation(crystal, crystal.numbers == HYDROGEN) for crystal in crystals]
    for last in (False, True):
        results = driver.relax(jobs, fmax=FMAX, max_steps=options.max_steps)
        steps += sum(result.n_steps for result in results)
        jobs = [
            Relaxation(
                Crystal(job.crystal.numbers, result.positions, job.crystal.cell),
                np.ones(len(result.positions), dtype=bool),
                result.evaluation,
            )
            for job, result in zip(jobs, results, strict=True)
        ]
        if last:
            energies = [r.evaluation.energy if r.evaluation else np.nan for r in results]
    seconds, cpu = time.perf_counter() - begin, time.process_time() - cpu
    return Timing(len(structures), seconds, cpu, steps, _megabytes(options.device), energies)


def growth(structures: list[Atoms], options: argparse.Namespace) -> list[dict[str, float]]:
    """Return the time of a force call for supercells of increasing size, ours and the ASE one."""
    torch.set_num_threads(1)
    potential = load_potential(options.mlip, device=options.device)
    calculator = stock_calculator(options.mlip, options.device)
    rows = []
    for repeat in GROWTH:
        atoms = structures[0].repeat(repeat)
        if len(atoms) > LARGEST:
            break
        crystal = Crystal(atoms.numbers, atoms.positions, atoms.cell.array)
        atoms.calc = calculator

        def stock(atoms: Atoms = atoms) -> None:
            calculator.calculate(atoms, ["energy", "forces"], ["positions"])

        ours = _seconds(lambda crystal=crystal: potential.evaluate([crystal]))
        rows.append({"atoms": len(atoms), "ours": ours, "stock": _seconds(stock)})
    return rows


def _seconds(call: Callable[[], Any]) -> float:
    """Return the median time of three calls after one warm-up call."""
    call()
    times = []
    for _ in range(3):
        begin = time.perf_counter()
        call()
        times.append(time.perf_counter() - begin)
    return median(times)


def _megabytes(device: str) -> float:
    if device == "cuda":
        return torch.cuda.max_memory_allocated() / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10


def alone(call: Callable[..., Any], *args: Any) -> Any:
    """Call a function in a new process, to measure its peak memory."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(call, args)


def compare(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Measure each batch size and the serial loop; print and return a row for each size."""
    rows = []
    print("| at once | structures/min | ASE loop | ratio | MB | ASE loop MB | largest |ΔE|, meV |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for size in options.sizes:
        pairs = []
        for repeat in range(options.repeats):
            many = proposals(options.crystals, max(size, options.serial), options.seed + repeat)
            loop = alone(relax_serially, many[: options.serial], options)
            pairs.append((alone(relax_batched, many, options, size), loop))
        ratios = [batched.per_minute / loop.per_minute for batched, loop in pairs]
        batched, loop = pairs[int(np.argsort(ratios)[len(ratios) // 2])]
        both = zip(batched.energies, loop.energies, strict=False)
        apart = max(abs(ours - ases) for ours, ases in both) * 1e3
        print(
            f"| {size} | {batched.per_minute:.1f} | {loop.per_minute:.1f} "
            f"| {median(ratios):.1f} ({min(ratios):.1f}–{max(ratios):.1f}) "
            f"| {batched.megabytes:.0f} | {loop.megabytes:.0f} | {apart:.1f} |",
            flush=True,
        )
        rows.append(
            {"size": size, "ratios": ratios, "batched": asdict(batched), "loop": asdict(loop)}
        )
    return rows


def main() -> None:
    """Run both benchmarks."""
    here = Path(__file__).resolve().parent.parent
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--crystals", type=Path, default=here / "assets/demo/references.extxyz")
    parser.add_argument("--mlip", default="7net-0")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--sizes", type=int, nargs="+", default=[1, 8, 32, 128, 512])
    parser.add_argument("--serial", type=int, default=6, help="structures of the ASE loop")
    parser.add_argument("--max_steps", type=int, default=6, help="of each relaxation")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--output", type=Path, required=True, help="JSON to write")
    options = parser.parse_args()
    rows = compare(options)
    grown = alone(growth, proposals(options.crystals, 1, options.seed), options)
    print("\n| atoms | ours, ms/atom | ASE calculator, ms/atom |\n| --- | --- | --- |")
    for row in grown:
        ours, stock = (1e3 * row[key] / row["atoms"] for key in ("ours", "stock"))
        print(f"| {row['atoms']} | {ours:.2f} | {stock:.2f} |")
    result = {"mlip": options.mlip, "device": options.device, "relaxations": rows, "growth": grown}
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(result, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
