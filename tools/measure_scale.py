#!/usr/bin/env python3
"""Measure memory, time, files and bytes of runs of the pipeline against the number of structures.

Crystals are drawn from a training file by a seed. Those with hydrogen lose it, the others get two
sites to fill, since too few have any. Each number of crystals is one run with one candidate and few
steps, so that what grows with the number, and not the relaxation, is seen. Memory is that of every
task, from Nextflow's trace, and of Nextflow itself, from /proc (Linux).
"""

import argparse
import os
import resource
import subprocess
import threading
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
from ase import Atoms

from xtalfill.core.errors import InputError, run_command
from xtalfill.core.io import write_json
from xtalfill.inputs.structures import stream_structures
from xtalfill.monitor.tasks import COMPLETED, read_trace

REPOSITORY = Path(__file__).resolve().parents[1]
HYDROGEN, SITES = 1, 2
# Tiny: the relaxation is not what is measured.
FIXED = {
    "samples": 1, "method": "host", "steps": 5, "mlip": "oam-small", "mlip_rank": "none",
    "sites_max_steps": 2, "max_steps": 2, "relax_cpus": 1,
}  # fmt: skip
PERIOD = 0.5  # s between two looks at Nextflow


@dataclass
class Head:
    """What Nextflow itself used: the most memory, bytes, and its CPU time, s."""

    peak_rss: int = 0
    cpu_seconds: float = 0.0


