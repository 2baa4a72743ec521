#!/usr/bin/env python3
"""RELAX: keep the best proposals, relax their sites in the fixed host, then all positions.

With --mlip_rank a second potential relaxes on from there and has the last word.
"""

import argparse
import time
from dataclasses import asdict, fields, replace
from pathlib import Path

from xtalfill.core.errors import run_command


def parser() -> argparse.ArgumentParser:
    """Return the command's parser."""
    top = argparse.ArgumentParser(description=__doc__)
    top.add_argument("--batch", type=Path, required=True, help="batch with a stage inpaint")
    top.add_argument(
        "--keep", type=int, required=True, help="proposals of a structure and method to relax"
    )
    top.add_argument("--mlip", required=True, help="potential: a name or a nequip model file")
    top.add_argument("--mlip_rank", help="potential that relaxes on and ranks")
    top.add_argument("--sites_fmax", type=float, required=True, help="relax_sites, eV/Å")
    top.add_argument("--sites_max_steps", type=int, required=True)
    top.add_argument("--fmax", type=float, required=True, help="later relaxations, eV/Å")
    top.add_argument("--max_steps", type=int, required=True)
    top.add_argument("--merge", action="store_true", help="relax each minimum on once")
    top.add_argument("--drop_above", type=float, help="eV/atom above the best one: not relaxed on")
    top.add_argument("--max_atoms_per_batch", type=int, required=True)
    top.add_argument("--device", choices=("cpu", "cuda"), required=True)
    top.add_argument("--threads", type=int, required=True, help="CPU threads")
    top.add_argument("--max_seconds", type=float, help="until the task is killed")
    top.add_argument("--previous", type=Path, help="checkpoint to go on from, if it is there")
    top.add_argument("--checkpoint", type=Path, required=True, help="folder for the checkpoint")
    top.add_argument("--output", type=Path, required=True, help="batch to write")
    top.add_argument("--record", type=Path, required=True, help="JSON record to write")
    return top


def main() -> None:
    """Read a batch, relax it, write it."""
    args = parser().parse_args()
    begin = time.monotonic()

    import torch

    from xtalfill.core.batch import read_batch, write_batch
    from xtalfill.core.checkpoint import Checkpoint
    from xtalfill.core.record import count_statuses, write_record
    from xtalfill.relax.potentials import load_potential
    from xtalfill.relax.relax_checkpoint import key_of
    from xtalfill.relax.screen import screen_batch
    from xtalfill.relax.stage import RelaxSettings, make_driver, relax_batch

    torch.set_num_threads(1)  # each group of crystals has one of --threads to itself
    settings = RelaxSettings(
        **{field.name: getattr(args, field.name) for field in fields(RelaxSettings)}
    )
    if args.device == "cuda":
        settings = replace(settings, threads=1)
    batch = read_batch(args.batch)
    potential = load_potential(args.mlip, device=args.device)
    ranking = load_potential(args.mlip_rank, device=args.device) if args.mlip_rank else None
    batch = screen_batch(batch, potential, make_driver(potential, settings), keep=args.keep)
    checkpoint = Checkpoint(
        args.checkpoint,
        key=key_of(batch, args.batch.name),
        previous=args.previous,
        seconds=args.max_seconds,
        begin=begin,
    )
    checkpoint.handle_sigterm()
    relax_batch(
        batch, potential, settings, ranking=ranking, device=args.device, checkpoint=checkpoint
    )
    write_batch(batch, args.output)
    checkpoint.remove()
    write_record(
        args.record,
        stage="relax",
        batch=args.batch.name,
        seconds=time.monotonic() - begin,
        parameters={
            "mlip": args.mlip,
            "mlip_rank": args.mlip_rank,
            "device": args.device,
            "keep": args.keep,
            **asdict(settings),
        },
        counts=count_statuses(batch.status),
        weights={**potential.weights, **(ranking.weights if ranking else {})},
    )


if __name__ == "__main__":
    run_command(main)
