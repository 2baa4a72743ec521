"""`xtalfill train`: train a score model."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from xtalfill.cli.parser import Commands
    from xtalfill.training.crystal import CrystalObjective
    from xtalfill.training.data import CrystalSet
    from xtalfill.training.host import HostObjective

# beside the package in a checkout
_SCALE_FILE = Path(__file__).resolve().parents[3] / "assets" / "gemnet-dT.json"


def add_parser(commands: Commands) -> None:
    """Add the command `train`."""
    train = commands.add_parser(
        "train", help="train a score model", formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    train.add_argument("--method", choices=("host", "td", "pos"), default="host")
    train.add_argument("--data", type=Path, nargs="+", required=True, help="training HDF5 files")
    train.add_argument(
        "--exclude", type=Path, help="CSV of material ids that are left out (of a benchmark, say)"
    )
    train.add_argument(
        "--hold_out", type=Path, help="CSV of chemical systems held out beside the files' own"
    )
    train.add_argument("--folder", type=Path, required=True, help="checkpoints, log and weights")
    train.add_argument("--steps", type=int, required=True, help="optimiser steps of the whole run")
    train.add_argument("--start", type=Path, help="weights to begin a new run with")
    train.add_argument("--seed", type=int, default=42, help="of everything random")
    train.add_argument("--learning_rate", type=float, default=1e-3, help="its peak")
    train.add_argument("--threads", type=int, default=2, help="parts of a step, one thread each")
    train.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    train.add_argument("--mixed_precision", action="store_true", help="bfloat16 where it is safe")
    size = train.add_mutually_exclusive_group()
    size.add_argument("--crystals", type=int, default=8, help="crystals in a part of a step")
    size.add_argument(
        "--atoms", type=int, help="fill a part with crystals until they have so many atoms instead"
        " (host: sites of hosts and noised sites), which bounds the memory of a step"
    )  # fmt: skip
    train.add_argument(
        "--draw_processes", type=int, default=0, help="that draw parts; 0 for a thread. The "
        "result does not depend on it"
    )  # fmt: skip
    train.add_argument("--validate_every", type=int, default=1000, help="steps")
    train.add_argument("--max_seconds", type=float, help="until the task is killed")
    train.add_argument("--width", type=int, default=96, help="channels of the network")
    host = train.add_argument_group("method host")
    host.add_argument("--host_layers", type=int, default=3, help="layers of the host encoder")
    host.add_argument("--site_layers", type=int, default=5, help="layers of the site denoiser")
    host.add_argument("--dropout", type=float, default=0.0)
    host.add_argument("--answers", type=int, default=2, help="of host sites to the moving ones")
    crystal = train.add_argument_group("methods td and pos (GemNet)")
    crystal.add_argument("--blocks", type=int, default=3, help="interaction blocks")
    crystal.add_argument("--max_neighbors", type=int, default=16, help="edges that end on a site")
    crystal.add_argument("--cutoff", type=float, default=6.0, help="longest edge, Angstrom")
    crystal.add_argument("--scale_file", type=Path, default=_SCALE_FILE, help="of GemNet")


def run(args: argparse.Namespace) -> None:
    """Train a score model."""
    begin = time.monotonic()

    import torch

    from xtalfill.core.checkpoint import Checkpoint
    from xtalfill.core.record import file_sha256
    from xtalfill.training.loop import TrainingConfig, train
    from xtalfill.training.plot import plot_log

    torch.set_num_threads(1)  # the parts of a step are the threads
    config = TrainingConfig(
        steps=args.steps,
        parts=args.threads,
        learning_rate=args.learning_rate,
        validate_every=args.validate_every,
        seed=args.seed,
        device=args.device,
        mixed_precision=args.mixed_precision,
        draw_processes=args.draw_processes,
    )
    lists = {"exclude": args.exclude, "hold_out": args.hold_out}
    source = {
        "data": {
            path.name: file_sha256(path) for path in [*args.data, args.start] if path is not None
        }
    } | {name: {path.name: file_sha256(path)} for name, path in lists.items() if path is not None}
    objective = _host_objective(args) if args.method == "host" else _crystal_objective(args)
    # in the folder, not where the task runs: a later run with more steps goes on from it, too
    checkpoint = Checkpoint(
        args.folder, key="training", previous=args.folder, seconds=args.max_seconds, begin=begin
    )
    checkpoint.handle_sigterm()
    train(
        objective,
        config,
        args.folder,
        source=source,
        start=args.start,
        checkpoint=checkpoint,
    )
    plot_log(args.folder / "log.csv", args.folder / "loss.png")


def _host_objective(args: argparse.Namespace) -> HostObjective:
    from xtalfill.models.hostnet import HostNetConfig
    from xtalfill.training.host import HostObjective, HostTasks
    from xtalfill.training.objective import MicroBatchSize

    model = HostNetConfig(
        width=args.width,
        host_layers=args.host_layers,
        site_layers=args.site_layers,
        dropout=args.dropout,
        answers=args.answers,
    )
    size = MicroBatchSize(crystals=args.crystals, atoms=args.atoms)
    return HostObjective(_crystals(args), HostTasks(size=size), model, seed=args.seed)


def _crystals(args: argparse.Namespace) -> CrystalSet:
    from xtalfill.training.data import CrystalSet
    from xtalfill.training.split import read_split

    return CrystalSet(args.data, split=read_split(exclude=args.exclude, hold_out=args.hold_out))


def _crystal_objective(args: argparse.Namespace) -> CrystalObjective:
    from xtalfill.models.gemnet import GemNetConfig
    from xtalfill.training.crystal import CrystalObjective, CrystalTasks
    from xtalfill.training.objective import MicroBatchSize

    model = GemNetConfig(
        hidden_dim=args.width,
        emb_size_edge=args.width,
        emb_size_trip=max(16, args.width // 2),
        emb_size_bil_trip=max(16, args.width // 2),
        num_radial=64,
        num_blocks=args.blocks,
        max_neighbors=args.max_neighbors,
        cutoff=args.cutoff,
        per_site_times=args.method == "td",
    )
    return CrystalObjective(
        _crystals(args),
        CrystalTasks(size=MicroBatchSize(crystals=args.crystals, atoms=args.atoms)),
        model,
        method=args.method,
        scale_file=args.scale_file,
        seed=args.seed,
    )