def main() -> None:
    """Run each number and write all measures and their slopes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="training file (HDF5)")
    parser.add_argument("--numbers", type=int, nargs="+", required=True, help="of structures")
    parser.add_argument("--max_atoms", type=int, default=40, help="of a crystal")
    parser.add_argument("--batch_size", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--folder", type=Path, required=True, help="new folder for the runs")
    parser.add_argument("--output", type=Path, required=True, help="JSON of the measures")
    args = parser.parse_args()
    hosts = draw_hosts(args.data, max(args.numbers), max_atoms=args.max_atoms, seed=args.seed)
    args.folder.mkdir(parents=True)
    runs = []
    for number in sorted(set(args.numbers)):
        folder = args.folder.resolve() / str(number)
        runs.append(measure(hosts[:number], folder, batch_size=args.batch_size))
        settings = FIXED | {name: getattr(args, name) for name in ("batch_size", "max_atoms")}
        content = {"seed": args.seed, "settings": settings, "cores": os.cpu_count()}
        # After each run: one that takes a day may be stopped.
        write_json(args.output, content | {"runs": runs, "fits": fits(runs)})
        shown = {name: runs[-1][name] for name in ("structures", "seconds", "cpu_seconds")}
        print(shown, flush=True)


def draw_hosts(path: Path, number: int, *, max_atoms: int, seed: int) -> list[Atoms]:
    """Return hosts without hydrogen of crystals that a seed draws, in an order it decides.

    Args:
        path: Training file.
        number: Number of hosts.
        max_atoms: Largest crystal of the file that is drawn.
        seed: Of the draw; a smaller number gives the first of a larger one.

    Raises:
        InputError: The file has fewer such crystals.
    """
    ids = [
        one.entry.fallback_id
        for one in stream_structures(path)
        if one.entry.atoms is not None and _can_be_drawn(one.entry.atoms, max_atoms)
    ]
    if len(ids) < number:
        raise InputError(f"{path}: only {len(ids)} crystals; draw fewer, or raise --max_atoms")
    order = np.random.default_rng(seed).permutation(len(ids))[:number]
    wanted = {ids[place]: rank for rank, place in enumerate(order)}
    hosts: dict[int, Atoms] = {}
    for one in stream_structures(path):
        rank, atoms = wanted.get(one.entry.fallback_id), one.entry.atoms
        if rank is not None and atoms is not None:
            hosts[rank] = atoms[atoms.numbers != HYDROGEN]
            removed = int((atoms.numbers == HYDROGEN).sum())
            hosts[rank].info = {
                "id": one.entry.id or one.entry.fallback_id,
                "n_missing": removed or SITES,
            }
    return [hosts[rank] for rank in range(number)]


def _can_be_drawn(atoms: Atoms, max_atoms: int) -> bool:
    return len(atoms) <= max_atoms and not bool((atoms.numbers == HYDROGEN).all())


def measure(hosts: list[Atoms], folder: Path, *, batch_size: int) -> dict[str, Any]:
    """Run the pipeline on some hosts in a new folder; return what it took.

    Raises:
        InputError: The run failed.
    """
    folder.mkdir()
    ase.io.write(folder / "hosts.extxyz", hosts)
    settings = FIXED | {"batch_size": batch_size, "input": "hosts.extxyz", "database": "results.db"}
    command = ["nextflow", "run", str(REPOSITORY / "main.nf"), "--outdir", "results"]
    command += [word for name, value in settings.items() for word in (f"--{name}", str(value))]
    before = _children_seconds()
    with (folder / "log").open("wb") as log:
        run = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log)  # noqa: S603 - our own
        head = _watched(run)
    if run.returncode or not head.peak_rss:
        what = "the run failed" if run.returncode else "Nextflow was not seen in /proc"
        raise InputError(f"{folder / 'log'}: {what}; its last lines say why")
    trace = folder / "results" / "pipeline_info" / "trace.txt"
    begin = min(task.started for task in read_trace(trace)).timestamp()
    return {
        "structures": len(hosts),
        "atoms": sum(len(host) + host.info["n_missing"] for host in hosts),
        "seconds": trace.stat().st_mtime - begin,
        "cpu_seconds": _children_seconds() - before,
        "head": asdict(head),
        "stages": stages_of(trace),
        "folders": {
            name: usage(folder / name) for name in ("results", "work", ".nextflow", "results.db")
        },
        "files": {
            name: (folder / "results" / name).stat().st_size
            for name in ("report.html", "provenance.json", "results.csv", "candidates.csv")
        },
    }


def _children_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _watched(run: subprocess.Popen[bytes]) -> Head:
    """Wait for a run and return what its Nextflow used; the launcher becomes its Java process."""
    head, ended = Head(), threading.Event()

    def look() -> None:
        while not ended.wait(PERIOD):
            _look_at(Path(f"/proc/{run.pid}"), head)

    watcher = threading.Thread(target=look, daemon=True)
    watcher.start()
    run.wait()
    ended.set()
    watcher.join()
    return head


def _look_at(process: Path, head: Head) -> None:
    """Note memory and CPU time of a process once it is Nextflow; it may end meanwhile."""
    try:
        if b"nextflow.cli.Launcher" not in (process / "cmdline").read_bytes():
            return
        status = dict(line.split(":", 1) for line in (process / "status").read_text().splitlines())
        # The name of a program may hold blanks and brackets; the numbers follow the last bracket.
        numbers = (process / "stat").read_text().rpartition(")")[2].split()
    except (OSError, ValueError):
        return
    head.peak_rss = max(head.peak_rss, 1024 * int(status["VmHWM"].split()[0]))
    head.cpu_seconds = max(
        head.cpu_seconds, (int(numbers[11]) + int(numbers[12])) / os.sysconf("SC_CLK_TCK")
    )


def stages_of(trace: Path) -> dict[str, dict[str, float]]:
    """Return for each stage: tasks, the most memory of one in bytes, and the core-seconds of all.

    Args:
        trace: Nextflow's trace of a run that ended.
    """
    header, *lines = trace.read_text(encoding="utf-8").splitlines()
    memory = header.split("\t").index("peak_rss")
    peaks = [_bytes(line.split("\t")[memory]) for line in lines]
    found: dict[str, dict[str, float]] = {}
    for task, peak in zip(read_trace(trace), peaks, strict=True):
        if task.status == COMPLETED:
            stage = found.setdefault(task.process, {"tasks": 0, "peak_rss": 0, "core_seconds": 0.0})
            stage["tasks"] += 1
            stage["peak_rss"] = max(stage["peak_rss"], peak)
            stage["core_seconds"] += task.cpu_seconds or 0.0
    return found


def _bytes(text: str) -> int:
    """Return a size as Nextflow writes it, such as "13.3 MB", in bytes; 0 where it has none."""
    number, _, unit = text.partition(" ")
    powers = {"B": 0, "KB": 1, "MB": 2, "GB": 3, "TB": 4}
    return round(float(number) * 1024 ** powers[unit]) if unit in powers else 0


def usage(path: Path) -> dict[str, int]:
    """Return the number of files, folders and links at a place, and their bytes on disk."""
    found = [path, *path.rglob("*")] if path.is_dir() else [path]
    # A block counts 512 bytes whatever the file system; a hard link counts once.
    states = {(state.st_dev, state.st_ino): state for state in map(os.lstat, found)}
    return {"inodes": len(states), "bytes": sum(512 * one.st_blocks for one in states.values())}


def fits(runs: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Fit each measure by a line over the number of structures; none with fewer than two runs.

    Returns:
        Measure -> intercept, slope for each structure, and the largest deviation of a run from
        the line as a share of its value.
    """
    rows = [flat(run) for run in runs]
    if len(rows) < 2:
        return {}
    numbers = np.array([row["structures"] for row in rows])
    found = {}
    for name in sorted(set.intersection(*(set(row) for row in rows)) - {"structures"}):
        values = np.array([row[name] for row in rows])
        slope, intercept = np.polyfit(numbers, values, 1)
        apart = np.abs(values - intercept - slope * numbers) / np.maximum(np.abs(values), 1e-12)
        worst = float(apart.max())
        found[name] = {"intercept": float(intercept), "slope": float(slope), "deviation": worst}
    return found


def flat(content: dict[str, Any], name: str = "") -> dict[str, float]:
    """Return the numbers of nested dictionaries by the names on the way: stages.RELAX.tasks."""
    found: dict[str, float] = {}
    for key, value in content.items():
        whole = f"{name}.{key}" if name else key
        found |= flat(value, whole) if isinstance(value, dict) else {whole: float(value)}
    return found


if __name__ == "__main__":
    run_command(main)
