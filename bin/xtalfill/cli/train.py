"""`xtalfill train`: train a score model."""

from __future__ import annotations

import argparse
import logging
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

from xtalfill.core.files import GEMNET_SCALES

if TYPE_CHECKING:
    from xtalfill.training.crystal import CrystalObjective
    from xtalfill.training.data import CrystalSet
    from xtalfill.training.host import HostObjective


def add_arguments(train: argparse.ArgumentParser) -> None:
    """Add the arguments of the command `train`, which is also the stage TRAIN."""
    train.add_argument("--method", choices=("host", "td", "pos"), default="host")
    train.add_argument("--data", type=Path, nargs="+", required=True, help="training HDF5 files")
    train.add_argument(
        "--exclude", type=Path, help="CSV of material ids to exclude, e.g. those of a benchmark"
    )
    train.add_argument(
        "--hold_out", type=Path, help="CSV of additional chemical systems to hold out"
    )
    train.add_argument(
        "--folder", type=Path, required=True, help="output folder: checkpoint, log and weights"
    )
    train.add_argument("--steps", type=int, required=True, help="total number of optimiser steps")
    train.add_argument("--start", type=Path, help="initial weights of a new run")
    train.add_argument("--seed", type=int, default=42, help="seed of the run")
    train.add_argument("--learning_rate", type=float, default=1e-3, help="peak learning rate")
    train.add_argument("--threads", type=int, default=2, help="micro-batches and threads of a step")
    train.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    train.add_argument("--mixed_precision", action="store_true", help="use bfloat16 autocast")
    size = train.add_mutually_exclusive_group()
    size.add_argument("--crystals", type=int, default=8, help="crystals in a micro-batch")
    size.add_argument(
        "--atoms", type=int, help="size of a micro-batch in atoms instead (host: host sites and "
        "noised sites); limits the memory of a step"
    )  # fmt: skip
    train.add_argument(
        "--draw_processes", type=int, default=0, help="data processes; 0 for a thread. The "
        "result does not depend on it"
    )  # fmt: skip
    train.add_argument("--validate_every", type=int, default=1000, help="steps between validations")
    train.add_argument("--max_seconds", type=float, help="time limit of the task")
    train.add_argument("--width", type=int, default=96, help="channels of the network")
    host = train.add_argument_group("method host")
    host.add_argument("--host_layers", type=int, default=3, help="layers of the host encoder")
    host.add_argument("--site_layers", type=int, default=5, help="layers of the site denoiser")
    host.add_argument("--dropout", type=float, default=0.0)
    host.add_argument("--answers", type=int, default=2, help="host feedback layers")
    crystal = train.add_argument_group("methods td and pos (GemNet)")
    crystal.add_argument("--blocks", type=int, default=3, help="interaction blocks")
    crystal.add_argument("--max_neighbors", type=int, default=16, help="edges that end on a site")
    crystal.add_argument("--cutoff", type=float, default=6.0, help="longest edge, Angstrom")
    crystal.add_argument(
        "--scale_file", type=Path, default=GEMNET_SCALES, help="scale factors of GemNet"
    )


def run(args: argparse.Namespace) -> None:
    """Train a score model."""
    begin = time.monotonic()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    # A notebook hands its backend to the commands it runs; where that is missing, matplotlib fails.
    os.environ.pop("MPLBACKEND", None)

    import torch

    from xtalfill.core.checkpoint import Checkpoint
    from xtalfill.core.record import file_sha256
    from xtalfill.training.loop import TrainingConfig, train
    from xtalfill.training.plot import plot_log

    torch.set_num_threads(1)  # parallel over the micro-batches of a step
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
    # in the output folder, not in the task folder: a later run with more steps resumes from it
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
